"""The loss of a task: an expression, a registered loss, or a weighted sum of terms that have names."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from builder.config.formulas import evaluate_formulas
from builder.errors import Fault, Path, nearest
from builder.training.raised import TermError, told
from builder.training.terms import Expression, TaskReader

TERM_KEYS = ("loss", "weight")


class Values(dict[str, Any]):
    """What loss and metrics may name; the loss leaves its `terms` here, by name, without weights."""

    terms: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss as a function of the named values; `module` holds what has to move to the device with it, if anything.

    `terms` are the names of the terms that it is the weighted sum of, `parts` each with its weight; none for a loss
    that isn't one.
    """

    function: Callable[[Mapping[str, Any]], Tensor]
    module: nn.Module | None = None
    terms: tuple[str, ...] = ()
    parts: Mapping[str, tuple[Callable[[Mapping[str, Any]], Tensor], float]] = field(default_factory=dict)


def read_loss(section: Any, names: Collection[str], reader: TaskReader, path: Path) -> Loss | None:
    """The loss of `section`; None if it is wrong, with the faults in `reader`."""
    if isinstance(section, Mapping) and "type" not in section and section:
        return _read_terms(section, names, reader, path)
    return _read_one(section, names, reader, path)


def _read_one(section: Any, names: Collection[str], reader: TaskReader, path: Path) -> Loss | None:
    if isinstance(section, str):
        expression = reader.expression(section, names, path)
        return None if expression is None else Loss(_scalar(expression, path, reader))
    if not section:
        reader.fault("a task needs a loss", path, expected="an expression, e.g. cross_entropy(output, target)")
        return None
    of = reader.terms(section, ("output", "target"), names, path)
    module = reader.loss(section, path)
    if module is None or of is None:
        return None
    return Loss(_scalar(lambda values: module(*(term(values) for term in of)), path, reader), module)


def _read_terms(
    section: Mapping[str, Any], names: Collection[str], reader: TaskReader, path: Path
) -> Loss | None:  # fmt: skip
    losses: dict[str, Loss] = {}
    weights: dict[str, float] = {}
    for name, part in section.items():
        place = (*path, name)
        if not isinstance(name, str) or not name.isidentifier():
            reader.fault("no name of a term of the loss", place, found=name, expected="letters, digits and _")
            continue
        weight, inner, where = _weighted(part, reader, place)
        loss = _read_one(inner, names, reader, where)
        if loss is not None and weight is not None:
            losses[name], weights[name] = loss, weight
    if len(losses) < len(section):
        return None
    modules = nn.ModuleList(loss.module for loss in losses.values() if loss.module is not None)
    parts = {name: (loss.function, weights[name]) for name, loss in losses.items()}
    return Loss(_sum(losses, weights), modules if len(modules) else None, tuple(losses), parts)


def _weighted(part: Any, reader: TaskReader, path: Path) -> tuple[float | None, Any, Path]:
    """A term's weight (None if it is wrong), its loss, and where that stands."""
    if not isinstance(part, Mapping) or "type" in part:
        return 1.0, part, path
    for key in part:
        if key not in TERM_KEYS:
            expected = "a loss and its weight, or a registered loss with its type"
            reader.fault(f"unknown key {key!r}", (*path, key), expected=expected, nearest=nearest(key, TERM_KEYS))
    given = part.get("weight", 1.0)
    weight, faults = evaluate_formulas(given, {"data": reader.data}, (*path, "weight"), reader.origins)
    reader.faults += faults
    if not faults and (isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight)):
        reader.fault("no weight of a loss", (*path, "weight"), found=given, expected="a finite number")
        weight = None
    return None if faults else weight, part.get("loss"), (*path, "loss")


def _sum(losses: Mapping[str, Loss], weights: Mapping[str, float]) -> Callable[[Mapping[str, Any]], Tensor]:
    def total(values: Mapping[str, Any]) -> Tensor:
        terms = {name: loss.function(values) for name, loss in losses.items()}
        if isinstance(values, Values):
            values.terms = {name: term.detach() for name, term in terms.items()}
        parts = [term if weights[name] == 1 else weights[name] * term for name, term in terms.items()]
        return sum(parts[1:], parts[0])

    return total


def _scalar(term: Expression, path: Path, reader: TaskReader) -> Expression:
    """A loss whose exceptions say where it is written, and which is refused if it isn't a single number."""
    origin = reader.origins.of(path)
    loss_of = told(term, path, origin)

    def loss(values: Mapping[str, Any]) -> Tensor:
        value = loss_of(values)
        if not isinstance(value, Tensor) or value.dim():
            found = f"of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise TermError(Fault(f"the loss has to be a tensor without dimensions; it is {found}", path, origin))
        return value

    return loss
