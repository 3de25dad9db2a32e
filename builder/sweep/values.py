"""A value of a search space as the text that an override says it with."""

from __future__ import annotations

import re
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

_PLAIN = re.compile(r"[A-Za-z_/][\w/.@-]*")
_WORDS = {"true", "false", "null", "nan", "inf"}

Label = str | int | float | bool | None
"""What a study calls a choice."""


def written(value: Any) -> str:
    """A value as Hydra's grammar reads it back: the same type, the same bits."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, QuotedString):
        return value.with_quotes()
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{written(key)}:{written(item)}" for key, item in value.items()) + "}"
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return QuotedString(text, Quote.single).with_quotes()


def label(value: Any) -> Label:
    """A value as a study may call it: itself if it is a number, a text, a truth value or null, else its text."""
    if isinstance(value, QuotedString):
        return str(value.text)
    return value if value is None or isinstance(value, bool | int | float | str) else written(value)
