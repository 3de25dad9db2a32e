"""`builder.load` of a run against building by hand, `torch.load` and `load_state_dict`, optimiser state in the file."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from by_hand import Gpt
from measure import Effort, Row, compare

from builder import load
from builder.cli.main import main

TITLE = "builder.load(run) / the constructors by hand, torch.load and load_state_dict"
LARGE = {"vocab": 20000, "context": 64, "width": 768, "depth": 12, "heads": 12}
"""Of 100 million parameters."""
SMALL = {"vocab": 50, "context": 16, "width": 16, "depth": 2, "heads": 2}
PEAK = """
import sys
sys.path.insert(0, {here!r})
from load import by_hand, load, peak
path, args = {run!r}, {args!r}
before = peak()
{call}
print(peak() - before)
"""


def rows(effort: Effort) -> Iterator[Row]:
    """Until it is ready, until every weight was read once, and the most memory that either takes."""
    args = LARGE if effort.full else SMALL
    with tempfile.TemporaryDirectory() as folder:
        run = _trained(Path(folder), args)
        count = sum(parameter.numel() for parameter in load(run).model.parameters())
        what = f"GPT of {count / 1e6:.0f} million parameters, " if effort.full else "small GPT, "
        theirs = lambda: by_hand(run, args)  # noqa: E731
        pairs = 5
        yield compare(what + "ready", lambda: load(run), theirs, bound=0.05, effort=effort, control=True, pairs=pairs)
        yield compare(
            what + "every weight read", lambda: read(load(run).model), theirs, bound=0.1, effort=effort, pairs=pairs
        )
        yield _peak(what + "peak memory", run, args, effort)


def _trained(folder: Path, args: dict[str, int]) -> Path:
    """A run of one step: its weights are as large as any's."""
    words = [f"model.args.{name}={value}" for name, value in args.items()]
    data = [
        "data=synthetic",
        "data.num_samples=8",
        f"data.shape=[{args['context']}]",
        f"data.vocab_size={args['vocab']}",
    ]
    short = [
        "trainer=cpu",
        "trainer.max_steps=1",
        "data.batch_size=1",
        "trainer.limit_val_batches=0",
        "trainer.limit_test_batches=0",
    ]
    kept = ["~callbacks.best", "~callbacks.progress", "name=load"]
    out = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out):
        code = main(["train", "-q", "model=gpt", "task=language_model", *words, *data, *short, *kept])
    assert code == 0, out.getvalue()
    return folder / out.getvalue().splitlines()[-1]


def by_hand(run: Path | str, args: dict[str, int]) -> Any:
    """The model as plain PyTorch loads it."""
    model = Gpt(**args)
    saved = torch.load(Path(run) / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    model.load_state_dict({name.removeprefix("model."): value for name, value in saved.items()})
    return model.eval()


def read(model: Any) -> float:
    """Read every weight once."""
    return sum(float(parameter.detach().view(-1).sum()) for parameter in model.parameters())


def peak() -> int:
    """The most memory that this process has taken so far, in kB; where Linux tells it, mapped files included."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def _peak(what: str, run: Path, args: dict[str, int], effort: Effort) -> Row:
    """What the peak of the memory of a process that does nothing else grows by, every weight read."""
    calls = ("read = sum(float(p.detach().sum()) for p in load(path).model.parameters())", "by_hand(path, args)")
    ours, theirs = ([_grown(call, run, args) for _ in range(3 if effort.full else 1)] for call in calls)
    return Row(what, 0.3, tuple(ours), tuple(theirs), unit="MB")


def _grown(call: str, run: Path, args: dict[str, int]) -> float:
    here = Path(__file__).parent
    code = PEAK.format(here=str(here), run=str(run), args=args, call=call)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return max(float(done.stdout) / 1024, 1e-3)
