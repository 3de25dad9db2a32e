"""A composed config as YAML text that composes to the same config again."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from builder.config.scalars import MisreadScalar, plain_value
from builder.config.tree import has_interpolation, locate
from builder.errors import Path

if TYPE_CHECKING:
    from builder.config.compose import Composed

_ODD = frozenset("\x85\u2028\u2029\ufeff\r")


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, texts that read as something else in quotes, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value out."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=_style(value))


def _style(value: str) -> str | None:
    if _ODD & set(value):
        return '"'
    if "\n" in value:
        return "|"
    try:
        return None if plain_value(value) == value else "'"
    except MisreadScalar:
        return "'"


_Dumper.add_representer(str, _text)


def saved_yaml(composed: Composed) -> str:
    """The config with its interpolations as they were written, so that what they stand for isn't in the text."""
    return dump_yaml(composed.unresolved)


def pinned(composed: Composed, texts: Iterable[tuple[Path, str]]) -> Composed:
    """The config with texts in the place of others, where what was written may mean something else later.

    A text that refers to others stays as it is.
    """
    unresolved, values = copy.deepcopy(composed.unresolved), copy.deepcopy(composed.values)
    for path, text in texts:
        if not has_interpolation(locate(unresolved, [str(key) for key in path])[1]):
            _put(unresolved, path, text)
            _put(values, path, text)
    return replace(composed, unresolved=unresolved, values=values)


def may_hold_secrets(composed: Composed) -> bool:
    """Whether a value of the model, or a rule for its weights, may have come from the environment: it refers to others,
    and one of all does.
    """
    described = [composed.unresolved["model"], composed.unresolved.get("init")]
    return _mentions(described, "${") and _mentions(composed.unresolved, "oc.env")


def with_references(model: dict[str, Any], composed: Composed) -> dict[str, Any]:
    """The model with its sizes filled in, for saving: what may have come from the environment stays a reference.

    Where the config refers to the environment, all references in the model stay, and so do the formulas of its
    arguments, which may compute with them.
    """
    if not may_hold_secrets(composed):
        return model
    written = composed.unresolved["model"]
    for path, text in _texts(written):
        is_formula = path[:1] == ("args",) and text.startswith("=")
        if has_interpolation(text) or is_formula:
            _put(model, path, text)
    rules = composed.unresolved.get("init")
    if rules and _mentions(rules, "${"):  # those of the section come after the model's own
        model["init"][-len(rules) :] = rules
    return model


def _put(model: Any, path: Path, text: str) -> None:
    container: Any
    found, container = locate(model, [str(key) for key in path[:-1]])
    if len(found) == len(path) - 1 and not isinstance(container, str):
        container[path[-1]] = text


def _mentions(value: Any, word: str) -> bool:
    return any(word in text for _, text in _texts(value))


def _texts(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """All texts in a value, each with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*path, key))


def dump_yaml(value: Any) -> str:
    """Plain values as YAML that reads back the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)
