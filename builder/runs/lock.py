"""One process at a time in a run folder."""

from __future__ import annotations

import errno
import fcntl
import pathlib

from builder.durable import told
from builder.errors import RunError

FILE = ".lock"

_held: set[pathlib.Path] = set()
"""Folders locked by this process. The system would let it lock them again, and drop the lock at the first close."""


class Lock:
    """A POSIX record lock on a run folder, held until `release` or until the process is gone, however it ends.

    `lockf`, not `flock`: a forked data loader worker doesn't inherit it, so the folder is free when its owner dies.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        """Take the lock.

        Raises:
            RunError: another process holds it, or the system has no locks here.
        """
        self._folder = folder.resolve()
        if self._folder in _held:
            raise RunError(f"{folder} is in use by this process")
        with told("lock", folder):
            self._file = open(self._folder / FILE, "a+")  # noqa: SIM115 (open for as long as the lock is held)
        try:
            self._take(folder)
        except BaseException:
            self._file.close()
            raise
        _held.add(self._folder)

    def _take(self, folder: pathlib.Path) -> None:
        with told("lock", folder):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise RunError(f"{folder} is in use by another process") from None
                raise

    def release(self) -> None:
        """Give the lock back; a second time does nothing."""
        self._file.close()
        _held.discard(self._folder)
