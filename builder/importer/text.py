"""A definition of plain values as YAML that a person would have written so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

WIDTH = 120
NESTED = ("layers", "forward", "blocks", "parameters", "buffers")


def yaml_text(raw: dict[str, Any], comments: list[str]) -> str:
    """The text of a file: comments at its top, one layer a line where that fits."""
    return "\n".join([*(f"# {line}" if line else "#" for line in comments), *_mapping(raw, 0)]) + "\n"


def _mapping(raw: dict[str, Any], indent: int) -> Iterator[str]:
    for key, value in raw.items():
        yield from _entry(f"{' ' * indent}{_flow(key)}:", value, indent)


def _entry(head: str, value: Any, indent: int) -> Iterator[str]:
    if isinstance(value, str) and "\n" not in value and head.strip() == "forward:" and _is_plain(value):
        yield f"{head} {value}"
    elif isinstance(value, str) and ("\n" in value or head.strip() == "forward:"):
        yield f"{head} |"
        yield from (" " * (indent + 2) + line for line in value.split("\n"))
    elif isinstance(value, dict) and value and not _fits(head, value):
        yield head
        yield from _mapping(value, indent + 2)
    elif isinstance(value, list) and value and not _fits(head, value):
        yield head
        for item in value:
            yield from _item(item, indent + 2)
    else:
        yield f"{head} {_flow(value)}"


def _item(item: Any, indent: int) -> Iterator[str]:
    head = " " * indent + "-"
    if not isinstance(item, dict) or _fits(head, item):
        yield f"{head} {_flow(item)}"
        return
    first, *rest = _mapping(item, indent + 2)
    yield f"{head} {first.lstrip()}"
    yield from rest


def _is_plain(text: str) -> bool:
    """Whether a text reads back as itself where it stands after a key."""
    try:
        return bool(yaml.safe_load(f"k: {text}") == {"k": text})
    except yaml.YAMLError:
        return False


def _fits(head: str, value: Any) -> bool:
    """Whether a value stands on the line of its key: it is short, and holds no definition."""
    return not _is_deep(value) and len(head) + 1 + len(_flow(value)) <= WIDTH


def _is_deep(value: Any) -> bool:
    if isinstance(value, dict):
        inside = value.get("layers", ())
        own = "forward" in value or "parameters" in value or len(inside) > 3
        return own or any(isinstance(item, str) and "\n" in item or _is_deep(item) for item in value.values())
    return isinstance(value, list) and any(map(_is_deep, value))


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text or "inf" in text or "nan" in text else text.replace("e", ".0e")
    dumped = yaml.safe_dump([value], default_flow_style=True, width=10**9, allow_unicode=True).strip()
    return dumped[1:-1].strip()
