"""The folder of a sweep: where it lies, and what it knows of its sweep in `sweep.json`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from builder.durable import told
from builder.errors import ConfigError, Fault, RunError, UsageError, nearest
from builder.runs.folder import check_name
from builder.sweep.settings import Settings

FILE = "sweep.json"
"""What a sweep's folder knows of it: its words and its study. It is there before all else."""
FOLDER = "sweeps"


def is_sweep_folder(folder: Path) -> bool:
    """Whether a sweep was begun in a folder."""
    return (folder / FILE).is_file()


def new_folder(settings: Settings) -> Path:
    """The folder of a new sweep, which isn't there yet, or is left empty by one that was killed as it began.

    Raises:
        ConfigError: its name can't be one, or is taken.
    """
    place = ("sweep", "name")
    name = settings.section["name"]
    if name is not None:
        check_name(name, settings.origins.of(place))
    else:
        name = f"{settings.experiment}_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    folder = Path(settings.output_dir) / FOLDER / name
    if not _is_taken(folder):
        return folder
    if settings.section["name"] is None:
        number = next(n for n in range(2, 10_000) if not folder.with_name(f"{name}_{n}").exists())
        return folder.with_name(f"{name}_{number}")
    hint = f"builder sweep resume {folder}" if is_sweep_folder(folder) else "give it another name"
    raise ConfigError(Fault(f"{folder} is there already", place, settings.origins.of(place), name, hint=hint))


def _is_taken(folder: Path) -> bool:
    if not folder.is_dir():
        return folder.exists() or folder.is_symlink()
    return not all(path.name.startswith(".") for path in folder.iterdir())  # its lock, or a file half written


def read_sweep(folder: Path) -> dict[str, Any]:
    """What a sweep's folder knows of it.

    Raises:
        UsageError: it holds no sweep; names those that are near.
    """
    if not is_sweep_folder(folder):
        beside = [path.parent for path in folder.parent.glob(f"*/{FILE}")] if folder.parent.is_dir() else []
        near = nearest(folder.name, [path.name for path in beside])
        asked = f"; did you mean {' or '.join(repr(str(folder.parent / name)) for name in near)}?" if near else ""
        raise UsageError(f"{folder} is no sweep's folder: it holds no {FILE}{asked}")
    with told("read", folder / FILE):
        text = (folder / FILE).read_text(encoding="utf-8")
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        raise RunError(f"cannot read {folder / FILE}: it is damaged") from None
    return found
