"""Several processes on this machine: the first starts the others, and they end together.

Lightning's own way of starting them kills the first one if another fails, before it can say why.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytorch_lightning as pl
from torch import Tensor, distributed

from builder.errors import RunError, printable
from builder.follower import VARIABLE, command_line

FOLDER = "ranks"
"""The folder of a run in which the others' messages lie while they train, and after they failed."""
GRACE = 10.0
"""Seconds in which a process may end by itself after another has."""
PERIOD = 0.2
"""Seconds between two looks at the others."""


@dataclass(slots=True)
class Others:
    """The processes that follow, with what they wrote on standard error."""

    processes: dict[int, subprocess.Popen[bytes]]
    logs: dict[int, IO[bytes]]
    over: threading.Event = field(default_factory=threading.Event)
    stopped: bool = False
    """Whether all were asked to stop, and so end with the exit codes of that."""

    def failed(self) -> int | None:
        """The rank of one that ended with another exit code than 0, if one did; one that was killed before others.

        Those that wait for it lose their connection, and fail as well.
        """
        codes = {rank: process.poll() for rank, process in self.processes.items()}
        bad = sorted((rank for rank, code in codes.items() if code), key=lambda rank: (codes[rank] or 0) > 0)
        return next(iter(bad), None)

    def reason(self, rank: int) -> str:
        """Why it ended, in its own words."""
        code = self.processes[rank].returncode
        lines = Path(self.logs[rank].name).read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line for line in lines if line.startswith(("error: ", "internal error: "))]
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
        words = said[-1].partition("error: ")[2].partition("; run with --debug")[0] if said else ""
        return f"process {rank} of {len(self.processes) + 1} {how}" + (f": {printable(words)}" if words else "")

    def wait(self, seconds: float) -> bool:
        """Whether all ended by themselves in that time."""
        end = time.monotonic() + seconds
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
        return all(process.poll() is not None for process in self.processes.values())

    def stop(self) -> None:
        """End those that are left."""
        for process in self.processes.values():
            process.kill()
            process.wait()


@contextlib.contextmanager
def ranks(trainer: pl.Trainer, run_dir: Path, on_lost: Callable[[str], object] | None = None) -> Iterator[Others]:
    """Within it the processes run that the trainer's strategy shares the work with, if there are any to be started.

    They do the same command, and follow this process. If one fails, all end. `on_lost` is called with the reason where
    this process can't be got out of waiting for the lost one; it then ends at once, with exit code 1.

    Raises:
        RunError: one of them failed.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    launches = getattr(trainer.strategy, "launcher", None) is not None and trainer.num_devices > 1
    if not launches or environment is None or environment.creates_processes_externally or _forks(trainer):
        with _group_ended():
            yield Others({}, {})
        return
    shared = {
        "MASTER_ADDR": environment.main_address, "MASTER_PORT": str(environment.main_port),
        "NODE_RANK": str(environment.node_rank()), "WORLD_SIZE": str(trainer.world_size),
    }  # fmt: skip
    with _environment({**shared, "LOCAL_RANK": "0"}), _group_ended():
        others = _start(trainer.num_devices, shared, run_dir)
        watcher = threading.Thread(target=_watch, args=(others, run_dir, on_lost), name="ranks", daemon=True)
        watcher.start()
        try:
            yield others
            others.over.set()
            if not others.stopped and (not others.wait(60 * GRACE) or others.failed() is not None):
                raise RunError(others.reason(others.failed() or 1))
        except BaseException as error:
            others.over.set()
            _blame(error, others)
            raise
        finally:
            others.over.set()
            others.stop()
            _forget_logs(others)


def _forks(trainer: pl.Trainer) -> bool:
    """Whether the strategy makes its processes by forking or spawning this one."""
    return "multiprocessing" in type(trainer.strategy.launcher).__module__


def _start(count: int, shared: Mapping[str, str], run_dir: Path) -> Others:
    folder = run_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    others = Others({}, {})
    for rank in range(1, count):
        log = others.logs[rank] = open(folder / f"{rank}.log", "wb")  # noqa: SIM115 - closed where it is forgotten
        own = {**os.environ, **shared, "LOCAL_RANK": str(rank), VARIABLE: str(run_dir.absolute()), "NO_COLOR": "1"}
        others.processes[rank] = subprocess.Popen(
            command_line(), env=own, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log,
            start_new_session=True,  # Ctrl-C is for the first process, which tells the others
        )  # fmt: skip
    return others


def _watch(others: Others, run_dir: Path, on_lost: Callable[[str], object] | None) -> None:
    """End everything if another process failed and this one doesn't notice, since it waits for that one."""
    while not others.over.wait(PERIOD):
        if others.failed() is not None and not others.over.wait(GRACE):
            reason = others.reason(others.failed() or 1)
            if on_lost is not None:
                on_lost(reason)
            print(f"error: {reason}\n  run:      {run_dir}", file=sys.stderr, flush=True)
            others.stop()
            os._exit(1)


def _blame(error: BaseException, others: Others) -> None:
    """Put another process's failure in the place of what it led to here.

    Raises:
        RunError: another process failed, and this one lost its connection by that.
    """
    if not _is_loss(error):
        return
    others.wait(GRACE)
    rank = others.failed()
    if rank is not None:
        raise RunError(others.reason(rank)) from error


def _is_loss(error: BaseException) -> bool:
    """Whether an exception says that another process can't be reached."""
    if isinstance(error, distributed.DistError):
        return True
    words = ("connection closed", "connection reset", "gloo", "nccl", "broken pipe", "timed out")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def _forget_logs(others: Others) -> None:
    """Close the messages, and remove those of processes that were fine."""
    for rank, log in others.logs.items():
        log.close()
        if others.processes[rank].returncode in (0, -signal.SIGKILL):
            Path(log.name).unlink(missing_ok=True)
    folder = Path(next(iter(others.logs.values())).name).parent
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _group_ended() -> Iterator[None]:
    """Leave no process group behind: another training in this process would take it for its own."""
    there: Any = distributed.is_available() and distributed.is_initialized()
    try:
        yield
    finally:
        if not there and distributed.is_available() and distributed.is_initialized():
            with contextlib.suppress(RuntimeError):
                distributed.destroy_process_group()


def anywhere(trainer: pl.Trainer, here: bool) -> bool:
    """Whether something holds in any of the processes, so that all do the same; all have to ask."""
    return here if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(here, all=False)


def from_all(local: Any, world_size: int) -> list[Any]:
    """What each process has, in the order of their ranks."""
    if world_size == 1:
        return [local]
    everyone: list[Any] = [None] * world_size
    distributed.all_gather_object(everyone, _on_cpu(local))
    return everyone


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_on_cpu(item) for item in value]
    return value.cpu() if isinstance(value, Tensor) else value
