"""One trial, run in whatever process it was sent to: train, report each epoch, and say what came of it."""

from __future__ import annotations

import gc
import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import BuilderError, Stopped
from builder.runs import attempts
from builder.runs.folder import one_line
from builder.runs.status import status
from builder.sweep.book import Book
from builder.sweep.history import read_history
from builder.sweep.jobs import PRUNED, Outcome, TrialJob
from builder.sweep.objectives import values_of
from builder.sweep.settings import composed

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from builder.training.watch import Watch


SIGN = 10.0
"""Seconds from one sign of life to the next, at least: each is written to the disk."""


class Diverged(BuilderError):
    """A loss of training isn't finite: nothing good can come any more."""


def run_trial(job: TrialJob) -> Outcome:
    """Run a trial from where it stands; whatever goes wrong is told in the outcome.

    Its runs are noted in the study as they are opened, so that whoever takes the trial up after a kill finds them.
    """
    started = time.monotonic()
    try:
        os.chdir(job.cwd)
        outcome = _run(job)
    except KeyboardInterrupt:
        outcome = Outcome("interrupted", reason="interrupted (Ctrl-C)")
    except SystemExit as stop:
        # A process that is asked to end says so by this; anything else is a layer of the user's that gave up.
        asked = stop.code in (130, 143)
        outcome = Outcome("interrupted" if asked else "failed", reason=f"it ended its process with code {stop.code}")
    except Stopped as stop:
        outcome = Outcome("pruned", reason=str(stop))
    except Exception as error:  # a trial may raise anything, and the sweep goes on
        outcome = Outcome("failed", reason=_reason(error))
        _free()
    return Outcome(outcome.state, outcome.values, outcome.spread, outcome.reason, time.monotonic() - started)


def _reason(error: Exception) -> str:
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return f"out of memory: {one_line(error)}"
    return one_line(error)


def _free() -> None:
    """Give back what a failed trial held: the next one may need it."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _run(job: TrialJob) -> Outcome:
    from builder.plugins import load_plugins

    folder = job.source.config_dir
    load_plugins(job.source.imports, config_dir=None if folder is None else Path(folder))
    book = Book(job.storage, job.study)
    book.prunes_by(job.pruner)
    every: list[list[float]] = []
    for index, extra in enumerate(job.replicates):
        every.append(_training(job, book, index, extra))
        if len(job.replicates) > 1 and len(job.objectives) == 1:
            mean = statistics.fmean(values[0] for values in every)
            hopeless = book.report(job.number, index, mean)
            if hopeless and job.pruner is not None and index + 1 < len(job.replicates):
                raise Stopped(f"{PRUNED} training {index + 1} of {len(job.replicates)}: a mean of {mean:.4g}")
    columns = list(zip(*every, strict=True))
    spread = tuple(statistics.stdev(column) for column in columns) if len(every) > 1 else None
    return Outcome("complete", tuple(statistics.fmean(column) for column in columns), spread)


def _training(job: TrialJob, book: Book, index: int, extra: Sequence[str]) -> list[float]:
    """The values of one training, which is done, gone on with, or begun.

    Raises:
        Stopped: it is pruned.
        Diverged: its loss or one of its values isn't a number.
    """
    trainer = _Trainer(job, book, index)
    run = trainer.go((*job.overrides, *extra))
    ended = status(run)
    if ended.state != "finished":
        raise KeyboardInterrupt
    history = read_history(run) or trainer.history
    final = {**ended.metrics, "seconds": ended.seconds or math.nan}
    if (parameters := book.noted(job.number).get("parameters")) is not None:
        final["params"] = parameters
    values = values_of(job.objectives, history, final, job.monitor, job.mode)
    for objective, value in zip(job.objectives, values, strict=True):
        if not math.isfinite(value):
            raise Diverged(f"{objective.name} is {value}")
    return values


class _Trainer:
    """Trains one config for a trial, and reports on it to the study."""

    def __init__(self, job: TrialJob, book: Book, index: int) -> None:
        self.job, self.book, self.index = job, book, index
        self.history: dict[int, Mapping[str, float]] = {}
        self._alone = len(job.replicates) == 1 and len(job.objectives) == 1
        self._signed = 0.0

    def go(self, overrides: Sequence[str]) -> Path:
        """Train, or go on with what was begun; the run folder."""
        from builder.pipeline import train
        from builder.training.watch import Watch

        callbacks: list[pl.Callback] = [watch := Watch(self._epoch)]
        begun = self._begun()
        if begun is not None and self._goes_on(begun, callbacks):
            return begun
        return train(
            composed(self.job.source, overrides), quiet=True, callbacks=callbacks,
            on_open=lambda run: self._opened(run, watch),
        ).run  # fmt: skip

    def _begun(self) -> Path | None:
        """The run of this training that a process left behind, if there is one that didn't fail."""
        runs = self.book.noted(self.job.number).get("runs", [])
        run = Path(runs[self.index]) if self.index < len(runs) else None
        if run is None or not (run / "config.yaml").is_file():
            return None
        state = status(run).state
        if state != "finished" and attempts.trained_together(run):
            return None
        return None if state == "failed" else run

    def _goes_on(self, run: Path, callbacks: Sequence[pl.Callback]) -> bool:
        """Go on with a run from its checkpoint; False if something that its bits depend on has changed."""
        from builder.resume import resume
        from builder.training.fingerprint import CannotGoOn

        if status(run).state == "finished":
            return True
        try:
            resume(run, quiet=True, callbacks=callbacks)
        except CannotGoOn:
            return False
        return True

    def _opened(self, run: Path, watch: Watch) -> None:
        noted = self.book.noted(self.job.number)
        runs = list(noted.get("runs", []))[: self.index] + [str(run)]
        self.book.note(self.job.number, "runs", runs)
        watch.on_parameters = self._parameters

    def _parameters(self, count: int) -> None:
        self.book.note(self.job.number, "parameters", count)

    def _epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.history[epoch] = dict(metrics)
        if time.time() - self._signed > SIGN:
            self._signed = time.time()
            self.book.note(self.job.number, "seen", self._signed)
        loss = metrics.get("train/loss", 0.0)
        if not math.isfinite(loss):
            raise Diverged(f"train/loss is {loss} in epoch {epoch + 1}")
        value = metrics.get(self.job.monitor)
        if not self._alone or value is None:
            return
        hopeless = self.book.report(self.job.number, epoch, value)
        if hopeless and self.job.pruner is not None:
            raise Stopped(f"{PRUNED} epoch {epoch + 1}: {self.job.monitor} {value:.4g}")


def result(outcome: Outcome) -> dict[str, Any]:
    """What is noted about a trial with its end."""
    notes: dict[str, Any] = {"seconds": round(outcome.seconds, 3)}
    if outcome.reason is not None:
        notes["reason"] = outcome.reason
    if outcome.spread is not None:
        notes["spread"] = list(outcome.spread)
    return notes
