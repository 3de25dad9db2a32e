"""Where a `path` points: to a file or folder, or with `run:` to a checkpoint of a run."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable

from builder.errors import BuilderError, nearest
from builder.weights.entries import WeightsError

RUN = "run:"
ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
SUFFIX = ".ckpt"
CHECKPOINTS = "checkpoints"
FORM = "run:FOLDER@best, @last or @FILE"

FindRun = Callable[[str], pathlib.Path]
"""From a run's folder, name or hash to its folder; raises a BuilderError."""


def misspelt(path: str) -> str | None:
    """What is wrong with the text of a path; one clause, None if nothing is."""
    if ADDRESS.match(path):
        return "addresses aren't fetched; fetch the file, and give its path"
    if not path.startswith(RUN):
        return None if path else "it is empty"
    name, at, which = path.removeprefix(RUN).rpartition("@")
    if at and name and which and pathlib.PurePath(which).name == which:
        return None
    return "it doesn't say which checkpoint of the run"


def located(path: str, find_run: FindRun | None) -> pathlib.Path:
    """The file or folder that a path names.

    Raises:
        WeightsError: there is no such run, or it has no such checkpoint; names those that it has.
    """
    problem = misspelt(path)
    if problem is not None:
        raise WeightsError(f"{path!r} can't be used: {problem}", f"write {FORM}" if path.startswith(RUN) else None)
    if not path.startswith(RUN):
        return pathlib.Path(path)
    folder, which = _run(path, find_run)
    return _checkpoint(folder / CHECKPOINTS, which)


def settled(path: str, find_run: FindRun | None) -> str:
    """The same path with the folder of the run in the place of its name, so that later runs don't change it.

    Raises:
        WeightsError: as `located` does.
    """
    located(path, find_run)
    if not path.startswith(RUN):
        return path
    folder, which = _run(path, find_run)
    return f"{RUN}{folder}@{which}"


def _run(path: str, find_run: FindRun | None) -> tuple[pathlib.Path, str]:
    """The folder of the run that a path names, and which checkpoint it asks for."""
    if find_run is None:
        raise WeightsError(f"{path!r} can't be used: runs aren't looked up here", "give the path of the checkpoint")
    name, _, which = path.removeprefix(RUN).rpartition("@")
    try:
        return find_run(name), which
    except BuilderError as error:
        raise WeightsError(str(error)) from error


def _checkpoint(folder: pathlib.Path, which: str) -> pathlib.Path:
    for name in (which, which + SUFFIX):
        if (folder / name).is_file():
            return folder / name
    there = sorted(path.name for path in folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    near = nearest(which, [name.removesuffix(SUFFIX) for name in there])
    asked = f"; did you mean {' or '.join(f'@{name}' for name in near)}?" if near else ""
    hint = f"there are {', '.join(there)}" if there else "it has no checkpoints"
    raise WeightsError(f"there is no checkpoint {which!r} in {folder}{asked}", hint)
