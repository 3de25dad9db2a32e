"""Overrides in Hydra's grammar: `key=value`, `+key=value`, `++key=value`, `~key`, and `group=choice`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.config.hydra_rules import hydra_rules
from builder.config.origin import Origins
from builder.config.scalars import MisreadScalar, checked_number
from builder.config.schema_keys import Unknown, unknown_in
from builder.config.shorthand import write_out
from builder.config.tree import MISSING, forget, kind, locate, merge, step
from builder.config.yaml_file import MAX_DEPTH
from builder.errors import ConfigError, Fault, Origin, Path, dotted, nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override as HydraOverride

MAX_LENGTH = 10_000
"""The longest override that is read, in characters."""

_FORMS = "key=value, group=choice, +key=value, ++key=value or ~key"


@dataclass(frozen=True, slots=True)
class ValueOverride:
    """One override of a value: where, what, and how (`''`, `'+'`, `'++'` or `'~'`)."""

    text: str
    names: tuple[str, ...]
    value: Any
    how: str

    @property
    def origin(self) -> Origin:
        """The origin of all that it sets."""
        return Origin(override=self.text)


def parse(texts: Sequence[str], faults: list[Fault]) -> list[HydraOverride]:
    """The overrides that are well written; what is wrong with the others goes to `faults`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    found = []
    with hydra_rules():
        for text in texts:
            try:
                found.append(_parsed(parser, text))
            except ConfigError as error:
                faults.extend(error.faults)
    return found


