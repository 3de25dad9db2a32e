"""Which value a plain (unquoted) YAML text stands for: YAML 1.2's core schema, less what is easily misread."""

from __future__ import annotations

import math
import re

LARGEST = 2**63 - 1
"""The largest integer of a config, either way from zero."""

_NULLS = ("", "~", "null", "Null", "NULL")
_BOOLEANS = {
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NON_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_ALMOST_NUMBER = re.compile(r"[-+]?(0b[01_]+|0[xo][0-9a-fA-F_]+|[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9_]+)?)")


class MisreadScalar(ValueError):
    """A plain text that readers of YAML disagree on, or a number that no config can need."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def plain_value(text: str) -> None | bool | int | float | str:
    """The value of an unquoted scalar.

    `on`, `yes`, `12:30` and `2020-01-01` are texts.

    Raises:
        MisreadScalar: it is a number with a leading zero or underscores, not finite, or too large.
    """
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] not in "-+.0123456789":
        return text
    return _number(text)


def _number(text: str) -> int | float | str:
    if _DECIMAL.fullmatch(text):
        digits = text.lstrip("+-")
        if len(digits) > 1 and digits[0] == "0":
            raise MisreadScalar("a number with a leading zero", _leading_zero_hint(text, digits))
        return checked_number(int(text) if len(digits) < 20 else LARGEST + 1)
    if _BASED.fullmatch(text):
        return checked_number(int(text, 0) if len(text) < 40 else LARGEST + 1)
    if _FLOAT.fullmatch(text):
        return checked_number(float(text))
    if _NON_FINITE.fullmatch(text):
        return checked_number(math.inf)
    if "_" in text and _ALMOST_NUMBER.fullmatch(text):
        raise MisreadScalar("a number with underscores", f"write {text.replace('_', '')}, or '{text}' for text")
    if text.startswith("0b") and _ALMOST_NUMBER.fullmatch(text):
        raise MisreadScalar("a binary number", f"write it in decimal, or '{text}' for text")
    return text


def _leading_zero_hint(text: str, digits: str) -> str:
    sign = text[: len(text) - len(digits)]
    plain = digits.lstrip("0") or "0"
    octal = f" 0o{plain} for octal," if not sign and set(digits) <= set("01234567") else ""
    return f"write {sign}{plain} for the number,{octal} '{text}' for text"


def checked_number(value: int | float) -> int | float:
    """The number itself.

    Raises:
        MisreadScalar: it isn't finite, or is an integer beyond 64 bits.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise MisreadScalar("not a finite number", "a config holds finite numbers that fit 64 bits")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise MisreadScalar("too large a number", "a config holds finite numbers that fit 64 bits")
    return value
