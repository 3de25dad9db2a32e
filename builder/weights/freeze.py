"""What isn't trained, or not at first: the section `freeze:`, and what it comes to for a model.

A frozen parameter has `requires_grad=False` and no gradient, so that no optimiser moves it; a module held in eval mode
keeps its statistics and drops nothing. What is frozen is a function of epoch and step and of nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Origin, Path, nearest
from builder.select import KEYS as SELECTOR_KEYS
from builder.select import NamedModel, Selector, read_selector
from builder.weights.freeze_plan import FrozenPlan, PlannedRule, Until

KEYS = ("select", "mode", "until")
"""What a rule may say."""
MODES = ("eval", "train")
UNITS = ("epoch", "step")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as it was written; `mode` is None where it wasn't said, `until` None for good."""

    selector: Selector
    mode: str | None
    until: Until | None
    path: Path
    origin: Origin


@dataclass(frozen=True, slots=True)
class Freeze:
    """The rules of the section `freeze:`, none if there is none."""

    rules: tuple[Rule, ...] = ()
    path: Path = ("freeze",)
    origin: Origin = Origin()


def read_freeze(section: Any, origins: Origins, path: Path = ("freeze",)) -> Freeze:
    """The rules of the section: null, a selector, a mapping `{select, mode, until}`, or a list of such.

    Raises:
        ConfigError: the section is wrong; all faults at once.
    """
    if section is None:
        return Freeze((), path, origins.of(path))
    faults: list[Fault] = []
    if isinstance(section, list | tuple):
        read = [_read_rule(item, (*path, index), origins, faults) for index, item in enumerate(section)]
    else:
        read = [_read_rule(section, path, origins, faults)]
    if faults:
        raise ConfigError(*faults)
    return Freeze(tuple(rule for rule in read if rule is not None), path, origins.of(path))


def _read_rule(raw: Any, path: Path, origins: Origins, faults: list[Fault]) -> Rule | None:
    if not _is_rule(raw):
        selector, more = read_selector(raw, path, origins.of)
        faults += more
        return None if selector is None else Rule(selector, None, None, path, origins.of(path))
    faults += [_unknown(key, (*path, key), origins) for key in raw if key not in KEYS]
    selector = _read_select(raw, path, origins, faults)
    mode = _read_mode(raw.get("mode"), (*path, "mode"), origins, faults)
    until = _read_until(raw.get("until"), (*path, "until"), origins, faults)
    return None if selector is None else Rule(selector, mode, until, path, origins.of(path))


def _is_rule(raw: Any) -> bool:
    """Whether a value is a rule, not a selector alone; a mapping with no key of either is read as one."""
    return isinstance(raw, Mapping) and (
        any(key in KEYS for key in raw) or not any(key in SELECTOR_KEYS for key in raw)
    )


def _unknown(key: Any, path: Path, origins: Origins) -> Fault:
    hint = "what a selector says stands under 'select'" if key in SELECTOR_KEYS else None
    near = () if hint else nearest(key, KEYS)
    return Fault(
        f"unknown key {str(key)!r} of a rule to freeze", path, origins.of(path), None, _one_of(KEYS), near, hint
    )


def _read_select(raw: Mapping[str, Any], path: Path, origins: Origins, faults: list[Fault]) -> Selector | None:
    if "select" not in raw:
        if not any(key in SELECTOR_KEYS or "select" in nearest(key, KEYS) for key in raw):  # else it is said there
            hint = "freeze: {select: encoder, until: {epoch: 3}}"
            faults.append(Fault("a rule to freeze needs 'select'", path, origins.of(path), dict(raw), hint=hint))
        return None
    selector, more = read_selector(raw["select"], (*path, "select"), origins.of)
    faults += more
    return selector


def _read_mode(mode: Any, path: Path, origins: Origins, faults: list[Fault]) -> str | None:
    if mode is None or mode in MODES:
        return mode
    faults.append(Fault("unknown mode", path, origins.of(path), mode, _one_of(MODES), nearest(mode, MODES)))
    return None


def _read_until(raw: Any, path: Path, origins: Origins, faults: list[Fault]) -> Until | None:
    if raw is None:
        return None
    expected = "{epoch: 3} or {step: 1000}; null for good"
    if not isinstance(raw, Mapping) or not raw or (len(raw) > 1 and all(key in UNITS for key in raw)):
        faults.append(Fault("'until' is an epoch or a step", path, origins.of(path), raw, expected))
        return None
    for key in raw:
        if key not in UNITS:
            place = (*path, key)
            message = f"unknown key {str(key)!r} of 'until'"
            faults.append(Fault(message, place, origins.of(place), None, _one_of(UNITS), nearest(key, UNITS)))
    ends = [_read_count(unit, raw[unit], (*path, unit), origins, faults) for unit in UNITS if unit in raw]
    return ends[0] if ends else None


