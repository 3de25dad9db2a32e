"""How training shows that it goes on: a bar on a terminal, a line per epoch elsewhere; both on standard error."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from builder.training.loop_rule import without_outputs


class ProgressBar(Callback):
    """A bar over all of training with the time left and the latest metrics; `refresh` is in seconds.

    Where standard error isn't a terminal, each epoch gives one line instead. A step costs one look at the clock: the
    bar is drawn between two steps, at most once in `refresh` seconds, as a drawing takes about two milliseconds.
    """

    def __init__(self, refresh: float = 0.5) -> None:
        self.refresh = refresh
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._done = 0
        self._next = 0.0
        self._epoch: tuple[int, float] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar, if there is a terminal."""
        self._done, self._next, self._epoch = trainer.global_step, 0.0, None
        if not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=self._console,
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=_total(trainer), epoch=_epoch(trainer), metrics="")
        self._bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell of the epoch that has just ended; only now are all of its metrics known."""
        self._tell(trainer)
        self._epoch = (trainer.current_epoch, time.monotonic())

    @without_outputs
    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Move the bar, if the last move was `refresh` seconds ago."""
        self._done += 1
        if self._bar is not None and time.monotonic() >= self._next:
            self._move(self._bar)

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Let the bar's clock go on, in the same way."""
        if self._bar is not None and time.monotonic() >= self._next:
            self._move(self._bar)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell of the last epoch, and leave the bar as it is."""
        self._tell(trainer)
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._stop()

    def _move(self, bar: Progress) -> None:
        self._next = time.monotonic() + self.refresh
        bar.update(self._task, completed=self._done, refresh=True)

    def _stop(self) -> None:
        if self._bar is not None:
            self._move(self._bar)
            self._bar.stop()
            self._bar = None

    def _tell(self, trainer: pl.Trainer) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, epoch=_epoch(trainer), metrics=_metrics(trainer))
        elif self._epoch is not None:
            index, start = self._epoch
            line = f"epoch {_epoch(trainer, index)}  {_metrics(trainer)}  {time.monotonic() - start:.1f} s"
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)


def _total(trainer: pl.Trainer) -> float | None:
    """Batches in all of training; None if it isn't known."""
    if trainer.max_epochs is None or trainer.max_epochs < 0:
        return None
    total = trainer.num_training_batches * trainer.max_epochs
    return None if total == float("inf") else total


def _epoch(trainer: pl.Trainer, index: int | None = None) -> str:
    """The epoch as people count, of how many: `3/10`."""
    last = trainer.max_epochs
    number = (trainer.current_epoch if index is None else index) + 1
    return f"{min(number, last)}/{last}" if last is not None and last > 0 else str(number)


def _metrics(trainer: pl.Trainer) -> str:
    values = sorted((name, value) for name, value in trainer.callback_metrics.items() if "/" in name)
    return "  ".join(f"{name} {float(value):.4g}" for name, value in values)
