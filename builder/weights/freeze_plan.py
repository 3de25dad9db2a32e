"""A plan of what is frozen when, for one model: plain names and numbers, applied to the model as it trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from typing import Any, Literal, NamedTuple

from torch import nn

from builder.errors import Fault, Origin, Path, dotted

WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Attributes under which `torch.compile`, FSDP and activation checkpointing put the module that they wrap."""


@dataclass(frozen=True, slots=True)
class Until:
    """When a rule ends: what it froze trains from epoch, or from optimiser step, `at` on; both count from 0."""

    unit: Literal["epoch", "step"]
    at: int

    def __str__(self) -> str:
        return f"{self.unit} {self.at}"

    def has_come(self, epoch: int, step: int) -> bool:
        """Whether training is there or past it."""
        return (epoch if self.unit == "epoch" else step) >= self.at


@dataclass(frozen=True, slots=True)
class PlannedRule:
    """A rule and what it takes in the model, by first names.

    Attributes:
        select: the selector as it was written.
        mode: `eval` or `train`.
        until: None for good.
        parameters: those that would train without it.
        untrained: the number of those that it selects besides, which are never trained.
        modules: those that it holds in eval mode.
        path: the rule's place in the config.
        origin: where it was written.
    """

    select: str
    mode: str
    until: Until | None
    parameters: tuple[str, ...]
    untrained: int
    modules: tuple[str, ...]
    path: Path
    origin: Origin

    def holds(self, epoch: int, step: int) -> bool:
        """Whether it is in force at an epoch and step."""
        return self.until is None or not self.until.has_come(epoch, step)


