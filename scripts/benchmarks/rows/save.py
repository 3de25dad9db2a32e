"""A checkpoint that a run goes on from, with optimiser state: until training goes on, against `torch.save`."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from by_hand import Gpt
from measure import Effort, Row, keep_memory

from builder.training import positions
from builder.training.background import BackgroundWriter

TITLE = "a checkpoint to go on from, until training goes on / torch.save of the same dict (seconds of the clock)"
LARGE = {"vocab": 8000, "context": 64, "width": 512, "depth": 8, "heads": 8}
"""Of 33 million parameters: 400 MB with AdamW's state."""
SMALL = {"vocab": 50, "context": 16, "width": 16, "depth": 2, "heads": 2}
PAIRS = 9
PEAK = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from save import BackgroundWriter, checkpoint, peak, positions, size
value, path = checkpoint({args!r}), Path({path!r})
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = peak()
{call}
print((peak() - before) / 1024, size(value) / 2**20)
"""
CALLS = {
    "at once": "positions.save(value, path)",
    "in the background": "writer = BackgroundWriter(); "
    "writer.begin(value, lambda copied: positions.save(copied, path)); writer.wait()",
}


def rows(effort: Effort) -> Iterator[Row]:
    """On the disk with all that is written durable, in the background, and the memory that it takes."""
    keep_memory()
    args = LARGE if effort.full else SMALL
    value = checkpoint(args)
    pairs = min(effort.pairs, PAIRS)
    with tempfile.TemporaryDirectory(dir=os.environ.get("SAVE_FOLDER")) as folder:
        theirs = lambda: torch.save(value, Path(folder) / "theirs.ckpt")  # noqa: E731
        ours = lambda: positions.save(value, Path(folder) / "000000000001.ckpt")  # noqa: E731
        yield _compared("durable", 1.1, ours, theirs, pairs)
        yield _compared("durable, theirs synced too", 1.1, ours, lambda: _synced(theirs, folder), pairs)
        writer = BackgroundWriter()
        begin = lambda: writer.begin(value, lambda copied: positions.save(copied, Path(folder) / "000000000001.ckpt"))  # noqa: E731
        yield _compared("in the background", 0.2, begin, theirs, pairs, after=writer.wait)
        for what, bound in (("at once", 0.1), ("in the background", 1.1)):
            yield _peak(what, bound, args, folder, 3 if effort.full else 1)


def checkpoint(args: dict[str, int]) -> dict[str, Any]:
    """What a training of some steps would save: weights and the state of AdamW."""
    torch.manual_seed(0)
    model = Gpt(**args)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    gc.collect()
    return {"state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()], "epoch": 1}


def _synced(save: Callable[[], object], folder: str) -> None:
    save()
    with open(Path(folder) / "theirs.ckpt", "rb") as file:
        os.fsync(file.fileno())


def _compared(
    what: str,
    bound: float,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    pairs: int,
    after: Callable[[], object] = lambda: None,
) -> Row:
    """Both by turns, on the clock, each with a disk that has nothing else to write."""
    times: dict[Callable[[], object], list[float]] = {ours: [], theirs: []}
    ours(), after(), theirs()
    for index in range(pairs):
        for side in (ours, theirs) if index % 2 else (theirs, ours):
            os.sync()
            start = time.perf_counter()
            side()
            times[side].append(time.perf_counter() - start)
            after()
    return Row(what, bound, tuple(times[ours]), tuple(times[theirs]))


def peak() -> int:
    """The most memory of its own that this process has taken so far, in kB; where Linux tells it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def size(value: Any) -> int:
    """Bytes of all tensors in nested values."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(size, items))


def _peak(what: str, bound: float, args: dict[str, int], folder: str, count: int) -> Row:
    """What the peak of the memory of a process grows by, beside the tensors of the dict."""
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), *sys.path]
    path = str(Path(folder) / "000000000002.ckpt")
    code = PEAK.format(paths=paths, args=args, path=path, call=CALLS[what])
    pairs = [_grown(code) for _ in range(count)]
    return Row(f"memory that it takes beside the dict's, {what}", bound, *zip(*pairs, strict=True), unit="MB")


def _grown(code: str) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, held = done.stdout.split()
    return max(float(grown), 1e-3), float(held)
