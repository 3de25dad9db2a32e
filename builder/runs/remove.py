"""Deletes run folders, and nothing else."""

from __future__ import annotations

import os
import pathlib
import shutil

from builder.durable import sync_folder, told
from builder.errors import RunError, UsageError
from builder.runs.lock import Lock
from builder.runs.record import CONFIG
from builder.runs.status import FILE, status


def removable(run: pathlib.Path) -> int:
    """The bytes that deleting a run would free.

    Raises:
        UsageError: it is no run folder, or a link to one.
        RunError: it is running, or can't be read.
    """
    if run.is_symlink():
        raise UsageError(f"{run} is a link to {os.readlink(run)}; name the folder itself")
    missing = [name for name in (FILE, CONFIG) if not (run / name).is_file()]
    if missing:
        raise UsageError(f"{run} is not a run folder: it holds no {' and no '.join(missing)}")
    found = status(run)
    if found.state == "running":
        raise RunError(f"{run} is running, as process {found.process.pid} on {found.process.host}; stop it first")
    Lock(run).release()
    return sum(path.lstat().st_size for path in run.rglob("*") if path.is_symlink() or path.is_file())


def remove(run: pathlib.Path) -> None:
    """Delete a run folder. It loses its name first, so that killed half way nothing is left that looks like a run.

    Raises:
        UsageError: it is no run folder.
        RunError: it is in use, or the system refuses.
    """
    removable(run)
    lock = Lock(run)
    try:
        with told("delete", run):
            run = run.resolve()
            hidden = run.with_name(f".{run.name}.deleted")
            os.rename(run, hidden)
            sync_folder(run.parent)
            shutil.rmtree(hidden)
    finally:
        lock.release()
