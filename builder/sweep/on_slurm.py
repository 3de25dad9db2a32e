"""Trials as jobs of SLURM, through submitit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.optional import require
from builder.sweep.jobs import Outcome, TrialJob

STEP = 0.2
"""Seconds from one look at the jobs to the next, where one is waited for."""


class Slurm:
    """Trials as jobs of SLURM, `slots` of them in the queue at once.

    `parameters` are those of submitit's `AutoExecutor.update_parameters`: `timeout_min`, `slurm_partition`,
    `gpus_per_node`, `cpus_per_task`, `mem_gb`, `slurm_additional_parameters`, …. Scripts and logs lie in `folder`.
    `cluster` is `slurm`, `local` for processes of this machine, or null for whichever there is. The nodes need the same
    files at the same paths; on a network's file system the study is better kept in a journal file or a database.
    """

    def __init__(
        self,
        slots: int = 16,
        folder: str = "outputs/submitit",
        cluster: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        submitit = require("submitit", "slurm", "the executor slurm")
        self.slots = slots
        self._uncompleted = submitit.core.utils.UncompletedJobError
        self._executor = submitit.AutoExecutor(folder=str(Path(folder).resolve()), cluster=cluster)
        self._executor.update_parameters(**{"name": "builder", "timeout_min": 240, **(parameters or {})})
        self._jobs: dict[int, Any] = {}

    def submit(self, job: TrialJob) -> None:
        """Put the trial into the queue."""
        from builder.sweep.trial import run_trial

        self._jobs[job.number] = self._executor.submit(run_trial, job)

    def poll(self, timeout: float) -> Sequence[tuple[int, Outcome]]:
        """The jobs that are done; one that ended without a result is failed."""
        until = time.monotonic() + timeout
        while not (done := [number for number, job in self._jobs.items() if job.done()]):
            if time.monotonic() >= until:
                return []
            time.sleep(STEP)
        return [(number, self._outcome(self._jobs.pop(number))) for number in done]

    def _outcome(self, job: Any) -> Outcome:
        try:
            outcome: Outcome = job.result()
        except self._uncompleted as error:
            said = " ".join(str(error).split("\n\n")[0].split())
            return Outcome("failed", reason=f"job {job.job_id} gave no result: {said}"[:500])
        return outcome

    def cancel(self) -> None:
        """Cancel the jobs that are in the queue or run."""
        for job in self._jobs.values():
            job.cancel()
        self._jobs.clear()