def _parsed(parser: Any, text: str) -> HydraOverride:
    from hydra.errors import HydraException

    origin = Origin(override=text if len(text) <= MAX_LENGTH else text[:60] + "…")
    if len(text) > MAX_LENGTH or max(text.count("["), text.count("{"), text.count("(")) > MAX_LENGTH // 10:
        raise ConfigError(Fault("too long an override", origin=origin, expected=f"at most {MAX_LENGTH:,} characters"))
    try:
        override = parser.parse_override(text)
        if not override.key_or_group:
            raise ConfigError(Fault("not an override", origin=origin, expected=_FORMS))
        if override.is_sweep_override():
            hint = "a list is written key=[1,2], a text in quotes: key='1,2'; `train -m` and `sweep` train with each"
            raise ConfigError(Fault("several values, where one config takes one", origin=origin, hint=hint))
        _check_value(override.value(), origin, 0)
    except (HydraException, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(_bad_syntax(text, origin, error)) from None
    return override


def _bad_syntax(text: str, origin: Origin, error: Exception) -> Fault:
    cause = error.__cause__
    at = getattr(cause, "startIndex", None)
    if at is None:
        at = getattr(getattr(cause, "offendingToken", None), "column", None)
    if isinstance(at, int) and 0 <= at < len(text):
        key, _, value = text.partition("=")
        plain = 0 < len(key) < at and len(text) < 80 and not set(value) & set("'\"\\")
        shown = f"{key}='{value}'" if plain else "key='a: b'"
        hint = f'quote a value that holds special characters, and all of it for the shell: "{shown}"'
        return Fault("not an override", origin=origin, found=text[at:], expected=_FORMS, hint=hint)
    said = str(error).strip().splitlines() or [""]
    unread = re.search(r"at input '(.*)'", said[0])
    if unread is not None or "=" not in text:
        return Fault("not an override", origin=origin, found=unread and unread[1], expected=_FORMS)
    reason = said[0].rpartition("': ")[2]
    return Fault(f"not an override: {reason}", origin=origin, expected=_FORMS)


def _check_value(value: Any, origin: Origin, depth: int) -> None:
    """Refuse in an override what is refused in a file."""
    if depth > MAX_DEPTH:
        raise ConfigError(Fault("nested too deeply", origin=origin, expected=f"at most {MAX_DEPTH} levels"))
    if isinstance(value, (int, float)):
        try:
            checked_number(value)
        except MisreadScalar as error:
            raise ConfigError(Fault(error.message, origin=origin, hint=error.hint)) from None
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                expected = "a text or a whole number"
                raise ConfigError(Fault("not a key", origin=origin, found=key, expected=expected))
            _check_value(item, origin, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_value(item, origin, depth + 1)


def value_override(override: HydraOverride, groups: Sequence[str], faults: list[Fault]) -> ValueOverride | None:
    """An override of Hydra's that isn't of a group as one of a value; a fault if it means a group that there isn't."""
    text = override.input_line or ""
    key = override.key_or_group
    if re.split(r"[./]", key)[0] == "hydra":
        hint = "Hydra's own settings have no use here; 'output_dir' says where runs lie"
        faults.append(Fault("can't be given here", (key,), Origin(override=text), hint=hint))
        return None
    if override.package is not None or "/" in key:
        name = key.split("/")[0]
        near = nearest(key, groups) or nearest(name, groups)
        expected = None if near else f"one of {', '.join(groups)}"
        faults.append(
            Fault("no such config group", origin=Origin(override=text), found=key, expected=expected, nearest=near)
        )
        return None
    how = "~" if override.is_delete() else "+" if override.is_add() else "++" if override.is_force_add() else ""
    return ValueOverride(text, tuple(key.split(".")), override.value(), how)


def apply(override: ValueOverride, config: dict[Any, Any], origins: Origins, faults: list[Fault]) -> None:
    """Change `config` and `origins` as an override says; what is wrong with it goes to `faults`."""
    if override.how != "~":
        write_out(config, override.names, override.value, origins)
    path, node = locate(config, override.names)
    exists = len(path) == len(override.names)
    if override.how == "~":
        _delete(override, config, origins, faults) if exists else faults.append(_unknown(override, config))
        return
    if override.how == "+" and exists and not isinstance(override.value, (dict, list)):
        hint = f"write '{override.text.removeprefix('+')}' to change it"
        faults.append(Fault("there already", path, override.origin, hint=hint))
        return
    if not exists and not isinstance(node, dict) and node is not None:
        faults.append(_not_a_mapping(override, path, node))
        return
    unknown = list(_unknown_keys(override, config)) if override.how == "" else []
    if unknown:
        faults.extend(unknown)
        return
    _set(override, config, origins, faults)


def _unknown_keys(override: ValueOverride, config: dict[Any, Any]) -> list[Fault]:
    found = unknown_in(config, override.names, override.value)
    return [_unknown_fault(override, unknown) for unknown in found]


def _unknown(override: ValueOverride, config: dict[Any, Any]) -> Fault:
    path, node = locate(config, override.names)
    keys = [str(key) for key in node] if isinstance(node, dict) else []
    return _unknown_fault(override, Unknown((*path, override.names[len(path)]), keys, False))


def _unknown_fault(override: ValueOverride, unknown: Unknown) -> Fault:
    near = nearest(unknown.path[-1], unknown.candidates)
    listed = f"one of {', '.join(unknown.candidates)}" if unknown.candidates else "nothing: there are no keys here"
    expected = None if near or len(unknown.candidates) > 15 else listed
    hint = f"write '+{override.text}' to add it" if unknown.addable else None
    return Fault("unknown key", unknown.path, override.origin, expected=expected, nearest=near, hint=hint)


def _not_a_mapping(override: ValueOverride, path: Path, node: Any) -> Fault:
    below = ".".join(override.names[len(path) :])
    if isinstance(node, list):
        expected = f"an index from 0 to {len(node) - 1}" if node else "nothing: the list is empty"
        return Fault("no such item", path, override.origin, found=override.names[len(path)], expected=expected)
    expected = f"a mapping, to hold {below!r}"
    type_ = node if str(node).isidentifier() else "…"
    end = "…" if type_ == node else f"{below}: …"
    hint = f"give it whole: {dotted(path)}={{type: {type_}, {end}}}" if kind(node) == "a text" else None
    return Fault(f"{kind(node)} stands here", path, override.origin, found=node, expected=expected, hint=hint)


def _delete(override: ValueOverride, config: dict[Any, Any], origins: Origins, faults: list[Fault]) -> None:
    path, value = locate(config, override.names)
    parent = locate(config, override.names[:-1])[1]
    if isinstance(parent, list):
        hint = "give the whole list anew"
        faults.append(Fault("an item of a list can't be removed", path, override.origin, hint=hint))
    elif override.value is not None and override.value != value:
        expected = f"{override.value!r}, to be removed"
        faults.append(Fault("another value stands here", path, override.origin, found=value, expected=expected))
    else:
        forget(value, path, origins)
        origins.discard(path)
        del parent[path[-1]]


def _set(override: ValueOverride, config: dict[Any, Any], origins: Origins, faults: list[Fault]) -> None:
    """Set a value, making the mappings above it; a mapping is merged."""
    node: Any = config
    path: Path = ()
    for name in override.names[:-1]:
        key = _key(node, name)
        path = (*path, key)
        if key not in _keys(node) or node[key] is None:
            node[key] = {}
            origins.set(path, override.origin)
        node = node[key]
    key = _key(node, override.names[-1])
    path = (*path, key)
    old = node[key] if key in _keys(node) else None
    if override.value == MISSING:
        forget(old, path, origins)
        origins.set(path, override.origin)
        node[key] = MISSING
    else:
        node[key] = merge(old, override.value, path, origins, lambda _: override.origin, faults)


def _key(container: Any, name: str) -> str | int:
    """The key or index that a name means; the name itself if it is new."""
    key = step(container, name)
    return name if key is None else key


def _keys(container: Any) -> Any:
    return range(len(container)) if isinstance(container, list) else container
