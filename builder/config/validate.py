"""Whether a composed config is one: known keys, the right types, values in range, nothing missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from builder.config.kinds import Field, Kind, Names, Node, Section, given
from builder.config.origin import Origins
from builder.config.schema import TOP
from builder.config.tree import has_interpolation, locate
from builder.errors import ConfigError, Fault, Path, nearest

if TYPE_CHECKING:
    from builder.config.compose import Composed


def validate(composed: Composed, section: str | None = None) -> None:
    """Check all sections of a config but the inside of `model` and the arguments of registered components.

    With `section` only that one is checked.

    Raises:
        ConfigError: all that is wrong with them.
    """
    faults = list(faults_of(composed.values, composed.origins))
    if section is not None:
        faults = [fault for fault in faults if fault.path[:1] == (section,)]
    if faults:
        raise ConfigError(*(_as_written(fault, composed) for fault in faults))


def _as_written(fault: Fault, composed: Composed) -> Fault:
    """A fault that shows an interpolation, not what it stands for, which may be a secret."""
    node = locate(composed.unresolved, [str(key) for key in fault.path])[1]
    return replace(fault, found=node) if fault.found is not None and has_interpolation(node) else fault


def faults_of(values: dict[str, Any], origins: Origins) -> Iterator[Fault]:
    """All that is wrong with a config's resolved values."""
    yield from _section(TOP, values, (), origins)


def _node(node: Node, value: Any, path: Path, origins: Origins) -> Iterator[Fault]:
    if path == ("model",):
        yield from _mapping_only(value, path, origins)
    elif isinstance(node, Field):
        yield from _field(node, value, path, origins)
    elif node.short is not None and node.short.accepts(value):
        return
    elif isinstance(node, Section):
        yield from _section(node, value, path, origins)
    else:
        yield from _names(node, value, path, origins)


def _mapping_only(value: Any, path: Path, origins: Origins, short: Kind | None = None) -> Iterator[Fault]:
    if not isinstance(value, dict):
        expected = "a mapping" if short is None else f"a mapping, or {short.expected}"
        yield _wrong(value, expected, path, origins)


def _field(field: Field, value: Any, path: Path, origins: Origins) -> Iterator[Fault]:
    if field.refused is not None:
        yield Fault("can't be given here", path, origins.of(path), hint=field.refused)
    elif not field.kind.accepts(value):
        yield _wrong(value, field.kind.expected, path, origins)


def _section(section: Section, value: Any, path: Path, origins: Origins) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield from _mapping_only(value, path, origins, section.short)
        return
    for key, item in value.items():
        if key in section.fields:
            yield from _node(section.fields[key], item, (*path, key), origins)
        elif not section.open:
            yield unknown_key(section, (*path, key), origins)
    for key, node in section.fields.items():
        if node.required and key not in value:
            yield Fault("missing", (*path, key), origins.of(path), expected=_expected(node))


def _names(names: Names, value: Any, path: Path, origins: Origins) -> Iterator[Fault]:
    yield from _mapping_only(value, path, origins)
    for key, item in value.items() if isinstance(value, dict) else ():
        yield from _node(names.of, item, (*path, key), origins)


def _wrong(value: Any, expected: str, path: Path, origins: Origins) -> Fault:
    if value is None:
        return Fault("null isn't allowed", path, origins.of(path), expected=expected)
    return Fault("wrong value", path, origins.of(path), value, expected)


def _expected(node: Node) -> str:
    return node.kind.expected if isinstance(node, Field) else node.doc


def unknown_key(section: Section, path: Path, origins: Origins) -> Fault:
    """The fault of a key that a section doesn't have."""
    valid = given(section)
    near = nearest(path[-1], valid)
    expected = None if near or len(valid) > 15 else f"one of {', '.join(valid)}"
    return Fault("unknown key", path, origins.of(path), expected=expected, nearest=near)
