"""Gives trials to an executor and notes what comes back, until there are none left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from builder.sweep.book import COMPLETE, FAILED, PRUNED, Book
from builder.sweep.jobs import Executor, Outcome, TrialJob
from builder.sweep.objectives import Objective
from builder.sweep.settings import Settings
from builder.sweep.space import overrides_of
from builder.sweep.trial import result
from builder.sweep.values import written

POLL = 0.5
"""Seconds for which an executor is waited for at a time."""
TAKEN_UP = 3
"""How often a trial is taken up again whose process was killed, before it is taken for the cause."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened: a trial was `begun`, or `ended` with an outcome, or is to be tried `again`."""

    what: str
    number: int
    point: Mapping[str, str]
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What trials are judged by."""

    objectives: tuple[Objective, ...]
    monitor: str
    mode: str


@dataclass
class Driver:
    """Works on the trials of a study: the main process of a sweep (`main`), or one that joined."""

    book: Book
    settings: Settings
    judged: Judged
    executor: Executor
    output_dir: str
    main: bool = True
    on_event: Callable[[Event], object] = lambda event: None
    on_wait: Callable[[], object] = lambda: None
    running: dict[int, TrialJob] = field(default_factory=dict)
    points: dict[int, dict[str, str]] = field(default_factory=dict)

    def run(self) -> bool:
        """Work until no trial is left; False if it was asked to stop before."""
        try:
            return self._work()
        except KeyboardInterrupt:
            return False
        finally:
            self.executor.cancel()

    def _work(self) -> bool:
        while True:
            while len(self.running) < self.executor.slots:
                number = self.book.claim(abandoned=self.main)
                if number is None:
                    break
                self._begin(number)
            if not self.running:
                if not self.main or not self.book.others():
                    return True
                time.sleep(POLL)  # another process works on the last ones; if it dies, they are taken up here
            for number, outcome in self.executor.poll(POLL) if self.running else ():
                if outcome.state == "interrupted":
                    return False
                self._end(number, outcome)
            self.on_wait()

    def _begin(self, number: int) -> None:
        settings, seed = self.settings, self.settings.section["seed"]
        noted = self.book.noted(number)
        point = noted.get("point") or self.book.choose(number, settings.axes, settings.sampler, seed)
        self.points[number] = dict(point)
        taken = noted.get("taken", 0) + 1
        self.book.note(number, "taken", taken)
        if taken - noted.get("attempt", 0) > TAKEN_UP:
            self._end(number, Outcome("failed", reason=f"its process was killed {taken - 1} times"), final=True)
            return
        self._submit(number, noted.get("attempt", 0))
        self.on_event(Event("begun", number, self.points[number]))

    def _submit(self, number: int, attempt: int) -> None:
        settings = self.settings
        overrides = (
            *settings.base, *overrides_of(settings.axes, self.points[number]), f"output_dir={written(self.output_dir)}",
        )  # fmt: skip
        job = TrialJob(
            number, overrides, settings.replicates, settings.source, self.book.url, self.book.name,
            self.judged.objectives, self.judged.monitor, self.judged.mode, settings.pruner, os.getcwd(), attempt,
        )  # fmt: skip
        self.running[number] = job
        self.executor.submit(job)

    def _end(self, number: int, outcome: Outcome, *, final: bool = False) -> None:
        job = self.running.pop(number, None)
        attempt = 0 if job is None else job.attempt
        if outcome.state == "failed" and not final and attempt < self.settings.section["retry"]:
            self.book.note(number, "attempt", attempt + 1)
            self.book.note(number, "reasons", [*self.book.noted(number).get("reasons", []), outcome.reason])
            self._submit(number, attempt + 1)
            self.on_event(Event("again", number, self.points[number], outcome))
            return
        state = {"complete": COMPLETE, "pruned": PRUNED}.get(outcome.state, FAILED)
        self.book.settle(number, state, outcome.values or None, result(outcome))
        self.on_event(Event("ended", number, self.points[number], outcome))
