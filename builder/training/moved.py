"""What callbacks know of files when a run goes on: they lie where it lies now, and later ones aren't there yet."""

from __future__ import annotations

from pathlib import Path as Folder
from typing import Any

import pytorch_lightning as pl


def moved(value: Any, before: str, now: str) -> Any:
    """Nested plain values in which all paths in the folder `before` are such in the folder `now`."""
    if isinstance(value, str):
        return now + value.removeprefix(before) if value.startswith(before) else value
    if isinstance(value, dict):
        return {moved(key, before, now): moved(item, before, now) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(moved(item, before, now) for item in value)
    return value


def forget_later_files(callback: Any, known: list[str] | None) -> None:
    """Let a ModelCheckpoint take files that came after the checkpoint for gone: it would number its own otherwise."""
    names, exists = set(known or ()), callback.file_exists
    seen: set[str] = set()

    def file_exists(path: Any, trainer: pl.Trainer) -> bool:
        name = Folder(path).name
        here: bool = (name in names or name in seen) and exists(path, trainer)
        seen.add(name)
        return here

    callback.file_exists = file_exists
