"""Checks of initialisation rules on the meta device: each takes something, and its initialisers can fill that."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from builder import registry
from builder.catalog.arguments import check_arguments
from builder.errors import ConfigError, Fault, nearest
from builder.select import NamedModel
from builder.weights.gates import EACH, gates_of
from builder.weights.initialise import DEFAULT, RESETS, Compute, Fill, Rule, matched, parts, refusal, reset_of

TORCHS = "torch.nn.init"
"""Initialisers of this module are tried on small tensors, where they look at values too."""

WHOLE = ("dirac_",)
"""Those of them that must see the true sizes."""

SMALL, FEW = 8, 5
"""The largest size of a small tensor, and how many dimensions may have it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A rule at one of the modules at which it stands."""

    rule: Rule
    module: nn.Module
    compute: Compute


def check(standings: Iterable[Standing]) -> list[Fault]:
    """All that is wrong with rules, each of which may stand at several modules; takes no random numbers.

    A rule that takes nothing is a fault only if it does so at all of its modules.
    """
    by_rule: dict[int, list[Standing]] = {}
    for standing in standings:
        by_rule.setdefault(id(standing.rule), []).append(standing)
    indices: dict[int, NamedModel] = {}
    found: dict[str, Fault] = {}
    with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for places in by_rule.values():
            for place in places:
                if id(place.module) not in indices:
                    indices[id(place.module)] = NamedModel(place.module)
            for fault in _check_rule(places, [indices[id(place.module)] for place in places]):
                found.setdefault(str(fault), fault)
    return list(found.values())


def _check_rule(places: list[Standing], indices: list[NamedModel]) -> Iterator[Fault]:
    rule = places[0].rule
    taken = [matched(rule, index) for index in indices]
    if not rule.optional:
        fault = _unselected(rule, indices)
        if fault is not None:
            yield fault
            return
        for number, fill in enumerate(rule.fills):
            if not any(found[number] for found in taken):
                yield _unmatched(rule, fill, indices)
    tried: set[tuple[Any, ...]] = set()
    for place, index, found in zip(places, indices, taken, strict=True):
        for fill, parameters in zip(rule.fills, found, strict=True):
            faults = list(_check_fill(fill, parameters, index, place.compute, tried)) if parameters else []
            yield from faults[:1]  # the others say the same of other parameters


def _unselected(rule: Rule, indices: list[NamedModel]) -> Fault | None:
    """The fault of a rule that selects nothing, or nothing with parameters, at any of its modules."""
    if rule.selector is None:
        if any(index.parameters for index in indices):
            return None
        return Fault("there is no parameter here that this rule could fill", rule.path, rule.origin)
    faults = [index.fault(rule.selector) for index in indices]
    if None not in faults:
        return faults[0]
    if any(index.parameters_of(rule.selector) for index in indices):
        return None
    return Fault("what this selects has no parameters", rule.selector.path, rule.selector.origin, rule.selector.raw)


def _unmatched(rule: Rule, fill: Fill, indices: list[NamedModel]) -> Fault:
    """The fault of a key that is the name of no parameter among those selected."""
    chosen = [index.parameters if rule.selector is None else index.parameters_of(rule.selector) for index in indices]
    leaves = list(dict.fromkeys(name.rpartition(".")[2] for names in chosen for name in names))
    where = "here" if rule.selector is None else "among what is selected"
    message = f"no parameter {where} is called {fill.key!r}"
    expected, near = f"one of {', '.join(leaves)}", nearest(fill.key, leaves)
    return Fault(message, fill.path, fill.origin, expected=expected, nearest=near)


def _check_fill(
    fill: Fill, parameters: Mapping[str, nn.Parameter], index: NamedModel, compute: Compute, tried: set[tuple[Any, ...]]
) -> Iterator[Fault]:
    try:
        arguments = compute(fill, len(parameters))
    except ConfigError as error:
        yield from error.faults
        return
    if fill.initialiser != DEFAULT:
        yield from (faults := _check_values(fill, arguments))
        if faults:
            return
    for name, parameter in parameters.items():
        layer, _, leaf = name.rpartition(".")
        key = (fill.path, type(index.modules[layer]), leaf, parameter.shape, parameter.dtype, repr(arguments))
        if key not in tried:
            tried.add(key)
            yield from _check_parameter(fill, name, parameter, index.modules[layer], arguments)


def _check_values(fill: Fill, arguments: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with arguments whose formulas are computed."""
    target = registry.initialisers.get(fill.initialiser)
    return check_arguments(
        "initialiser", fill.initialiser, target, arguments,
        path=fill.path, origin_of=lambda key: fill.origin, withheld=("tensor", "generator"),
    )  # fmt: skip


def _check_parameter(
    fill: Fill, name: str, parameter: nn.Parameter, layer: nn.Module, arguments: Mapping[str, Any]
) -> Iterator[Fault]:
    leaf = name.rpartition(".")[2]
    if fill.initialiser == DEFAULT:
        if reset_of(layer) is None:
            message = f"{name!r} can't be reset: {type(layer).__name__} has no {RESETS[0]!r}"
            yield Fault(message, fill.path, fill.origin, hint="name an initialiser")
        return
    known = gates_of(layer, leaf)
    if fill.gates and (not known or (fill.gates != (EACH,) and not set(fill.gates) <= set(known))):
        yield _no_such_gate(fill, name, layer, known)
        return
    target = registry.initialisers.get(fill.initialiser)
    small = target.__module__ == TORCHS and fill.initialiser not in WHOLE
    try:
        for part in parts(fill, layer, leaf, parameter.detach()):
            with torch.device("cpu" if small else "meta"):
                target(_small(part) if small else part, **arguments)
    except (TypeError, ValueError) as error:
        yield refusal(fill, name, parameter, error)
    except Exception as error:  # whatever an initialiser of a user can't do without values
        if target.__module__ == TORCHS:
            yield refusal(fill, name, parameter, error)


def _small(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same dimensions, none of them large."""
    most = SMALL if tensor.ndim <= FEW else 1
    return torch.empty([min(most, size) for size in tensor.shape], dtype=tensor.dtype)


def _no_such_gate(fill: Fill, name: str, layer: nn.Module, known: tuple[str, ...]) -> Fault:
    path = (*fill.path, "gate")
    if not known:
        message = f"{name!r} of {type(layer).__name__} has no gates"
        expected = "weight_ih*, weight_hh*, bias_ih* or bias_hh* of LSTM, GRU, LSTMCell or GRUCell"
        return Fault(message, path, fill.origin, expected=expected)
    wrong = next(gate for gate in fill.gates if gate not in known)
    message = f"{name!r} of {type(layer).__name__} has no gate {wrong!r}"
    return Fault(
        message, path, fill.origin, expected=f"one of {', '.join((*known, EACH))}", nearest=nearest(wrong, known)
    )
