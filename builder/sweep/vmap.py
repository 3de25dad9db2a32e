"""Trials that differ in numbers alone, trained together in one process."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from builder.errors import RunError
from builder.runs.folder import one_line
from builder.runs.status import status
from builder.sweep.book import Book
from builder.sweep.jobs import PRUNED, Outcome, TrialJob
from builder.sweep.objectives import values_of

if TYPE_CHECKING:
    from builder.sweep.vmap_fit import Fit, Trainee
    from builder.sweep.vmap_group import Member
    from builder.sweep.vmap_saved import Begun, Ended


TOLD = 2.0
"""Seconds from one epoch of a trial that the study is told of to the next, where none is pruned: each goes to disk."""


class Vmap:
    """Up to `size` trials at a time as one model with stacked weights (`torch.func.vmap`), where they differ in numbers
    that change no shape: rates, weight decay, momentum, seeds, dropout, weights of losses.

    Which can is found by itself, and said; the others train alone. `compile` compiles the step; null does so where the
    training is long enough to repay it. Results agree with separate runs within rounding; dropout draws other numbers.
    At an epoch's end a checkpoint of all is written where `save_seconds` have passed since the last one (null: never).
    """

    def __init__(self, size: int = 16, compile: bool | None = None, save_seconds: float | None = 30.0) -> None:
        if size < 1:
            raise ValueError("size counts from 1")
        if save_seconds is not None and save_seconds < 0:
            raise ValueError("save_seconds can't be negative")
        self.slots, self._compiles, self._every = size, compile, save_seconds
        self._jobs: list[TrialJob] = []
        self._said: set[str] = set()
        self._over: list[_Saves] = []
        """Of groups that have ended: their checkpoints are kept until it is noted how."""

    def submit(self, job: TrialJob) -> None:
        """Take a trial; all that were taken begin at the next `poll`."""
        self._jobs.append(job)

    def poll(self, timeout: float) -> Sequence[tuple[int, Outcome]]:
        """Train all that were taken, to their end."""
        from builder.sweep.trial import run_trial

        self._forget()
        jobs, self._jobs = self._jobs, []
        try:
            done = self._grouped(jobs)
        except KeyboardInterrupt:
            self._over = []  # nothing is noted of those that had ended
            return [(job.number, Outcome("interrupted", reason="interrupted (Ctrl-C)")) for job in jobs]
        return [(job.number, done[job.number] if job.number in done else run_trial(job)) for job in jobs]

    def cancel(self) -> None:
        """Forget what wasn't begun."""
        self._jobs = []
        self._forget()

    def _forget(self) -> None:
        for saves in self._over:
            saves.forget()
        self._over = []

    def _grouped(self, jobs: Sequence[TrialJob]) -> dict[int, Outcome]:
        """The outcomes of the trials that train together; those that are missing train alone."""
        from builder.sweep.vmap_group import Alone, key
        from builder.sweep.vmap_saved import file_of

        book = Book(jobs[0].storage, jobs[0].study)
        book.prunes_by(jobs[0].pruner)
        groups: dict[tuple[str, Path | None], list[Member]] = {}
        for job in jobs:
            try:
                members = [] if _is_done(book, job) else _members(job)
                # What failed and is tried once more begins anew.
                begun = [None if job.attempt else file_of(_run(book, member)) for member in members]
                keyed = [((key(member), file), member) for member, file in zip(members, begun, strict=True)]
            except Alone as reason:
                self._alone(reason)
                continue
            except Exception:  # it fails alone as well, and says why there
                continue
            for kind, member in keyed:
                groups.setdefault(kind, []).append(member)
        trained: dict[int, list[Trainee | Ended]] = {}
        lost: set[int] = set()
        for (text, file), members in groups.items():
            there = [member for member in members if member.job.number not in lost]
            for one in (found := self._trained(book, there, text, file)):
                trained.setdefault(one.member.job.number, []).append(one)
            if not found:
                lost |= {member.job.number for member in there}
        return {number: _outcome(trainees) for number, trainees in trained.items() if number not in lost}

    def _trained(
        self, book: Book, members: Sequence[Member], text: str, file: Path | None
    ) -> Sequence[Trainee | Ended]:
        """The trainings of a group, which go on from a checkpoint where there is one that they can go on from.

        None where they have to train alone, which is said.
        """
        from builder.sweep.vmap_group import Alone
        from builder.sweep.vmap_saved import begun

        if file is not None:
            runs = [run for member in members if (run := _run(book, member)) is not None]
            try:
                going = begun(file, text, members, runs)
                return self._together(book, text, going.members, going)
            except Exception as error:  # whatever is wrong with what was left, they can still begin anew
                self._say(f"trials begin anew, and don't go on from {file}: {one_line(error)}")
        try:
            return self._together(book, text, members, None)
        except Alone as reason:
            self._alone(reason)
        except (RuntimeError, MemoryError) as error:
            self._alone(f"together they failed with {one_line(error)}")
        return ()

    def _together(
        self, book: Book, text: str, members: Sequence[Member], going: Begun | None
    ) -> Sequence[Trainee | Ended]:
        """The trainings of a group, trained to their end.

        Raises:
            Alone: they can't train together.
        """
        from builder.sweep.vmap_fit import Fit
        from builder.sweep.vmap_group import Alone

        trainees: Sequence[Trainee] = ()
        ended: Sequence[Ended] = () if going is None else going.ended
        saves = _Saves(text, self._every, going)
        if members:
            if len(members) < 2 and going is None:
                raise Alone("no other differs from one in numbers alone")
            reports = _Reports(book)
            fit = Fit(members, reports.epoch, compiles=self._compiles, begun=going, after_epoch=saves.epoch)
            trials = len({member.job.number for member in members})
            said = f"{len(members)} trainings of {trials} trials train together"

            def opened(trainees: Sequence[Trainee]) -> None:
                self._say(said if going is None else f"{said}, from epoch {going.epoch + 1}")
                reports.opened(trainees)

            trainees = fit.run(opened)
        self._over.append(saves)
        every: list[Trainee | Ended] = [*trainees, *ended]
        for one in every:
            one.seconds = saves.seconds / len(every)
        return every

    def _alone(self, reason: object) -> None:
        self._say(f"trials train alone: {reason}")

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            print(f"note: {text}", file=sys.stderr)


