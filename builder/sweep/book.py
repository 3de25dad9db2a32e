"""The study of a sweep: its trials by number, who works on each, and what came of it.

All trials are in the storage from the beginning, waiting; a process takes one by making it a running one, which the
storage grants to one process only. So several processes share a study, and the total is exact however they end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from builder.runs.process import Process, this_process
from builder.sweep.search import Search, make_pruner, make_sampler, optuna
from builder.sweep.space import Axis, Choices, exists, points
from builder.sweep.storage import open_storage

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

WAITING, RUNNING, COMPLETE, PRUNED, FAILED = "waiting", "running", "complete", "pruned", "failed"
_STATES = {"WAITING": WAITING, "RUNNING": RUNNING, "COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAILED}
OWNERLESS = 10.0
"""Seconds after which a running trial that names no process has none: it died between taking it and saying so."""
SILENT = 900.0
"""Seconds without a sign of life after which a process on another machine is taken for gone."""


@dataclass(frozen=True, slots=True)
class Row:
    """How a trial stands.

    `point` is what was chosen, as texts by axis; `runs` are its run folders; `spread` the standard deviation of each
    value over seeds and folds; `curve` the values it reported, by epoch (from 0), or by training where it has several.
    """

    number: int
    state: str
    point: Mapping[str, str]
    values: Sequence[float] | None
    reason: str | None
    runs: Sequence[str]
    spread: Sequence[float] | None
    seconds: float | None
    attempt: int
    curve: Mapping[int, float] = field(default_factory=dict)


class Book:
    """A study in a storage, and what is noted there about it."""

    def __init__(self, url: str, name: str) -> None:
        """Open a study that is there.

        Raises:
            UsageError: there is none of that name.
            RunError: the storage can't be reached.
        """
        self.url, self.name = url, name
        self.storage = open_storage(url)
        self.study: Study = optuna().load_study(study_name=name, storage=self.storage)
        self._id = self.storage.get_study_id_from_name(name)

    @classmethod
    def create(cls, url: str, name: str, modes: Sequence[str], notes: Mapping[str, Any]) -> Book:
        """Make a study with a direction (`min` or `max`) for each objective, and note what is to be known of it.

        One that is there is completed: a process may have been killed as it made it.
        """
        directions = ["minimize" if mode == "min" else "maximize" for mode in modes]
        storage = open_storage(url)
        study = optuna().create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
        for key in notes.keys() - study.user_attrs.keys():
            study.set_user_attr(key, notes[key])
        return cls(url, name)

    @property
    def notes(self) -> dict[str, Any]:
        """What was noted about the whole sweep."""
        return dict(self.study.user_attrs)

    @property
    def modes(self) -> list[str]:
        """The direction of each objective."""
        return ["max" if "MAX" in direction.name else "min" for direction in self.study.directions]

    def prunes_by(self, pruner: Search | None) -> None:
        """Say what decides whether a trial is hopeless."""
        self.study.pruner = make_pruner(pruner)

    def fill(self, axes: Sequence[Axis], total: int, *, grid: bool) -> int:
        """Have `total` trials in all; those that are missing wait, of a grid with their points. How many were added."""
        there = len(self.storage.get_all_trials(self._id, deepcopy=False))
        if total <= there:
            return 0
        listed = list(points(axes))[there:total] if grid else [{}] * (total - there)
        for point in listed:
            self.study.enqueue_trial(params_of(axes, point))
        return len(listed)

    def claim(self, *, abandoned: bool) -> int | None:
        """Take a trial to work on: one that its process left behind, if `abandoned` says so, or one that waits.

        Returns:
            Its number; None if there is none left to take.
        """
        if abandoned:
            for trial in self._all("RUNNING"):
                if self._is_abandoned(trial):
                    self.note(trial.number, "owner", json.dumps(asdict(this_process())))
                    return trial.number
        with self._alone():
            return self._take()

    def _take(self) -> int | None:
        """A trial that waited, and is now this process's."""
        package = optuna()
        for trial in self._all("WAITING"):
            try:
                taken = self.storage.set_trial_state_values(
                    self._trial_id(trial.number), state=package.trial.TrialState.RUNNING
                )
            except package.exceptions.UpdateFinishedTrialError:
                continue
            if taken:
                self.note(trial.number, "owner", json.dumps(asdict(this_process())))
                return trial.number
        return None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Within it no other process takes a trial from the same SQLite file.

        Other databases lock the row that is read until it is written; with SQLite two could take the same trial.
        """
        if not self.url.startswith("sqlite:///"):
            yield
            return
        folder = os.open(os.path.dirname(self.url.removeprefix("sqlite:///")) or ".", os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # of the folder: closing the file itself would end SQLite's own locks
            yield
        finally:
            os.close(folder)

    def others(self) -> list[int]:
        """The trials that other processes work on."""
        ours = asdict(this_process())
        return [t.number for t in self._all("RUNNING")
                if not self._is_abandoned(t) and json.loads(t.user_attrs.get("owner", "null")) != ours]  # fmt: skip

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get("owner")
        if owner is None:
            began = trial.datetime_start
            return began is None or time.time() - began.timestamp() > OWNERLESS
        process = Process(**json.loads(owner))
        if process.is_gone():
            return True
        seen = trial.user_attrs.get("seen")
        return process.host != this_process().host and seen is not None and time.time() - seen > SILENT

    def choose(self, number: int, axes: Sequence[Axis], sampler: Search, seed: int) -> dict[str, str]:
        """The point of a trial, as texts by axis; what was chosen before a process died stays chosen."""
        chosen_by = make_sampler(sampler, seed, number)
        study = optuna().load_study(study_name=self.name, storage=self.storage, sampler=chosen_by)
        # The class that `Study.ask` returns; that would take a waiting trial of its own choice, or make a new one.
        trial = optuna().trial.Trial(study, self._trial_id(number))
        self.study.sampler = chosen_by  # some note, when a trial is settled, what they learnt of it
        point: dict[str, str] = {}
        for axis in axes:
            if exists(axis, point):
                point[axis.name] = _suggest(trial, axis)
        self.note(number, "point", point)
        return point

    def _trial_id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def _all(self, *states: str) -> list[FrozenTrial]:
        wanted = tuple(getattr(optuna().trial.TrialState, state) for state in states) or None
        return sorted(self.storage.get_all_trials(self._id, deepcopy=False, states=wanted), key=lambda t: t.number)

    def note(self, number: int, key: str, value: Any) -> None:
        """Note something about a running trial; it is there for every process."""
        self.storage.set_trial_user_attr(self._trial_id(number), key, value)

    def noted(self, number: int) -> dict[str, Any]:
        """What was noted about a trial."""
        return dict(self.storage.get_trial(self._trial_id(number)).user_attrs)

    def report(self, number: int, step: int, value: float) -> bool:
        """Report a value of a running trial at a step, and whether the pruner sees no hope for it."""
        trial_id = self._trial_id(number)
        self.storage.set_trial_intermediate_value(trial_id, step, value)
        return bool(self.study.pruner.prune(self.study, self.storage.get_trial(trial_id)))

    def settle(self, number: int, state: str, values: Sequence[float] | None, notes: Mapping[str, Any]) -> None:
        """Say how a trial ended: `complete` with its values, `pruned` or `failed`."""
        for key, value in notes.items():
            self.note(number, key, value)
        states = {COMPLETE: "COMPLETE", PRUNED: "PRUNED", FAILED: "FAIL"}
        told = getattr(optuna().trial.TrialState, states[state])
        self.study.tell(number, list(values) if state == COMPLETE and values is not None else None, state=told)

    def rows(self) -> list[Row]:
        """All trials in the order of their numbers."""
        return [_row(trial) for trial in self._all()]


def _row(trial: FrozenTrial) -> Row:
    notes = trial.user_attrs
    state = _STATES[trial.state.name]
    values = None if trial.values is None else list(trial.values)
    return Row(
        trial.number, state, notes.get("point", {}), values, notes.get("reason"), notes.get("runs", []),
        notes.get("spread"), notes.get("seconds"), notes.get("attempt", 0), dict(trial.intermediate_values),
    )  # fmt: skip


def params_of(axes: Sequence[Axis], point: Mapping[str, str]) -> dict[str, Any]:
    """A point of a grid as a study has it."""
    found: dict[str, Any] = {}
    for axis in axes:
        listed = axis.choices()
        if axis.name in point and listed is not None:
            found[axis.name] = listed.labels[listed.texts.index(point[axis.name])]
    return found


def _suggest(trial: Trial, axis: Axis) -> str:
    from builder.sweep.values import written

    values = axis.values
    if isinstance(values, Choices):
        chosen = trial.suggest_categorical(axis.name, values.labels)
        return values.texts[values.labels.index(chosen)]
    if values.whole:
        step = 1 if values.step is None else int(values.step)
        return written(trial.suggest_int(axis.name, int(values.low), int(values.high), step=step, log=values.log))
    number = trial.suggest_float(axis.name, values.low, values.high, step=values.step, log=values.log)
    listed = axis.choices()
    if listed is not None:  # a step's sum in floating point isn't quite the number that the grid has
        nearest = min(range(len(listed.labels)), key=lambda index: abs(float(listed.labels[index]) - number))  # type: ignore[arg-type]
        return listed.texts[nearest]
    return written(number)
