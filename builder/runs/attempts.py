"""`attempts/`: a file for each time that a run was begun or went on, with what was changed and what differed."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

from builder.durable import told, write_json
from builder.errors import RunError

FOLDER = "attempts"
_NAME = re.compile(r"(\d{3,})\.json")


def attempts(run: pathlib.Path) -> list[dict[str, Any]]:
    """All attempts at a run in their order.

    Raises:
        RunError: one can't be read.
    """
    return [_read(path) for path in _paths(run)]


def add(run: pathlib.Path, attempt: dict[str, Any]) -> pathlib.Path:
    """Write a new one; its path.

    Raises:
        RunError: the system refuses.
    """
    numbers = [int(path.stem) for path in _paths(run)]
    path = run / FOLDER / f"{max(numbers, default=0) + 1:03d}.json"
    write_json(path, attempt)
    return path


def trained_together(run: pathlib.Path) -> bool:
    """Whether a run was trained as a part of several (a sweep's executor `vmap`): it can't be gone on with.

    Raises:
        RunError: an attempt can't be read.
    """
    return any(attempt.get("together") for attempt in attempts(run)[:1])


def _paths(run: pathlib.Path) -> list[pathlib.Path]:
    folder = run / FOLDER
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.stem))


def _read(path: pathlib.Path) -> dict[str, Any]:
    with told("read", path):
        text = path.read_text(encoding="utf-8")
    try:
        value = json.loads(text)
    except ValueError:
        raise RunError(f"cannot read {path}: it is damaged") from None
    if not isinstance(value, dict):
        raise RunError(f"cannot read {path}: it is damaged")
    return value
