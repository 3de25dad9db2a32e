"""Initial values by rules: which parameters a rule takes, and how they are filled.

A rule stands at a module and is applied when that has been made, as the last lines of a hand-written `__init__` are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from builder import patterns, registry
from builder.errors import ConfigError, Fault, Origin, Path
from builder.select import NamedModel, Selector
from builder.weights.gates import gates_in, gates_of

DEFAULT = "default"
"""Stands for what the layer itself does in `reset_parameters`."""

RESETS = ("reset_parameters", "_reset_parameters")
"""Methods by which PyTorch's layers fill their own parameters."""


@dataclass(frozen=True, slots=True)
class Fill:
    """One key of a rule: the parameters whose own names fit `key` are filled by a registered initialiser.

    `gates` are names of gates, or `each`; empty for the whole parameter. `text` is how it was written.
    """

    key: str
    initialiser: str
    arguments: Mapping[str, Any]
    gates: tuple[str, ...]
    text: str
    path: Path
    origin: Origin


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, checked; without a selector it is about everything in its module. `raw` is how it was written."""

    selector: Selector | None
    optional: bool
    fills: tuple[Fill, ...]
    raw: Mapping[str, Any]
    path: Path
    origin: Origin


Compute = Callable[[Fill, int], Mapping[str, Any]]
"""The arguments of a fill with their formulas computed; given how many parameters its key takes."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What gave a parameter its initial value: the rule as it was written and where, and of it the key alone."""

    rule: str
    origin: Origin
    fill: str


@dataclass(slots=True)
class Touched:
    """The parameters that rules filled while a model was made, with the last rule of each."""

    causes: dict[int, tuple[nn.Parameter, Cause]] = field(default_factory=dict)
    """By identity; the parameter is held so that no other takes its identity."""
    counts: dict[Cause, int] = field(default_factory=dict)
    """How many parameters each key of a rule took, at all of its modules."""

    def count(self, cause: Cause, parameters: int) -> None:
        """Remember that a key of a rule took so many parameters of one of its modules."""
        self.counts[cause] = self.counts.get(cause, 0) + parameters

    def idle(self) -> list[Cause]:
        """Keys of rules that took nothing; such rules are optional."""
        return [cause for cause, count in self.counts.items() if not count]

    def note(self, parameter: nn.Parameter, cause: Cause) -> None:
        """Remember what filled a parameter."""
        self.causes[id(parameter)] = parameter, cause

    def cause(self, parameter: nn.Parameter) -> Cause | None:
        """What filled a parameter last; None for PyTorch's default."""
        found = self.causes.get(id(parameter))
        return found[1] if found is not None else None

    def copied(self, original: nn.Module, made: nn.Module) -> None:
        """Note for copies of a layer, inside one that was made from it, what is known of the layer."""
        for module in made.modules():
            if type(module) is type(original) and module is not original:
                for source, target in zip(original.parameters(), module.parameters(), strict=False):
                    if (cause := self.cause(source)) is not None and source.shape == target.shape:
                        self.note(target, cause)


def matched(rule: Rule, index: NamedModel) -> list[dict[str, nn.Parameter]]:
    """The parameters that each key of a rule takes, by first name, in the model's order."""
    chosen = index.parameters if rule.selector is None else index.parameters_of(rule.selector)
    leaves = {name: {alias.rpartition(".")[2] for alias in index.aliases[name]} for name in chosen}
    return [
        {name: parameter for name, parameter in chosen.items()
         if any(patterns.fits(fill.key, leaf) for leaf in leaves[name])}
        for fill in rule.fills
    ]  # fmt: skip


