"""Trials that differ in numbers alone, trained together in one process."""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.sweep.jobs import Outcome, TrialJob
from builder.sweep.objectives import values_of

if TYPE_CHECKING:
    from builder.sweep.book import Book
    from builder.sweep.vmap_fit import Trainee
    from builder.sweep.vmap_group import Member


class Vmap:
    """Up to `size` trials at a time as one model with stacked weights (`torch.func.vmap`), where they differ in numbers
    that change no shape: rates, weight decay, momentum, seeds, dropout, weights of losses.

    Which can is found by itself, and said; the others train alone. `compile` compiles the step; null does so where the
    training is long enough to repay it. Results agree with separate runs within rounding; dropout draws other numbers.
    """

    def __init__(self, size: int = 16, compile: bool | None = None) -> None:
        if size < 1:
            raise ValueError("size counts from 1")
        self.slots, self._compiles = size, compile
        self._jobs: list[TrialJob] = []
        self._said: set[str] = set()

    def submit(self, job: TrialJob) -> None:
        """Take a trial; all that were taken begin at the next `poll`."""
        self._jobs.append(job)

    def poll(self, timeout: float) -> Sequence[tuple[int, Outcome]]:
        """Train all that were taken, to their end."""
        from builder.sweep.trial import run_trial

        jobs, self._jobs = self._jobs, []
        try:
            done = self._grouped(jobs)
        except KeyboardInterrupt:
            return [(job.number, Outcome("interrupted", reason="interrupted (Ctrl-C)")) for job in jobs]
        return [(job.number, done[job.number] if job.number in done else run_trial(job)) for job in jobs]

    def cancel(self) -> None:
        """Forget what wasn't begun."""
        self._jobs = []

    def _grouped(self, jobs: Sequence[TrialJob]) -> dict[int, Outcome]:
        """The outcomes of the trials that train together; those that are missing train alone."""
        from builder.sweep.vmap_group import Alone, key

        groups: dict[str, list[list[Member]]] = {}
        for job in jobs:
            try:
                members = _members(job)
                keys = {key(member) for member in members}
            except Alone as reason:
                self._say(f"trials train alone: {reason}")
                continue
            except Exception:  # it fails alone as well, and says why there
                continue
            if len(keys) == 1:
                groups.setdefault(keys.pop(), []).append(members)
            else:
                self._say("trials train alone: their seeds or folds give data of different sizes")
        done: dict[int, Outcome] = {}
        for trials in groups.values():
            members = [member for trial in trials for member in trial]
            if len(members) < 2:
                self._say("trials train alone: no other differs from one in numbers alone")
                continue
            try:
                done |= self._trained(trials, members)
            except Alone as reason:
                self._say(f"trials train alone: {reason}")
            except (RuntimeError, MemoryError) as error:
                from builder.runs.folder import one_line

                self._say(f"trials train alone: together they failed with {one_line(error)}")
        return done

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            print(f"note: {text}", file=sys.stderr)

    def _trained(self, trials: Sequence[Sequence[Member]], members: Sequence[Member]) -> dict[int, Outcome]:
        from builder.sweep.book import Book
        from builder.sweep.vmap_fit import Fit

        job, started = members[0].job, time.monotonic()
        book = Book(job.storage, job.study)
        book.prunes_by(job.pruner)

        def on_epoch(one: Trainee, epoch: int, values: Mapping[str, float]) -> str | None:
            return _reported(book, one, epoch, values)

        fit = Fit(members, on_epoch, compiles=self._compiles)
        self._say(f"{len(members)} trainings of {len(trials)} trials train together")
        trainees = fit.run()
        by_trial: dict[int, list[Trainee]] = {}
        for one in trainees:
            by_trial.setdefault(one.member.job.number, []).append(one)
        seconds = (time.monotonic() - started) / len(by_trial)
        return {number: _outcome(book, several, seconds) for number, several in by_trial.items()}


def _members(job: TrialJob) -> list[Member]:
    """The trainings of a trial, prepared."""
    from builder.plugins import load_plugins
    from builder.prepare import prepare
    from builder.sweep.settings import composed
    from builder.sweep.vmap_group import Member
    from builder.training.trainer import read_trainer

    os.chdir(job.cwd)
    folder = job.source.config_dir
    load_plugins(job.source.imports, config_dir=None if folder is None else Path(folder))
    found = []
    for index, extra in enumerate(job.replicates):
        ready = prepare(composed(job.source, (*job.overrides, *extra)), quiet=True)
        found.append(Member(job, index, ready, read_trainer(ready.composed.values, ready.task, ready.composed.origins)))
    return found


def _reported(book: Book, one: Trainee, epoch: int, values: Mapping[str, float]) -> str | None:
    """Tell the study of an epoch; why the trial is to end here, if it is."""
    job = one.member.job
    if len(job.replicates) > 1 or len(job.objectives) > 1 or job.monitor not in values:
        return None
    value = values[job.monitor]
    hopeless = book.report(job.number, epoch, value)
    return f"pruned after epoch {epoch + 1}: {job.monitor} {value:.4g}" if hopeless and job.pruner else None


def _outcome(book: Book, trainees: Sequence[Trainee], seconds: float) -> Outcome:
    """How a trial ended whose trainings these are."""
    job = trainees[0].member.job
    book.note(job.number, "runs", [str(one.run.path) for one in trainees])
    ended = [one for one in trainees if one.ended]
    if ended:
        return Outcome("failed" if ended[0].failed else "pruned", reason=ended[0].ended, seconds=seconds)
    every = [values_of(job.objectives, one.history, _final(one, seconds), job.monitor, job.mode) for one in trainees]
    for values in every:
        for objective, value in zip(job.objectives, values, strict=True):
            if not math.isfinite(value):
                return Outcome("failed", reason=f"{objective.name} is {value}", seconds=seconds)
    columns = list(zip(*every, strict=True))
    spread = tuple(statistics.stdev(column) for column in columns) if len(every) > 1 else None
    return Outcome("complete", tuple(statistics.fmean(column) for column in columns), spread, None, seconds)


def _final(one: Trainee, seconds: float) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in one.model.parameters())
    return {**one.final, "params": parameters, "seconds": seconds}
