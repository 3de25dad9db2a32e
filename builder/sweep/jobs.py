"""What an executor is given and what it gives back: plain values that can be sent to another process or machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from builder.sweep.objectives import Objective
from builder.sweep.search import Search
from builder.sweep.settings import Source

State = Literal["complete", "pruned", "failed", "interrupted"]
PRUNED = "pruned after"
"""How the reason begins of a trial that was pruned, and of its run."""


@dataclass(frozen=True, slots=True)
class TrialJob:
    """One trial to run: `builder.sweep.trial.run_trial(job)` does it, anywhere where the storage can be reached.

    `overrides` say its config, `replicates` what each of its trainings has besides. `storage` and `study` say where it
    reports to. `cwd` is the folder in which paths of the config mean something.
    """

    number: int
    overrides: tuple[str, ...]
    replicates: tuple[tuple[str, ...], ...]
    source: Source
    storage: str
    study: str
    objectives: tuple[Objective, ...]
    monitor: str
    mode: str
    pruner: Search | None
    cwd: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended.

    `values` are those of the objectives, their means where the trial has several trainings, and `spread` the standard
    deviations (of the sample, n - 1). `reason` is a line that says why it isn't complete. `interrupted` is a trial
    that was asked to stop: it stays open, and is gone on with later.
    """

    state: State
    values: tuple[float, ...] = ()
    spread: tuple[float, ...] | None = None
    reason: str | None = None
    seconds: float = 0.0
    curve: dict[int, float] = field(default_factory=dict)


class Executor(Protocol):
    """Where trials run. Register a class with these three as `@builder.register.executor`, with a name of its own.

    It is made with the arguments that `sweep.executor` gives. A trial may end in any order; none waits for another.
    """

    slots: int
    """How many trials are given to it at once."""

    def submit(self, job: TrialJob) -> None:
        """Take a trial and return; it runs when there is room for it."""

    def poll(self, timeout: float) -> Sequence[tuple[int, Outcome]]:
        """The trials that have ended since the last call, by number; waits for one, `timeout` seconds at most.

        A trial whose process died is failed, with the reason.
        """

    def cancel(self) -> None:
        """End all that runs, and give back processes and machines; called once, however the sweep ends."""
