"""How fast training is, and what a step spends its time on."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch

from builder.errors import Fault, nearest
from builder.training.loop_rule import without_outputs
from builder.training.norms import is_logged, log
from builder.training.placed import PlacedCallback

PARTS = ("data", "forward", "backward", "optimizer")
"""The parts of a step, in their order: waiting for the batch, model and loss, gradients, and what comes after them."""


class Timing(PlacedCallback):
    """Logs each epoch's `time/samples_per_s` and `time/step`, and seconds a step by part: `time/data`, `time/forward`,
    `time/backward`, `time/optimizer`.

    `tokens` names a tensor of the batch whose elements are counted as `time/tokens_per_s`. The parts are measured in
    the steps whose losses are logged; on a GPU these wait for it, and others don't. Validation isn't counted.
    """

    def __init__(self, tokens: str | None = None) -> None:
        super().__init__()
        self.tokens = tokens
        self._begin()

    def _begin(self) -> None:
        self._seconds, self._steps, self._samples, self._elements = 0.0, 0, 0, 0
        self._parts = dict.fromkeys(PARTS, 0.0)
        self._measured = 0
        self._marks: list[float] | None = None
        self._last = time.perf_counter()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """See that a batch has the tensor whose elements are counted."""
        names = tuple(trainer.datamodule.data.facts.tensors)  # type: ignore[attr-defined]
        if self.tokens is not None and self.tokens not in names:
            raise self.refuse("tokens", _no_tensor(self.tokens, names))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Begin to count."""
        self._begin()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The batch is there."""
        if is_logged(trainer, batch_idx):
            self._marks = [self._last, self._now(pl_module)]

    def on_before_backward(self, trainer: pl.Trainer, pl_module: Any, loss: Any) -> None:
        """The loss is there."""
        self._mark(pl_module)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The gradients are there."""
        self._mark(pl_module)

    @without_outputs
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:  # fmt: skip
        """The step is done."""
        self._mark(pl_module)
        if self._marks is not None and len(self._marks) == len(PARTS) + 1:
            for part, start, end in zip(PARTS, self._marks, self._marks[1:], strict=False):
                self._parts[part] += end - start
            self._measured += 1
        self._marks = None
        self._steps += 1
        self._samples += len(next(iter(batch.values())))
        self._elements += 0 if self.tokens is None else batch[self.tokens].numel()
        now = time.perf_counter()
        self._seconds += now - self._last
        self._last = now

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Count nothing until it has ended; the last steps on a GPU are waited for first."""
        now = self._now(pl_module)
        self._seconds += now - self._last
        self._last = now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Count again."""
        self._last = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log."""
        self._seconds += self._now(pl_module) - self._last
        if not self._steps or not self._seconds:
            return
        processes = trainer.world_size
        values = {
            "time/samples_per_s": processes * self._samples / self._seconds,
            "time/step": self._seconds / self._steps,
        }
        if self.tokens is not None:
            values["time/tokens_per_s"] = processes * self._elements / self._seconds
        if self._measured:
            values |= {f"time/{part}": seconds / self._measured for part, seconds in self._parts.items()}
        log(trainer, values, trainer.global_step - 1)  # as the epoch's losses

    def _mark(self, pl_module: Any) -> None:
        if self._marks is not None:
            self._marks.append(self._now(pl_module))

    def _now(self, pl_module: Any) -> float:
        """The time, once the device has done what it was given."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        return time.perf_counter()


def _no_tensor(name: str, names: tuple[str, ...]) -> Fault:
    expected = f"one of the batch's tensors: {', '.join(names)}"
    return Fault(f"a batch has no tensor {name!r}", expected=expected, nearest=nearest(name, names))
