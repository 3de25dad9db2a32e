"""Arguments that were written for a `type` which a later file or override changed.

Whether the new type takes them isn't known here: `builder.settle` looks, and drops those that it doesn't.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from builder.config.origin import Origins
from builder.config.tree import has_interpolation, locate
from builder.errors import Origin, Path


@dataclass(frozen=True, slots=True)
class Superseded:
    """An argument at `path` of the mapping at `owner`, whose `type` was another when the argument was written."""

    owner: Path
    path: Path


@dataclass(slots=True)
class Types:
    """The types of a config that is being composed, layer after layer: file after file, then all overrides."""

    _types: dict[Any, dict[Path, str]] = field(default_factory=dict)
    _origins: dict[Any, dict[Path, tuple[Origin, ...]]] = field(default_factory=dict)
    _found: dict[Path, Superseded] = field(default_factory=dict)

    def note(self, config: dict[Any, Any], origins: Origins, sections: Iterable[Any]) -> None:
        """Look at the config after a layer was merged onto it that may have changed these sections of it."""
        for section in sections:
            if section in config:
                self._note(section, config[section], origins)

    def _note(self, section: Any, value: Any, origins: Origins) -> None:
        types: dict[Path, str] = {}
        written: dict[Path, tuple[Origin, ...]] = {}
        types_before, written_before = self._types.get(section, {}), self._origins.get(section, {})
        for owner, mapping in _typed(value, (section,)):
            types[owner] = mapping["type"]
            changed = types_before.get(owner, types[owner]) != types[owner]
            for path, value in _arguments(owner, mapping):
                written[path] = tuple(_origins(value, path, origins))
                if written_before.get(path) != written[path]:
                    self._found.pop(path, None)
                elif changed:
                    self._found[path] = Superseded(owner, path)
        self._types[section], self._origins[section] = types, written

    def superseded(self, config: dict[Any, Any]) -> tuple[Superseded, ...]:
        """What is left of all that was found."""
        return tuple(item for item in self._found.values() if _is_there(config, item.path))


def _typed(value: Any, path: Path) -> Iterator[tuple[Path, dict[Any, Any]]]:
    """The mappings that name a type."""
    if isinstance(value, dict) and isinstance(value.get("type"), str) and not has_interpolation(value["type"]):
        yield path, value
    for key, item in _items(value):
        yield from _typed(item, (*path, key))


def _arguments(owner: Path, mapping: dict[Any, Any]) -> Iterator[tuple[Path, Any]]:
    """What stands beside a type; of a layer's `args`, what stands in there."""
    for key, value in mapping.items():
        if key == "args" and owner[0] == "model" and isinstance(value, dict):
            yield from (((*owner, key, name), item) for name, item in value.items())
        elif key != "type":
            yield (*owner, key), value


def _origins(value: Any, path: Path, origins: Origins) -> Iterator[Origin]:
    yield origins.of(path)
    for key, item in _items(value):
        yield from _origins(item, (*path, key), origins)


def _items(value: Any) -> Any:
    return value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()


def _is_there(config: dict[Any, Any], path: Path) -> bool:
    return len(locate(config, [str(key) for key in path])[0]) == len(path)