def apply(rules: Iterable[Rule], module: nn.Module, compute: Compute, touched: Touched | None = None) -> None:
    """Fill parameters of a module, rule by rule, parameter by parameter in the module's order.

    Within a rule each parameter is filled once, by the last key that takes it. On the meta device nothing is filled.

    Raises:
        ConfigError: an initialiser refuses a parameter or its arguments.
    """
    index = NamedModel(module)
    with torch.no_grad():
        for rule in rules:
            found = matched(rule, index)
            for fill, taken in zip(rule.fills, found, strict=True) if touched is not None else ():
                touched.count(Cause(shown(rule, fill), fill.origin, fill.text), len(taken))  # type: ignore[union-attr]
            for fill, names, arguments in _steps(rule, found, index, compute):
                try:
                    _fill(fill, names, index, arguments)
                except (TypeError, ValueError, RuntimeError) as error:
                    raise ConfigError(refusal(fill, names[0], index.parameters[names[0]], error)) from error
                for name in names if touched is not None else ():
                    touched.note(index.parameters[name], Cause(shown(rule, fill), fill.origin, fill.text))  # type: ignore[union-attr]


def _steps(
    rule: Rule, found: list[dict[str, nn.Parameter]], index: NamedModel, compute: Compute
) -> Iterator[tuple[Fill, list[str], Mapping[str, Any]]]:
    """What is filled at a time: one parameter, or those of a layer that it resets together."""
    arguments = [compute(fill, len(names)) if names else {} for fill, names in zip(rule.fills, found, strict=True)]
    last = {name: number for number, names in enumerate(found) for name in names}
    reset: set[tuple[int, str]] = set()
    for name in index.parameters:
        if name not in last:
            continue
        fill = rule.fills[last[name]]
        if fill.initialiser != DEFAULT:
            yield fill, [name], arguments[last[name]]
            continue
        layer = name.rpartition(".")[0]
        if (last[name], layer) not in reset:
            reset.add((last[name], layer))
            together = [other for other in last if other.rpartition(".")[0] == layer and last[other] == last[name]]
            yield fill, together, {}


def _fill(fill: Fill, names: list[str], index: NamedModel, arguments: Mapping[str, Any]) -> None:
    if index.parameters[names[0]].is_meta:
        return
    layer, _, leaf = names[0].rpartition(".")
    if fill.initialiser == DEFAULT:
        _reset(index.modules[layer], [index.parameters[name] for name in names])
        return
    initialiser = registry.initialisers.get(fill.initialiser)
    for part in parts(fill, index.modules[layer], leaf, index.parameters[names[0]].detach()):
        initialiser(part, **arguments)


def parts(fill: Fill, layer: nn.Module, leaf: str, tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that an initialiser is given for a parameter: its gates, or the whole."""
    return gates_in(tensor, gates_of(layer, leaf), fill.gates) if fill.gates else [tensor]


def reset_of(layer: nn.Module) -> Callable[[], object] | None:
    """The method by which a layer fills its own parameters, if it has one."""
    return next((method for name in RESETS if callable(method := getattr(layer, name, None))), None)


def _reset(layer: nn.Module, parameters: list[nn.Parameter]) -> None:
    """Let a layer fill its parameters again, and keep all of its values but those of `parameters`."""
    chosen = {id(parameter) for parameter in parameters}
    kept = [(value, value.clone()) for value in (*layer.parameters(), *layer.buffers()) if id(value) not in chosen]
    reset = reset_of(layer)
    assert reset is not None, "checked on the meta device"
    reset()
    for value, before in kept:
        value.copy_(before)


def refusal(fill: Fill, name: str, parameter: torch.Tensor, error: BaseException) -> Fault:
    """The fault of an initialiser that refuses a parameter."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    message = f"{fill.initialiser} can't fill {name!r} of shape {list(parameter.shape)}: {said}"
    return Fault(message, fill.path, fill.origin)


def shown(rule: Rule, fill: Fill) -> str:
    """A key of a rule as one line: `{type: Linear}: {weight: normal_}`."""
    return f"{{{fill.text}}}" if rule.selector is None else f"{rule.selector}: {{{fill.text}}}"
