"""How cost grows with the number of layers."""

from __future__ import annotations

import gc
import io
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path

from measure import Effort, Row

from builder import build
from builder.check import check
from builder.config.compose import compose
from builder.config.model_file import ModelFile
from builder.inspect.table import lines
from builder.preview import describe_model

TITLE = "the exponent with which time grows from 1,000 to 10,000 layers / 1"
SIZES = (10, 100, 1_000, 10_000)


def rows(effort: Effort) -> Iterator[Row]:
    """Building, inferring, showing and checking, for a model that lists its layers and for one that repeats one."""
    sizes = SIZES if effort.full else (2, 4, 8, 16)
    for form in (listed, repeated):
        for what, call in (("build", build), ("infer", _inferred), ("show", _shown), ("check", _checked)):
            taken = [_seconds(call, form(size), 3.0 if effort.full else 0.0) for size in sizes]
            per_layer = ", ".join(f"{1e6 * each / size:.0f}" for each, size in zip(taken, sizes, strict=True))
            exponent = math.log(taken[-1] / taken[-2]) / math.log(sizes[-1] / sizes[-2])
            yield Row(f"{form.__name__}, {what}: {per_layer} µs a layer", 1.1, (exponent,), (1.0,), unit="")


def listed(layers: int) -> str:
    """A model that writes out each of its layers, of which no two neighbours are of one size."""
    body = "".join(f"  l{i}: {{type: Linear, out_features: {8 + i % 2}}}\n" for i in range(layers - 1))
    return f"inputs: {{x: [B, 8]}}\nlayers:\n{body}  out: {{type: Linear, out_features: 10}}\n"


def repeated(layers: int) -> str:
    """A model that repeats one layer."""
    body = f"  body: {{type: Sequential, repeat: {layers - 1}, layer: {{type: Linear, out_features: 8}}}}\n"
    return f"inputs: {{x: [B, 8]}}\nlayers:\n{body}  out: {{type: Linear, out_features: 10}}\n"


def _seconds(call: Callable[[Path], object], text: str, least: float) -> float:
    """The shortest of some calls that take so many seconds together, without the garbage collector."""
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        path = Path(folder) / "model" / "deep.yaml"
        path.parent.mkdir()
        path.write_text(text)
        taken: list[float] = []
        while not taken or (len(taken) < 5 and sum(taken) < least):
            gc.collect()
            gc.disable()
            start = time.process_time()
            call(path)
            taken.append(time.process_time() - start)
            gc.enable()
    return min(taken)


def _inferred(path: Path) -> object:
    return build(path, device="meta")


def _shown(path: Path) -> object:
    return list(lines(describe_model(ModelFile(path, ())), None, 120))


def _checked(path: Path) -> object:
    data = ("data=synthetic", "data.shape=[8]", "data.num_classes=10", "data.num_samples=64")
    return check(compose(["model=deep", "task=classification", "trainer=cpu", *data], config_dir=path.parents[1]))
