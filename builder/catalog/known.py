"""What is known of callbacks and loggers without importing them, which takes longer than importing PyTorch.

`known.json` lists their arguments. Where a section is surely fine by it, nothing needs to be imported to say so. Of all
else nothing is said: then they are imported and asked. The file is written by `python -m builder.training.known_parts`;
it counts only for the versions that it was written with.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from builder.registry import Registry

FILE = Path(__file__).with_name("known.json")
LIBRARIES = ("pytorch-lightning", "torchmetrics")
KINDS: dict[type, str] = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str"}
"""The plain values that are judged here."""


class NotKnown(Exception):
    """It takes the library itself to tell whether this is fine."""


def versions() -> dict[str, str]:
    """The installed versions of the libraries that the file is about."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


@functools.cache
def _read() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(FILE.read_text())
    return found


def require_versions() -> None:
    """See that what is known is about what is installed.

    Raises:
        NotKnown: it is about other versions.
    """
    if _read()["versions"] != versions():
        raise NotKnown(f"{FILE.name} is about {_read()['versions']}")


def require_fine(
    registry: Registry, section: Mapping[str, Any] | None, metrics: Collection[str], provided: Collection[str]
) -> None:
    """See that each part of a section is surely one that the registry holds, with arguments that it takes.

    Args:
        registry: that of callbacks or of loggers.
        section: parts by name, each with its `type`; null leaves one out.
        metrics: what a `monitor` may be.
        provided: arguments that the builder fills in where they are left out.

    Raises:
        NotKnown: it isn't known of one.
    """
    for part in (section or {}).values():
        if part is not None:
            _require_fine(registry, part, metrics, provided)


def _require_fine(registry: Registry, part: Any, metrics: Collection[str], provided: Collection[str]) -> None:
    part = {"type": part} if isinstance(part, str) else part
    name = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(name, str):
        raise NotKnown(f"a {registry.kind} without a type")
    known = _read()[registry.kind].get(name)
    if known is None or registry.added(name):
        raise NotKnown(f"{registry.kind} {name!r}")
    arguments = {key: value for key, value in part.items() if key != "type"}
    if missing := set(known["required"]) - arguments.keys() - set(provided):
        raise NotKnown(f"{name} without {', '.join(sorted(missing))}")
    for key, value in arguments.items():
        if KINDS.get(type(value)) not in known["arguments"].get(key, "").split() or not _stays(value):
            raise NotKnown(f"{name} with {key}={value!r}")
    if arguments.get("monitor") not in (None, *metrics):
        raise NotKnown(f"{name} that watches {arguments['monitor']!r}")


def _stays(value: Any) -> bool:
    """Whether a value is no path that could lead out of the run folder."""
    return not isinstance(value, str) or not ({*"\\:~\0"} & {*value} or ".." in value or value.startswith("/"))
