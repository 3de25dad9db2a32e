"""Which process is meant by a number that the system uses again."""

from __future__ import annotations

import os
import pathlib
import platform
from dataclasses import dataclass

_PROC = pathlib.Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process on some machine, told apart from a later one of the same number.

    `boot` names the machine's current start-up and `ticks` is when the process began, in clock ticks after it; both are
    None where the system doesn't tell.
    """

    host: str
    pid: int
    boot: str | None = None
    ticks: int | None = None

    def is_gone(self) -> bool:
        """Whether it surely has ended. Of a process on another machine that can't be known from here: False."""
        if self.host != platform.node():
            return False
        if self.boot is not None and self.boot != _boot():
            return True
        if self.ticks is not None and _PROC.joinpath("self", "stat").exists():
            return _ticks(self.pid) != self.ticks
        return not _exists(self.pid)


def this_process() -> Process:
    """The process that asks."""
    return Process(platform.node(), os.getpid(), _boot(), _ticks(os.getpid()))


def _boot() -> str | None:
    try:
        return _PROC.joinpath("sys", "kernel", "random", "boot_id").read_text().strip()
    except OSError:
        return None


def _ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None if there is no such process, or only what its parent hasn't yet collected."""
    try:
        text = _PROC.joinpath(str(pid), "stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and parentheses
    return None if fields[0] in "ZX" else int(fields[19])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
