"""Names in messages: a few of many, and the shortest patterns for them."""

from __future__ import annotations

from collections.abc import Iterable

from builder.errors import printable
from builder.weights.collapse import collapsed_names

SHOWN = 6


def listed(names: Iterable[str], shown: int = SHOWN) -> str:
    """Names on one line, layers that repeat collapsed, no more than a few."""
    return few(collapsed_names(names), shown)


def few(texts: list[str], shown: int = SHOWN) -> str:
    """Texts on one line, no more than a few."""
    more = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return printable(", ".join(texts[:shown])) + more


def covering(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Patterns that cover these names and none of the others: the shortest beginnings."""
    taken = {each[:end] for each in others for end in _ends(each)}
    found = (next((name[:end] for end in _ends(name) if name[:end] not in taken), name) for name in names)
    return list(dict.fromkeys(found))


def _ends(name: str) -> list[int]:
    """Where the segments of a dotted name end."""
    return [index for index, char in enumerate(name) if char == "."] + [len(name)]
