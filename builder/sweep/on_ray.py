"""Trials on a Ray cluster: one that is there, or a local one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builder.optional import require
from builder.runs.folder import one_line
from builder.sweep.jobs import Outcome, TrialJob


class Ray:
    """Trials as tasks of Ray: on the cluster at `address` (`auto`: the one that this machine is part of), or on a new
    one on this machine with `num_cpus` CPUs.

    `cpus` and `gpus` are what each trial takes; `slots` how many are handed over at once, by default what the cluster
    has room for. The machines need the same files at the same paths, and the study's storage must be reachable from
    all of them: a file of SQLite is so on one machine only.
    """

    def __init__(
        self,
        address: str | None = None,
        num_cpus: int | None = None,
        cpus: float = 1,
        gpus: float = 0,
        slots: int | None = None,
    ) -> None:
        self._ray = ray = require("ray", "ray", "the executor ray")
        self._ours = not ray.is_initialized()
        if self._ours:
            options: dict[str, Any] = {"num_cpus": num_cpus} if address is None else {"address": address}
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False, **options)
        there = ray.cluster_resources()
        room = [int(there.get("CPU", 1) // cpus)] if cpus else []
        room += [int(there.get("GPU", 0) // gpus)] if gpus else []
        self.slots = slots or max(1, min(room, default=1))
        self._run = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_run)
        self._jobs: dict[Any, TrialJob] = {}

    def submit(self, job: TrialJob) -> None:
        """Hand the trial over to Ray."""
        self._jobs[self._run.remote(job)] = job

    def poll(self, timeout: float) -> Sequence[tuple[int, Outcome]]:
        """The tasks that are done; one whose worker died is failed."""
        done, _ = self._ray.wait(list(self._jobs), num_returns=1, timeout=timeout)
        return [(self._jobs.pop(reference).number, self._outcome(reference)) for reference in done]

    def _outcome(self, reference: Any) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Outcome("failed", reason=one_line(error))
        return outcome

    def cancel(self) -> None:
        """Cancel the tasks, and end the cluster if it is our own."""
        for reference in self._jobs:
            self._ray.cancel(reference, force=True)
        self._jobs.clear()
        if self._ours:
            self._ray.shutdown()


def _run(job: TrialJob) -> Outcome:
    from builder.sweep.trial import run_trial

    return run_trial(job)
