"""Of several processes that train together the first writes the run folder; the others follow it and write nothing."""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

VARIABLE = "BUILDER_FOLLOWS"
"""Where a process that was started to follow finds the run folder."""
COMMAND: ContextVar[tuple[str, ...] | None] = ContextVar("COMMAND", default=None)
"""The words after `builder` that are being done, for those that are started to do the same; None for no command."""


class Follower:
    """Stands for a run in a process that follows: has its folder, and leaves all writing to the first process."""

    def __init__(self, path: pathlib.Path | None = None) -> None:
        """Follow the process that opened the folder; if it isn't known, what needs one gets an empty one."""
        self._own = tempfile.TemporaryDirectory(ignore_cleanup_errors=True) if path is None else None
        self.path = path or pathlib.Path(self._own.name if self._own is not None else ".")

    def write_text(self, name: str, text: str) -> None:
        """Nothing."""

    def write_json(self, name: str, value: Any) -> None:
        """Nothing."""

    def reach(self, epoch: int, step: int) -> None:
        """Nothing."""

    def afterwards(self, call: Callable[..., object]) -> None:
        """Nothing."""

    def keep_hash(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def seal(
        self,
        state: str,
        *,
        reason: str | None = None,
        epoch: int | None = None,
        step: int | None = None,
        metrics: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own is not None:
            self._own.cleanup()


def followed() -> pathlib.Path | None:
    """The run folder of the process that started this one to follow it; None if none did."""
    path = os.environ.get(VARIABLE)
    return None if path is None else pathlib.Path(path)


def end_with_leader() -> None:
    """From now on this process ends as soon as the one that started it has, however that ended."""
    threading.Thread(target=_wait_for_end, args=(sys.stdin.fileno(),), name="leader", daemon=True).start()


def _wait_for_end(pipe: int) -> None:
    while os.read(pipe, 1):  # past Python's buffer, whose lock would be held when this process ends by itself
        pass
    os._exit(1)


def command_line() -> list[str]:
    """The command line by which another process does what this one does.

    That of `builder`, or else that of the script which runs, by its own words.
    """
    words = COMMAND.get()
    if words is not None:
        return [sys.executable, "-m", "builder", *words]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    start: Sequence[str] = [os.path.abspath(sys.argv[0])] if spec is None else ["-m", spec.name]
    return [sys.executable, *start, *sys.argv[1:]]
