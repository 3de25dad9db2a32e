"""Trials one after the other, in the process of the sweep."""

from __future__ import annotations

from collections.abc import Sequence

from builder.sweep.jobs import Outcome, TrialJob


class Serial:
    """One trial after the other in this process: nothing to start, and a debugger sees all of it.

    A layer that kills its process kills the sweep; `resume` goes on with it.
    """

    slots = 1

    def __init__(self) -> None:
        self._jobs: list[TrialJob] = []

    def submit(self, job: TrialJob) -> None:
        """Take a trial."""
        self._jobs.append(job)

    def poll(self, timeout: float) -> Sequence[tuple[int, Outcome]]:
        """Run it to its end, however long that takes."""
        from builder.sweep.trial import run_trial

        jobs, self._jobs = self._jobs, []
        return [(job.number, run_trial(job)) for job in jobs]

    def cancel(self) -> None:
        """Forget what wasn't begun."""
        self._jobs = []
