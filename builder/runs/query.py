"""Conditions on runs: `optimizer.lr < 0.01 and val/accuracy > 0.9`, in the language of formulas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from builder.errors import UsageError, nearest
from builder.lang.arithmetic import FUNCTIONS
from builder.lang.formula import Formula, LangError, parse_formula
from builder.runs.record import ABSENT, FACTS, Record

_TEXT = r"'[^']*'|\"[^\"]*\""
_PART = r"[A-Za-z_]\w*(?:\[\d+\])*"
_NAME = rf"(?<![\w.]){_PART}(?:[./](?:{_PART}|\d+))*"
_TOKEN = re.compile(rf"(?P<text>{_TEXT})|(?P<name>{_NAME})(?P<call>\s*\()?|(?P<equals>(?<![<>=!])=(?!=))")
_WORDS = {"and", "or", "not", "in", "is", "if", "else", "for", "None", "True", "False"}
_YAML = {"null": "None", "true": "True", "false": "False"}
_SUGGESTED_FROM = 20
"""Runs whose whole configs are read to find a name like an unknown one."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on runs: its text, the formula, and what each of the formula's names stands for."""

    text: str
    formula: Formula
    names: dict[str, str]

    def holds(self, record: Record) -> bool:
        """Whether it holds for a run.

        Raises:
            LangError: what the run has can't be compared so.
        """
        found = {key: record.value(name) for key, name in self.names.items()}
        return bool(self.formula.evaluate({key: None if value is ABSENT else value for key, value in found.items()}))


def read_condition(text: str) -> Condition:
    """A condition as it is written on the command line.

    Facts, metrics and keys of configs stand by their names, `/` and all, so that a division needs spaces; `null`,
    `true` and `false` are YAML's.

    Raises:
        UsageError: it is none.
    """
    names: dict[str, str] = {}

    def put(match: re.Match[str]) -> str:
        name = match["name"]
        if match["equals"]:
            raise UsageError(f"--where {text!r}: '=' compares nothing; write '=='")
        if name is None or name in _WORDS or (match["call"] and name in FUNCTIONS):
            return match[0]
        if name in _YAML:
            return _YAML[name] + (match["call"] or "")
        key = next((key for key, known in names.items() if known == name), f"v{len(names)}")
        names[key] = name
        return key + (match["call"] or "")

    try:
        formula = parse_formula(_TOKEN.sub(put, text.strip()))
    except LangError as error:
        raise UsageError(_refusal(text, error, names)) from None
    return Condition(text, formula, names)


def those(records: Sequence[Record], conditions: Iterable[Condition]) -> list[Record]:
    """The runs for which all conditions hold; one that lacks what is compared isn't among them.

    Raises:
        UsageError: a condition names what no run has, or can't be worked out for any.
    """
    kept = list(records)
    for condition in conditions:
        check_names(condition.names.values(), records, f"--where {condition.text!r}")
        kept = _kept(kept, condition)
    return kept


def check_names(names: Iterable[str], records: Sequence[Record], where: str) -> None:
    """Refuse names that no run has.

    Raises:
        UsageError: there is one; says those most like it.
    """
    for name in names:
        if not records or any(record.value(name) is not ABSENT for record in records):
            continue
        near = nearest(name, _known(records))
        asked = f"; did you mean {' or '.join(repr(one) for one in near)}?" if near else ""
        raise UsageError(f"{where}: no run has {name!r}{asked}")


def _known(records: Sequence[Record]) -> list[str]:
    known = dict.fromkeys(FACTS)
    for record in records:
        known.update(dict.fromkeys(record.metrics))
    for record in records[:_SUGGESTED_FROM]:
        for section in record.sections():
            known.update(dict.fromkeys(record.keys(section)))
    return list(known)


def _kept(records: Sequence[Record], condition: Condition) -> list[Record]:
    kept, refusal, told = [], None, False
    for record in records:
        try:
            if condition.holds(record):
                kept.append(record)
            told = True
        except LangError as error:
            lacks: Any = any(record.value(name) in (ABSENT, None) for name in condition.names.values())
            refusal = refusal if lacks else error
    if refusal is not None and not told:
        raise UsageError(_refusal(condition.text, refusal, condition.names))
    return kept


def _refusal(text: str, error: LangError, names: dict[str, str]) -> str:
    """What the language says, about the names as the user wrote them."""
    said = re.sub(r"\bv\d+\b", lambda match: names.get(match[0], match[0]), error.message)
    asked = f"; did you mean {' or '.join(repr(one) for one in error.nearest)}?" if error.nearest else ""
    return f"--where {text!r}: {said}{asked}" + (f"\n  hint:     {error.hint}" if error.hint else "")
