"""Which argument of a component is to blame where the component refuses all of them with one message."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from builder.catalog.component import Component
from builder.catalog.signatures import signature_of
from builder.optim.rate_formula import FUNCTIONS


def culprit(
    component: Component,
    given: Collection[str],
    message: str,
    works: Callable[[Mapping[str, Any]], bool],
    usual: Mapping[str, Any] | None = None,
) -> str | None:
    """The argument among `given` without which `works` holds of the arguments, or that `message` names; None if unsure.

    An argument is left out by taking its value in `usual`, else its default, or 1 where it has none.
    """
    without = {key: _harmless(component.target, key) for key in given} | dict(usual or {})
    cures = [key for key in given if works({**component.arguments, key: without[key]})]
    if len(cures) == 1:
        return cures[0]
    named = [key for key in given if re.search(rf"\b{re.escape(key)}", message)]
    likely = [key for key in named if key in cures] or named
    return likely[0] if likely else None


def _harmless(target: Any, key: str) -> Any:
    parameter = signature_of(target).parameters.get(key)
    if key in FUNCTIONS and (parameter is None or parameter.default is inspect.Parameter.empty):
        return _one
    return 1 if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default


def _one(_: float) -> float:
    return 1.0
