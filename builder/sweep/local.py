"""Trials in several processes of this machine, forked from one that has imported everything."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from builder.sweep.jobs import Outcome, TrialJob

WARM = ["builder.sweep.warm"]
GRACE = 20.0
"""Seconds that workers have to end a trial that is interrupted, so that its run is sealed."""


@dataclass
class _Worker:
    process: ForkServerProcess
    pipe: Any
    job: TrialJob | None = None


class Local:
    """Trials in `workers` processes at once; a worker takes the next trial as soon as it is done with one.

    All are forked from a process that has imported everything and done nothing, so that one is ready at once and a
    trial's threads and GPU are its own. `threads` is the CPU threads of each, by default an equal share of the CPUs.
    Where there are GPUs each worker sees one of them (`gpus`: how many there are; null: as CUDA_VISIBLE_DEVICES says,
    or all), and there are as many workers as GPUs unless `workers` says more.
    """

    def __init__(self, workers: int | None = None, threads: int | None = None, gpus: int | None = None) -> None:
        if (workers is not None and workers < 1) or (threads is not None and threads < 1):
            raise ValueError("workers and threads count from 1")
        devices = _devices(gpus)
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.slots = workers or len(devices) or cpus
        self.threads = threads or max(1, cpus // self.slots)
        self._devices = devices
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(WARM)
        self._workers: list[_Worker | None] = [None] * self.slots

    def submit(self, job: TrialJob) -> None:
        """Give the trial to a free worker, started now if there is none."""
        index = next(i for i, worker in enumerate(self._workers) if worker is None or worker.job is None)
        worker = self._workers[index] or self._start(index)
        worker.job = job
        try:
            worker.pipe.send(job)
        except OSError:  # it died while it had nothing to do
            self._end(index)
            worker = self._start(index)
            worker.job = job
            worker.pipe.send(job)

    def poll(self, timeout: float) -> Sequence[tuple[int, Outcome]]:
        """What workers have sent, and those that died."""
        busy = [worker for worker in self._workers if worker is not None and worker.job is not None]
        ready = connection.wait([of for worker in busy for of in (worker.pipe, worker.process.sentinel)], timeout)
        done = []
        for index, worker in enumerate(self._workers):
            if worker is None or worker.job is None or not {worker.pipe, worker.process.sentinel} & {*ready}:
                continue
            job = worker.job
            try:
                outcome = worker.pipe.recv()
                worker.job = None
            except (EOFError, OSError):
                outcome = _died(worker.process)
                self._end(index)
            done.append((job.number, outcome))
        return done

    def cancel(self) -> None:
        """Ask the workers to stop, as Ctrl-C does, and end those that don't."""
        there = [worker for worker in self._workers if worker is not None]
        for worker in there:
            with contextlib.suppress(OSError):
                worker.pipe.close() if worker.job is None else os.kill(worker.process.pid or 0, signal.SIGINT)
        for worker in there:
            worker.process.join(GRACE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = [None] * self.slots

    def _start(self, index: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        # Without GPUs to share out it sees those that this process does, which the one it is forked from may not know.
        devices: list[str | None] = [*self._devices] or [os.environ.get("CUDA_VISIBLE_DEVICES")]
        gpu = devices[index % len(devices)]
        process = self._context.Process(target=_work, args=(theirs, self.threads, gpu), name=f"worker {index}")
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers[index] = worker
        return worker

    def _end(self, index: int) -> None:
        worker = self._workers[index]
        assert worker is not None
        worker.pipe.close()
        worker.process.join()
        self._workers[index] = None


def _devices(gpus: int | None) -> list[str]:
    """The GPUs, as CUDA_VISIBLE_DEVICES names them; without waking CUDA in this process.

    Raises:
        ValueError: there aren't as many as are asked for.
    """
    if gpus is not None and gpus < 0:
        raise ValueError(f"gpus counts from 0: {gpus}")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        listed = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
        if gpus is not None and gpus > len(listed):
            raise ValueError(f"{gpus} GPUs, but CUDA_VISIBLE_DEVICES={visible} names {len(listed)}")
        return listed if gpus is None else listed[:gpus]
    if gpus is None:
        import glob

        gpus = len(glob.glob("/proc/driver/nvidia/gpus/*"))
    return [str(index) for index in range(gpus)]


def _died(process: ForkServerProcess) -> Outcome:
    process.join()
    code = process.exitcode or 0
    if code >= 0:
        return Outcome("failed", reason=f"its process ended with code {code}")
    name = signal.Signals(-code).name
    hint = ": out of memory?" if name == "SIGKILL" else ""
    return Outcome("failed", reason=f"its process was killed by {name}{hint}")


def _work(pipe: Any, threads: int, gpu: str | None) -> None:
    """A worker: trials from the pipe until it is closed.

    A terminal sends Ctrl-C to all processes of a group, and the sweep's passes it on; the second one that a training
    gets ends it at once. So a worker has a group of its own.
    """
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    from builder.sweep.trial import run_trial

    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            outcome = run_trial(pipe.recv())
            pipe.send(outcome)
            if outcome.state == "interrupted":
                break


def _end_with_parent() -> None:
    """A sweep that is killed takes its workers with it: they would train on for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
