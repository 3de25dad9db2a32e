"""Plain values as one text, beside the tensors in them: a file of thousands of single values takes long to write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PLAIN = (str, int, float, bool, type(None))
KEPT = "kept"
"""What stands in the text for a value that JSON can't hold as it is; its value is the index in the list of these."""


def packed(value: Any) -> dict[str, Any]:
    """A nest of mappings and lists as JSON (`text`) and a list of what JSON would change, tensors above all (`kept`).

    `unpacked` gives the same again: types, the order of keys, and floats to the bit.
    """
    kept: list[Any] = []
    text = json.dumps(_without(value, kept), separators=(",", ":"))
    return {"text": text, KEPT: kept}


def unpacked(saved: Mapping[str, Any]) -> Any:
    """What `packed` was given."""
    return _with(json.loads(saved["text"]), saved[KEPT])


def _without(value: Any, kept: list[Any]) -> Any:
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is list:
        return [_without(item, kept) for item in value]
    if kind is dict and KEPT not in value and all(type(key) is str for key in value):
        return {key: _without(item, kept) for key, item in value.items()}
    kept.append(value)
    return {KEPT: len(kept) - 1}


def _with(value: Any, kept: list[Any]) -> Any:
    if type(value) is list:
        return [_with(item, kept) for item in value]
    if type(value) is dict:
        return kept[value[KEPT]] if KEPT in value else {key: _with(item, kept) for key, item in value.items()}
    return value
