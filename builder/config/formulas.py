"""Formulas (`=data.num_classes`) among the arguments of a registered component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.config.origin import Origins
from builder.errors import Fault, Path
from builder.lang.formula import parse_formula
from builder.lang.syntax import LangError


def evaluate_formulas(value: Any, names: Mapping[str, Any], path: Path, origins: Origins) -> tuple[Any, list[Fault]]:
    """`value` with every formula in it replaced by its result, and what is wrong with those that have none.

    Lists and mappings are looked through; `path` is where `value` stands in the config.
    """
    faults: list[Fault] = []

    def visit(part: Any, place: Path) -> Any:
        if isinstance(part, Mapping):
            return {key: visit(item, (*place, key)) for key, item in part.items()}
        if isinstance(part, list | tuple):
            return [visit(item, (*place, index)) for index, item in enumerate(part)]
        if not isinstance(part, str) or not part.startswith("="):
            return part
        try:
            return parse_formula(part[1:]).evaluate(names)
        except LangError as error:
            faults.append(Fault(str(error), place, origins.of(place), found=part))
            return part

    return visit(value, path), faults
