"""Where the time of training steps goes, operator by operator, by PyTorch's profiler."""

from __future__ import annotations

from pathlib import Path as Folder
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from torch.profiler import ProfilerActivity, profile

from builder.training.loop_rule import without_outputs

FOLDER = "profile"
"""Of the run folder: where profiles are written."""

LIGHTNINGS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


def profiler(name: str, run_dir: Folder) -> Any:
    """Lightning's profiler of a name, which writes into the run folder; the name itself where it writes no file."""
    return LIGHTNINGS[name](run_dir / FOLDER, name) if name in LIGHTNINGS else name


class Profile(Callback):
    """Profiles `steps` training steps after `wait` others, and writes `profile/operators.txt` and `profile/trace.json`.

    The first is a table of operators by their time, the second for chrome://tracing or Perfetto. Other steps cost
    nothing.
    """

    FOLDER = "profile"

    def __init__(self, steps: int = 5, wait: int = 5, dirpath: str = "profile") -> None:
        super().__init__()
        if steps < 1 or wait < 0:
            raise ValueError("steps has to be 1 or more, and wait 0 or more")
        self.steps, self.wait, self.folder = steps, wait, Folder(dirpath)
        self._profiler: Any = None
        self._first = 0
        self._done = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Count from here."""
        self._first = trainer.fit_loop.total_batch_idx + 1 + self.wait

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begin, if it is time."""
        if self._profiler is None and not self._done and trainer.fit_loop.total_batch_idx >= self._first:
            gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self._profiler = profile(activities=[ProfilerActivity.CPU, *gpu], record_shapes=True)
            self._profiler.start()

    @without_outputs
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:  # fmt: skip
        """End and write, after enough steps."""
        if self._profiler is not None and trainer.fit_loop.total_batch_idx + 1 >= self._first + self.steps:
            self._write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """End and write, where training had fewer steps."""
        if self._profiler is not None:
            self._write(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """End."""
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None

    def _write(self, trainer: pl.Trainer) -> None:
        profiler, self._profiler, self._done = self._profiler, None, True
        profiler.stop()
        if not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by=order, row_limit=50)
        (self.folder / "operators.txt").write_text(table, encoding="utf-8")
        profiler.export_chrome_trace(str(self.folder / "trace.json"))
