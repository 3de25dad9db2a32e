"""A composed config as YAML text that composes to the same config again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from builder.config.scalars import MisreadScalar, plain_value

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


def dump_yaml(value: Any) -> str:
    """Plain values as YAML that reads back the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)
