"""Exact resume: a run that goes on from a checkpoint ends with the bits of one that was never stopped.

There is one place in training where checkpoints are written to go on from, and where a run does go on: before the next
batch begins, with whole optimiser steps behind it and all that belongs to the batch before it done (its validation, the
end of its epoch). And once more, where training ends. A process that is asked to stop while it validates writes one
with which that validation begins again. Nothing that was drawn is saved; see `randomness.py`.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping
from pathlib import Path as Folder
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, WeightAveraging

from builder.errors import RunError
from builder.training import positions
from builder.training.background import BackgroundWriter
from builder.training.base_rates import put_base_rates
from builder.training.checkpoint import POSITION, WRITER
from builder.training.fingerprint import Context, fingerprint
from builder.training.finite import check_parameters
from builder.training.loggers import positions_of
from builder.training.loop_state import (
    check_lightning,
    checkpoints_kept,
    counters,
    ignore_sigterm,
    logged,
    loop_flags,
    model_checkpoints,
    put_checkpoints_kept,
    put_counters,
    put_first_of_loop,
    put_logged,
    put_shown,
    restart_validation,
)
from builder.training.metric_log import MetricLog
from builder.training.moved import forget_later_files, moved
from builder.training.ranks import anywhere, from_all
from builder.training.signals import Stop, Stopped

BATCH, VALIDATION, END = "batch", "validation", "end"
"""Where a checkpoint is written: before a batch, in a validation (nothing of it is kept), where training ends."""
AGREE = 8
"""Several processes ask each other every so many batches whether one of them was asked to stop."""


class ExactResume(Callback):
    """Writes the checkpoints that `builder resume` goes on from, into `checkpoints/resume`, and goes on from them.

    One is written after each `every_n_epochs` epochs, each `every_n_steps` optimiser steps, or when `every_seconds`
    have passed, whichever comes first; null for never. One more is written when training ends, and when the process is
    asked to stop. The newest `keep` stay; `checkpoints/last.ckpt` is the newest of all. With `background` a thread
    writes them from a copy in memory, while training goes on.

    A loop that doesn't call callbacks' hooks has to call `on_train_batch_start` before each batch, before all others.
    """

    def __init__(
        self,
        every_n_epochs: int | None = 1,
        every_n_steps: int | None = None,
        every_seconds: float | None = None,
        keep: int = 2,
        background: bool = False,
        dirpath: str | pathlib.Path = "checkpoints",
    ) -> None:
        super().__init__()
        if any(every is not None and every <= 0 for every in (every_n_epochs, every_n_steps, every_seconds)):
            raise ValueError("every_n_epochs, every_n_steps and every_seconds have to be above 0, or null")
        if keep < 2:
            raise ValueError("keep has to be 2 or more: where the newest is damaged, the one before it is taken")
        self.every_n_epochs, self.every_n_steps, self.every_seconds = every_n_epochs, every_n_steps, every_seconds
        self.keep, self.dirpath = keep, Folder(dirpath)
        self._writer = BackgroundWriter() if background else None
        self.stop, self.context = Stop(), Context()
        self.metric_log: MetricLog | None = None
        self.loggers: Mapping[str, Any] = {}
        self.last: pathlib.Path | None = None
        self._from: Mapping[str, Any] | None = None
        self._at: str | None = None
        self._due, self._someone_keeps_last = False, False
        self._loop_before_validation: dict[str, Any] = {}
        self._saved_step, self._saved_at = 0, time.monotonic()
        self._alone, self.writes = True, True
        self._idle = False
        """Whether nothing but the end of an epoch and a signal makes one due."""

    @property
    def folder(self) -> pathlib.Path:
        """Where the checkpoints lie."""
        return self.dirpath / positions.FOLDER

    # ------------------------------------------------------------------------------------------- where training begins

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """See whether this Lightning is one that we know."""
        check_lightning()
        self._alone = trainer.world_size == 1
        self._idle = self._alone and self.every_n_steps is None and self.every_seconds is None
        self.writes = self.writes and not trainer.fast_dev_run  # type: ignore[attr-defined]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Have the data begin where the run goes on, and callbacks find their files."""
        state = positions.taken_out(checkpoint) if trainer.state.fn == "fit" else None
        if state is None:
            return
        before, now = state["folder"], str(self.dirpath.resolve())
        if before != now:  # callbacks find their checkpoints where the run's folder is now
            checkpoint["callbacks"], state = (moved(each, before, now) for each in (checkpoint["callbacks"], state))
        position = (state["epoch"], 0 if state["at"] == END else state["batch"])
        trainer.datamodule.set_position(*position)  # type: ignore[attr-defined]
        self._from, self._saved_step = state, checkpoint["global_step"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have the latest metrics at hand again, for a run in which nothing is left to train."""
        if self._from is not None:
            put_shown(trainer, self._from["ranks"][trainer.global_rank]["logged"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle signals, which Lightning does meanwhile; go on, where training had ended and more is wanted."""
        self.stop.take_over()
        ignore_sigterm(trainer)
        self._saved_at = time.monotonic()
        known = None if self._from is None else self._from["files"]
        for callback in model_checkpoints(trainer):
            forget_later_files(callback, known)
        if self._from is None:
            return
        put_base_rates(trainer, self._from["first_rates"], pl_module.first_rates)  # type: ignore[arg-type]
        put_checkpoints_kept(trainer, self._from["checkpoints"])
        trainer.accumulate_grad_batches = self._from["counters"]["accumulate_grad_batches"]
        if self._from["at"] == END:
            self._put_back(trainer, pl_module)
        elif self._from["at"] == VALIDATION:
            put_first_of_loop(trainer, self._from["ranks"][trainer.global_rank]["logged"])
        else:
            trainer.should_stop = self._from["counters"]["should_stop"]

    # -------------------------------------------------------------------------------------------------- the save point

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The save point: go on from a checkpoint, write one if it is time, end if the process was asked to.

        Raises:
            Stopped: it was.
            RunError: a checkpoint can't be written; or, in the background, the last one couldn't.
        """
        if self._from is not None:
            self._put_back(trainer, pl_module)
        if batch_idx % trainer.accumulate_grad_batches:
            return
        if self._writer is not None:
            self._writer.check()
        if self._idle and not self._due and self.stop.signum is None:  # as before most steps
            return
        step = trainer.global_step
        due = self._due or (self.every_n_steps is not None and not step % self.every_n_steps)
        late, stopping = self._late(), self.stop.signum is not None
        if not self._alone and (due or not batch_idx % AGREE):
            late, stopping = anywhere(trainer, late), anywhere(trainer, stopping)
        elif not self._alone:
            late = stopping = False
        if (due or late or stopping) and step != self._saved_step:
            self._save(trainer, BATCH, at_once=stopping)
        self._due = False
        if stopping:
            self._settle()
            raise Stopped(self.stop.signum or 15)

    def _late(self) -> bool:
        return self.every_seconds is not None and time.monotonic() - self._saved_at >= self.every_seconds

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that one is due once the epoch has ended."""
        if self.every_n_epochs is not None and not (trainer.current_epoch + 1) % self.every_n_epochs:
            self._due = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the last one, before other callbacks change the model for good."""
        self._save(trainer, END)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Where nothing was left to train, Lightning calls no hooks: those of the end are called here."""
        if self._from is None:
            return
        self._from = None
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callback is not self:
                callback.on_train_end(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on from a checkpoint that was written while this validation ran; keep how the loops stand before it."""
        if self._from is not None and self._from["at"] == VALIDATION:
            self._put_back(trainer, pl_module)
        self._loop_before_validation = {**counters(trainer), **loop_flags(trainer)}

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """If the process was asked to stop, write a checkpoint to go on from with this validation, and end.

        Raises:
            Stopped: it was asked to.
        """
        if self.stop.signum is None or not self._alone or trainer.should_stop or trainer.state.fn != "fit":
            return
        if not trainer.sanity_checking:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WeightAveraging):  # the weights stand where the average does, and back
                    callback.on_validation_epoch_end(trainer, pl_module)
            self._save(trainer, VALIDATION)
        self.stop.end_if_asked()

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """End if the process was asked to: there is nothing to save."""
        self.stop.end_if_asked()

    # ------------------------------------------------------------------------------------------------ what is kept

    def _save(self, trainer: pl.Trainer, at: str, *, at_once: bool = True) -> None:
        """Write a checkpoint; in the background, if that is wanted and it hasn't to be there `at_once`."""
        if not self.writes:
            return
        self._settle()
        done = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        self._at = at
        try:
            path = self.folder / f"{done:012d}.ckpt"
            options = {POSITION: self._written, WRITER: None if at_once else self._writer}
            trainer.save_checkpoint(path, weights_only=False, storage_options=options)
        finally:
            self._at = None
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def _settle(self) -> None:
        """Wait until nothing is being written in the background.

        Raises:
            RunError: it couldn't be written.
        """
        if self._writer is not None:
            self._writer.wait()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let a checkpoint that is being written be ready before the run is sealed."""
        try:
            self._settle()
        except RunError as error:
            exception.add_note(f"and a checkpoint could not be written: {error}")

    def _written(self, path: pathlib.Path) -> None:
        """Called in the process that writes, or a thread of it, with the file's name."""
        if not self._someone_keeps_last:
            self.last = self.dirpath / "last.ckpt"
            positions.link(path, self.last)
        positions.prune(self.folder, self.keep)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put what is needed to go on into a checkpoint of ours.

        Raises:
            NotFinite: a parameter isn't finite.
        """
        if not pl_module.keeps_not_finite:
            check_parameters(pl_module)
        if self._at is None:
            return
        names = [callback.filename for callback in model_checkpoints(trainer)]
        self._someone_keeps_last = "last" in names
        local = {"gathered": pl_module.gathered(), "logged": logged(trainer, pl_module)}  # type: ignore[operator]
        loops = counters(trainer)
        if self._at == VALIDATION:
            local["logged"] |= {key: self._loop_before_validation.pop(key) for key in loop_flags(trainer)}
            loops = self._loop_before_validation
            restart_validation(checkpoint)
        epoch = trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
        state = {
            "at": self._at,
            "epoch": epoch,
            "batch": trainer.fit_loop.epoch_loop.batch_progress.current.completed,
            "folder": str(self.dirpath.resolve()),
            "files": sorted(path.name for path in self.dirpath.glob("*.ckpt")),
            "fingerprint": fingerprint(self.context, trainer),
            "first_rates": dict(pl_module.first_rates),  # type: ignore[arg-type]
            "counters": loops,
            "checkpoints": checkpoints_kept(trainer),
            "logged": positions_of(self.metric_log, self.loggers) if self.metric_log and trainer.is_global_zero else {},
            "ranks": from_all(local, trainer.world_size),
        }
        positions.put_in(checkpoint, state)

    def _put_back(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._from is not None
        state, self._from = self._from, None
        mine = state["ranks"][trainer.global_rank]
        put_counters(trainer, state["counters"])
        put_logged(trainer, pl_module, mine["logged"])
        pl_module.load_gathered(mine["gathered"])  # type: ignore[operator]
        if state["at"] == BATCH:
            trainer.should_stop = state["counters"]["should_stop"]


def find(callbacks: Any) -> ExactResume:
    """The one of these callbacks that is of this kind; every trainer of ours has one."""
    return next(callback for callback in callbacks if isinstance(callback, ExactResume))