class State(NamedTuple):
    """What isn't trained at some epoch and step, by first names, as far as the plan decides it."""

    frozen: frozenset[str]
    in_eval: frozenset[str]


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of training in which the same parameters train; it begins where `starts` says, at the start if empty.

    `trainable` and `frozen` count numbers, not tensors, and add up to the model's.
    """

    starts: tuple[Until, ...]
    trainable: int
    frozen: int

    def __str__(self) -> str:
        return " and ".join(map(str, self.starts)) or "the start"


@dataclass(frozen=True)
class FrozenPlan:
    """What is frozen when.

    Attributes:
        rules: in the order in which they were written.
        sizes: the numbers in each parameter that is trained if nothing is frozen, by first name, in the model's order.
        untrained: the numbers in all other parameters; the plan leaves these alone.
    """

    rules: tuple[PlannedRule, ...]
    sizes: Mapping[str, int]
    untrained: int = 0

    def state(self, epoch: int, step: int) -> State:
        """What is frozen, and held in eval mode, at an epoch and optimiser step; a function of these alone."""
        rules = [rule for rule in self.rules if rule.holds(epoch, step)]
        return State(_union(rule.parameters for rule in rules), _union(rule.modules for rule in rules))

    @cached_property
    def ever_trainable(self) -> tuple[str, ...]:
        """The parameters that train at some time, in the model's order: those that belong in the optimiser."""
        never = _union(rule.parameters for rule in self.rules if rule.until is None)
        return tuple(name for name in self.sizes if name not in never)

    @cached_property
    def concerned(self) -> State:
        """All parameters and modules that some rule takes at some time."""
        return State(_union(rule.parameters for rule in self.rules), _union(rule.modules for rule in self.rules))

    @cached_property
    def ends(self) -> tuple[Until, ...]:
        """When rules end, each once: epochs in order, then steps in order."""
        return tuple(sorted({rule.until for rule in self.rules if rule.until}, key=lambda end: (end.unit, end.at)))

    def next_step(self, step: int) -> int | None:
        """The next optimiser step after `step` at which a rule ends; None if none does."""
        return min((end.at for end in self.ends if end.unit == "step" and end.at > step), default=None)

    def apply(self, model: nn.Module, epoch: int, step: int) -> None:
        """Freeze what is frozen at an epoch and step, and let the rest of what rules take train."""
        Freezer(self, model).apply(epoch, step)

    @contextmanager
    def unfrozen(self, model: nn.Module) -> Iterator[None]:
        """Within it `requires_grad` is as if nothing were frozen, for what asks which parameters a model trains."""
        parameters = {_bare(name): parameter for name, parameter in model.named_parameters()}
        frozen = [parameters[name] for name in self.concerned.frozen if not parameters[name].requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(True)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(False)

    def phases(self, steps_per_epoch: int | None = None) -> tuple[Phase, ...]:
        """The parts of training in which the same parameters train, in order, the start first.

        Where rules end at epochs and at steps and `steps_per_epoch` isn't known, these can't be put into one order:
        there are then the phases of the epochs alone, those of the steps alone, and the last one.
        """
        units = {end.unit for end in self.ends}
        if len(units) == 2 and steps_per_epoch is None:
            last = tuple(max((end for end in self.ends if end.unit == unit), key=_at) for unit in ("epoch", "step"))
            starts: list[tuple[Until, ...]] = [(), *((end,) for end in self.ends), last]
            return tuple(self._phase(start, start) for start in starts)
        when = partial(_first_step, steps_per_epoch=steps_per_epoch or 1)
        starts = [(), *(tuple(ends) for _, ends in groupby(sorted(self.ends, key=when), when))]
        return tuple(self._phase(start, sum(starts[: index + 1], ())) for index, start in enumerate(starts))

    def _phase(self, starts: tuple[Until, ...], past: Sequence[Until]) -> Phase:
        """The phase in which training is past the last of each unit."""
        epoch = max((end.at for end in past if end.unit == "epoch"), default=0)
        step = max((end.at for end in past if end.unit == "step"), default=0)
        frozen = self.state(epoch, step).frozen
        trainable = sum(size for name, size in self.sizes.items() if name not in frozen)
        return Phase(starts, trainable, sum(self.sizes.values()) + self.untrained - trainable)

    def notes(self, max_epochs: int | None = None, total_steps: int | None = None) -> list[Fault]:
        """What in the rules changes nothing, as things to tell the user that are no errors.

        Args:
            max_epochs: the epochs that there will be, if known.
            total_steps: the optimiser steps that there will be, if known.
        """
        lasts = {"epoch": max_epochs, "step": total_steps}
        kept = _without_idle(self.rules)
        notes = [_vain(rule, lasts) if rule in kept else _idle(rule, kept) for rule in self.rules]
        return [note for note in notes if note is not None]

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values: rules with the names that each took, and the phases."""
        return {
            "rules": [_rule_json(rule) for rule in self.rules],
            "phases": [_phase_json(phase) for phase in self.phases()],
        }


def _union(names: Iterable[Iterable[str]]) -> frozenset[str]:
    return frozenset().union(*names)


def _at(end: Until) -> int:
    return end.at


def _first_step(end: Until, steps_per_epoch: int) -> int:
    return end.at * steps_per_epoch if end.unit == "epoch" else end.at


def _without_idle(rules: Sequence[PlannedRule]) -> list[PlannedRule]:
    """The rules without those that change nothing since others hold all that they hold, as long; of two, the first."""
    kept = list(rules)
    for rule in reversed(rules):
        others = [each for each in kept if each is not rule and _lasts_as_long(each, rule)]
        if not _held(rule) - _union(map(_held, others)) and _held(rule):
            kept.remove(rule)
    return kept


def _held(rule: PlannedRule) -> frozenset[str]:
    """What a rule freezes and what it holds in eval mode."""
    return frozenset((*(f"frozen {name}" for name in rule.parameters), *(f"eval {name}" for name in rule.modules)))


def _lasts_as_long(rule: PlannedRule, other: PlannedRule) -> bool:
    if rule.until is None or other.until is None:
        return rule.until is None
    return rule.until.unit == other.until.unit and rule.until.at >= other.until.at


def _idle(rule: PlannedRule, kept: Iterable[PlannedRule]) -> Fault:
    """The note about a rule that changes nothing, with the rules by which all is said already."""
    others = [each for each in kept if _lasts_as_long(each, rule) and _held(each) & _held(rule)]
    ends = list(dict.fromkeys("for good" if each.until is None else f"until {each.until}" for each in others))
    names, verb = " and ".join(dotted(each.path) for each in others), "holds" if len(others) == 1 else "hold"
    is_cut = rule.until is not None and all(each.until is None for each in others)
    what, path = (str(rule.until), (*rule.path, "until")) if is_cut else ("this rule", rule.path)
    return Fault(f"{what} changes nothing: {names} {verb} all of {rule.select} {' and '.join(ends)}", path, rule.origin)


def _vain(rule: PlannedRule, lasts: Mapping[str, int | None]) -> Fault | None:
    """The note about a rule of what is never trained, or an `until` that changes nothing."""
    if not rule.parameters and not rule.modules:
        message = f"all of {rule.select} is never trained"
        if rule.until is None:
            return Fault(f"this rule changes nothing: {message}", rule.path, rule.origin)
        return Fault(f"nothing begins to train at {rule.until}: {message}", (*rule.path, "until"), rule.origin)
    if rule.until is None:
        return None
    path, unit = (*rule.path, "until"), rule.until.unit
    last = lasts[unit]
    if last is None or rule.until.at < last:
        return None
    message = f"{rule.until} never comes, so {rule.select} stays frozen: there are {last} {unit}s, which count from 0"
    return Fault(message, path, rule.origin)


def _rule_json(rule: PlannedRule) -> dict[str, Any]:
    return {
        "select": rule.select,
        "mode": rule.mode,
        "until": None if rule.until is None else {rule.until.unit: rule.until.at},
        "path": dotted(rule.path),
        "origin": str(rule.origin),
        "parameters": list(rule.parameters),
        "modules_in_eval": list(rule.modules),
        "never_trained": rule.untrained,
    }


def _phase_json(phase: Phase) -> dict[str, Any]:
    starts = {start.unit: start.at for start in phase.starts}
    return {"from": starts, "trainable": phase.trainable, "frozen": phase.frozen}


class Freezer:
    """A plan bound to a model: what it takes, looked up once by name."""

    def __init__(self, plan: FrozenPlan, model: nn.Module) -> None:
        parameters = {_bare(name): parameter for name, parameter in model.named_parameters()}
        modules = {_bare(name): module for name, module in model.named_modules()}
        missing = (plan.concerned.frozen - parameters.keys()) | (plan.concerned.in_eval - modules.keys())
        assert not missing, f"the plan is of another model: this one has no {sorted(missing)}"
        self.plan = plan
        self._parameters = {name: parameters[name] for name in plan.concerned.frozen}
        self._modules = {name: modules[name] for name in plan.concerned.in_eval}
        self._modes = dict.fromkeys(self._modules, True)
        self.frozen: frozenset[str] | None = None
        """What was frozen last, None before the first time."""

    def remember_modes(self) -> None:
        """Take the modes that modules are in now as those to return to; without this it is training mode."""
        self._modes = {name: module.training for name, module in self._modules.items()}

    def apply(self, epoch: int, step: int) -> bool:
        """Freeze, and hold in eval mode, what is at an epoch and step, and no more; True if parameters changed."""
        state = self.plan.state(epoch, step)
        for name, module in self._modules.items():
            module.training = self._modes[name] and name not in state.in_eval
        return self._freeze(state.frozen)

    def freeze(self, epoch: int, step: int) -> bool:
        """The same for parameters alone, all modes left as they are."""
        return self._freeze(self.plan.state(epoch, step).frozen)

    def _freeze(self, frozen: frozenset[str]) -> bool:
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(name not in frozen)
            if name in frozen:
                parameter.grad = None
        changed, self.frozen = frozen != self.frozen, frozen
        return changed


def _bare(name: str) -> str:
    """A dotted name without what wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
