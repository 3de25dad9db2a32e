"""Initialisation rules in a model: the values of their formulas, and their check when all sizes are known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from builder.errors import ConfigError, Fault
from builder.lang.formula import Formula
from builder.lang.syntax import LangError
from builder.model.init_read import COUNT
from builder.model.pending import Names
from builder.model.scope import evaluate
from builder.weights.init_check import Standing, check
from builder.weights.initialise import Fill


def computed(names: Names, fill: Fill, count: int) -> dict[str, Any]:
    """The arguments of a fill at one place; `names` are what formulas see there.

    Raises:
        ConfigError: a formula can't be computed.
    """
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for key, value in fill.arguments.items():
        try:
            values[key] = evaluate(value, {**names, COUNT: count})
        except LangError as error:
            text = f"={value.text}" if isinstance(value, Formula) else str(value)
            faults.append(error.fault(text, fill.origin, (*fill.path, key)))
    if faults:
        raise ConfigError(*faults)
    return values


def check_rules(standings: Iterable[Standing]) -> None:
    """Refuse rules of an explored model that take nothing, or that can't fill what they take.

    Raises:
        ConfigError: with all their faults.
    """
    if faults := check(standings):
        raise ConfigError(*faults)