def _read_count(unit: Any, at: Any, path: Path, origins: Origins, faults: list[Fault]) -> Until | None:
    if type(at) is int and at > 0:
        return Until(unit, at)
    said = f"until {unit} 0 freezes nothing: training begins there" if at == 0 and type(at) is int else None
    message = said or f"no {unit} to train from"
    faults.append(Fault(message, path, origins.of(path), at, f"a whole number from 1; {unit}s count from 0"))
    return None


def _one_of(words: tuple[str, ...]) -> str:
    return " | ".join(words)


def resolve(freeze: Freeze, model: nn.Module) -> FrozenPlan:
    """What the rules come to for a model, which may be on the meta device; its `requires_grad` say what is trained.

    Raises:
        ConfigError: a rule selects nothing or freezes nothing, or nothing is left to train; all faults at once.
    """
    index = NamedModel(model)
    faults: list[Fault] = []
    sizes = {name: parameter.numel() for name, parameter in index.parameters.items() if parameter.requires_grad}
    rules = [rule for rule in (_resolved(rule, index, faults) for rule in freeze.rules) if rule is not None]
    untrained = sum(parameter.numel() for name, parameter in index.parameters.items() if name not in sizes)
    plan = FrozenPlan(tuple(rules), sizes, untrained)
    faults += [] if faults else _nothing_left(plan, freeze)
    if faults:
        raise ConfigError(*faults)
    return plan


def _resolved(rule: Rule, index: NamedModel, faults: list[Fault]) -> PlannedRule | None:
    fault = index.fault(rule.selector)
    if fault is not None:
        faults.append(fault)
        return None
    planned = _planned(rule, index)
    faults += _useless(rule, planned)
    return planned


def _planned(rule: Rule, index: NamedModel) -> PlannedRule:
    chosen, mode = index.parameters_of(rule.selector), rule.mode or "eval"
    parameters = tuple(name for name, parameter in chosen.items() if parameter.requires_grad)
    modules: dict[str, nn.Module] = {} if mode == "train" else index.modules_of(rule.selector)
    held = tuple(name for name, module in modules.items() if not _same_in_both_modes(module))
    return PlannedRule(
        str(rule.selector), mode, rule.until, parameters, len(chosen) - len(parameters), held, rule.path, rule.origin
    )


def _same_in_both_modes(module: nn.Module) -> bool:
    """Whether a module's mode has no effect but one: cuDNN has no gradient of a recurrent layer in eval mode."""
    return isinstance(module, nn.RNNBase) and not module.dropout


def _useless(rule: Rule, planned: PlannedRule) -> list[Fault]:
    """Why a rule that selects something can't freeze it."""
    if rule.mode == "eval" and rule.selector.about_parameters:
        place = (*rule.path, "mode")
        hint = "leave 'mode' out, or select modules"
        return [Fault(f"{rule.selector} selects parameters, which have no mode", place, rule.origin, "eval", hint=hint)]
    if planned.parameters or planned.untrained or planned.modules:
        return []
    message = f"this freezes nothing: {rule.selector} has no parameters"
    way_out = "mode: eval would hold its modules in eval mode" if planned.mode == "train" else None
    return [Fault(message, rule.path, rule.origin, hint=way_out)]


def _nothing_left(plan: FrozenPlan, freeze: Freeze) -> list[Fault]:
    """The fault of rules that let nothing train, ever or at the start; later there is never less than at the start."""
    everything = frozenset(plan.sizes)
    if not plan.rules or not plan.sizes or plan.state(0, 0).frozen != everything:
        return []
    count = f"all {sum(plan.sizes.values()):,} parameters are frozen"
    if not plan.ever_trainable:
        return [Fault(f"nothing is left to train: {count} for good", freeze.path, freeze.origin)]
    firsts: dict[str, str] = {}
    for end in plan.ends:
        if plan.state(*_at(end)).frozen != everything:
            firsts.setdefault(end.unit, str(end))
    first = " or ".join(firsts.values()) or " and ".join(map(str, plan.ends))
    return [Fault(f"nothing is left to train before {first}: {count}", freeze.path, freeze.origin)]


def _at(end: Until) -> tuple[int, int]:
    """The epoch and step at which a rule ends, the other one of the two 0."""
    return (end.at, 0) if end.unit == "epoch" else (0, end.at)