def _is_done(book: Book, job: TrialJob) -> bool:
    """Whether all trainings of a trial are finished: a process was killed before it said so."""
    runs = [Path(run) for run in book.noted(job.number).get("runs", [])]
    return len(runs) == len(job.replicates) and all(
        (run / "config.yaml").is_file() and status(run).state == "finished" for run in runs
    )


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


def _run(book: Book, member: Member) -> Path | None:
    """The run folder that a training was begun in."""
    runs = book.noted(member.job.number).get("runs", [])
    return Path(runs[member.index]) if member.index < len(runs) and runs[member.index] else None


class _Saves:
    """Writes the checkpoints of a group, of the key `text`, at least `every` seconds apart; None: none."""

    def __init__(self, text: str, every: float | None, going: Begun | None) -> None:
        self._text, self._every, self._last = text, every, time.monotonic()
        self._began = self._last - (0.0 if going is None else going.seconds)
        self._files = {going.file} if going is not None and going.is_whole else set()

    @property
    def seconds(self) -> float:
        """How long the group has trained, before it went on too."""
        return time.monotonic() - self._began

    def epoch(self, fit: Fit, epoch: int) -> None:
        """After an epoch: write one, if it is time."""
        from builder.sweep.vmap_saved import save

        if self._every is None or time.monotonic() - self._last < self._every:
            return
        try:
            save(fit, self._text, epoch, self.seconds)
        except RunError as error:
            print(f"note: no more checkpoints of what trains together: {one_line(error)}", file=sys.stderr)
            self._every = None
            return
        self._files.add(fit.file)
        self._last = time.monotonic()

    def forget(self) -> None:
        """Delete what was written, and what they all went on from: it is noted how they ended."""
        for file in self._files:
            with contextlib.suppress(OSError):
                file.unlink()


class _Reports:
    """Tells the study of what trains together; where nothing is pruned, of some of its epochs."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._told: dict[int, float] = {}
        self._before = {row.number: max(row.curve, default=-1) for row in book.rows()}
        """The last epoch that the study knows of each trial: up to it all was judged before a process was killed."""

    def opened(self, trainees: Sequence[Trainee]) -> None:
        """Note the runs of each trial, beside those of its other trainings."""
        for one in trainees:
            job = one.member.job
            runs = list(self._book.noted(job.number).get("runs", []))
            runs += [""] * (len(job.replicates) - len(runs))
            runs[one.member.index] = str(one.run.path)
            self._book.note(job.number, "runs", runs)

    def epoch(self, one: Trainee, epoch: int, values: Mapping[str, float]) -> str | None:
        """Tell of an epoch; why the trial is to end here, if it is."""
        job = one.member.job
        if len(job.replicates) > 1 or len(job.objectives) > 1 or job.monitor not in values:
            return None
        if epoch <= self._before.get(job.number, -1):
            return None
        value, last = values[job.monitor], epoch + 1 == one.member.values["trainer"]["max_epochs"]
        if job.pruner is None and not last and time.monotonic() - self._told.get(job.number, 0.0) < TOLD:
            return None
        self._told[job.number] = time.monotonic()
        hopeless = self._book.report(job.number, epoch, value)
        return f"{PRUNED} epoch {epoch + 1}: {job.monitor} {value:.4g}" if hopeless and job.pruner else None


def _outcome(every: Sequence[Trainee | Ended]) -> Outcome:
    """How a trial ended whose trainings these are."""
    trainees = sorted(every, key=lambda one: one.member.index)
    job, seconds = trainees[0].member.job, sum(one.seconds for one in trainees)
    ended = [one for one in trainees if one.ended]
    if ended:
        return Outcome("failed" if ended[0].failed else "pruned", reason=ended[0].ended, seconds=seconds)
    whole = cast("Sequence[Trainee]", trainees)  # as none has ended early
    found = [values_of(job.objectives, one.history, _final(one), job.monitor, job.mode) for one in whole]
    for values in found:
        for objective, value in zip(job.objectives, values, strict=True):
            if not math.isfinite(value):
                return Outcome("failed", reason=f"{objective.name} is {value}", seconds=seconds)
    columns = list(zip(*found, strict=True))
    spread = tuple(statistics.stdev(column) for column in columns) if len(found) > 1 else None
    return Outcome("complete", tuple(statistics.fmean(column) for column in columns), spread, None, seconds)


def _final(one: Trainee) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in one.model.parameters())
    return {**one.final, "params": parameters, "seconds": one.seconds}
