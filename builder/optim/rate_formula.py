"""Formulas as functions that schedulers take: `lr_lambda: =0.95 ** epoch`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from builder.errors import ConfigError, Fault, Origin, Path
from builder.lang.formula import Formula, LangError, parse_formula

FUNCTIONS = {"lr_lambda": None, "scale_fn": "x"}
"""Arguments that take a function, which a config says as a formula, and over what; None is the step or epoch."""


class RateFormula:
    """A formula as a function of the number `name`; `numbers` are the other names that it may use.

    What stands in its `__dict__` are plain values: schedulers save that in checkpoints, and take it from there.
    """

    __slots__ = ("__dict__", "origin", "path")

    def __init__(self, text: str, name: str, numbers: Mapping[str, int], path: Path, origin: Origin) -> None:
        self.path, self.origin = path, origin
        self.text, self.name, self.numbers = text, name, dict(numbers)

    def __call__(self, value: float) -> float:
        """The formula's value.

        Raises:
            ConfigError: it has none, or none that is a number.
        """
        try:
            result = _parsed(self.text).evaluate({**self.numbers, self.name: value})
        except LangError as error:
            fault = error.fault(f"={self.text}", self.origin, self.path)
            raise ConfigError(
                replace(fault, expected=f"a formula over {', '.join([self.name, *self.numbers])}")
            ) from None
        if isinstance(result, bool) or not isinstance(result, int | float):
            raise ConfigError(self._fault(f"the formula gives no number for {self.name} = {value}, but {result!r}"))
        return result

    def _fault(self, message: str) -> Fault:
        return Fault(message, self.path, self.origin, found=f"={self.text}")


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> Formula:
    return parse_formula(text)


def read_rate_formula(
    raw: Any, name: str, numbers: Mapping[str, int], path: Path, origin: Origin
) -> tuple[RateFormula | None, list[Fault]]:
    """The formula written at `path`, tried at 0, and what is wrong with it."""
    if not isinstance(raw, str) or not raw.startswith("="):
        return None, [
            Fault("a formula is needed here", path, origin, raw, f"a formula over {name!r}: '=0.95 ** {name}'")
        ]
    formula = RateFormula(raw[1:], name, numbers, path, origin)
    try:
        formula(0)
    except ConfigError as error:
        return None, list(error.faults)
    return formula, []
