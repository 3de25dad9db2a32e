"""Keeps what callbacks and loggers write inside of the run folder: a config names places in there, and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path as Folder
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from builder.catalog.component import Component
from builder.errors import Fault, Origin, Path

FOLDERS = ("dirpath", "save_dir", "root_dir", "dir")
"""Arguments of Lightning's callbacks and loggers that name a folder, for which the run folder stands otherwise."""

PROVIDED = {"callbacks": ("dirpath", "monitor"), "logger": ("save_dir",)}
"""Arguments that are filled in where a section leaves them out."""

LIGHTNING = ("pytorch_lightning", "builder")
"""Packages whose components are held to this; what users write themselves goes where it likes."""


def misplaced(component: Component, origin_of: Callable[[Path], Origin]) -> list[Fault]:
    """Faults of the arguments of a callback or logger that lead out of the run folder."""
    if component.target.__module__.partition(".")[0] not in LIGHTNING:
        return []
    return [
        Fault("leads out of the run folder", path, origin_of(path), text, "a path in the run folder, or a name")
        for path, text in _texts(component.arguments, component.path)
        if _leads_out(text)
    ]


def in_run(component: Component, run_dir: Folder) -> Component:
    """The component with its folders in the run folder: those that it names, and those that it leaves out."""
    if component.target.__module__.partition(".")[0] not in LIGHTNING:
        return component
    named = {key: str(run_dir / value) for key, value in component.arguments.items() if key in FOLDERS and value}
    return replace(component, arguments={**component.arguments, **named})


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        yield from _texts(item, (*path, key))


def _leads_out(text: str) -> bool:
    paths = PurePosixPath(text), PureWindowsPath(text)
    outside = any(path.anchor or ".." in path.parts for path in paths)
    return outside or "\0" in text or text.startswith(("~", "file:"))
