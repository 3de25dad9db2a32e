"""Which parameter is trained in which group, and with which hyperparameters."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from builder.errors import Fault
from builder.optim.depth import Depths, chosen_depths, depths
from builder.optim.effects import effects
from builder.optim.rules import DEFAULT_NAME, Rule, Rules
from builder.select import NamedModel

SHOWN = 4
"""Names that a message lists before it says how many more there are."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters with the same hyperparameters, by first name, in the order of the model."""

    name: str
    parameters: Mapping[str, nn.Parameter]
    values: Mapping[str, Any]
    rule: Rule


@dataclass(frozen=True, slots=True)
class _Split:
    """A part of a rule's parameters: those at one depth, with or without weight decay."""

    rule: int
    depth: int | None
    no_decay: bool


def make_groups(
    rules: Rules, model: nn.Module, named: NamedModel, trainable: Collection[str]
) -> tuple[list[Group], list[Fault], tuple[Fault, ...]]:
    """The groups of the parameters named in `trainable`, each in exactly one; what is wrong with the rules; notes."""
    taken, faults = _assign(rules.rules, named, trainable)
    without = _without_decay(rules, named, faults)
    by_rule = _depths(rules.rules, model, named, taken, faults)
    if faults:
        return [], faults, ()
    splits: dict[_Split, list[str]] = {}
    for name, index in taken.items():
        rule, depth = rules.rules[index], by_rule.get(index)
        decays = name in without and bool(rule.values.get("weight_decay"))
        splits.setdefault(_Split(index, depth.of[name] if depth else None, decays), []).append(name)
    ordered = sorted(splits, key=lambda split: (split.rule, split.depth or 0, split.no_decay))
    groups = _merged(_named(rules.rules, ordered, by_rule), splits, named)
    placed = [name for group in groups for name in group.parameters]
    assert sorted(placed) == sorted(taken), "each trainable parameter is in one group"
    return groups, [], effects(rules, named, taken, without, by_rule)


def _assign(rules: Sequence[Rule], named: NamedModel, trainable: Collection[str]) -> tuple[dict[str, int], list[Fault]]:
    """The rule that each trainable parameter follows, the first that selects it; faults where one gets none."""
    taken: dict[str, int] = {}
    faults: list[Fault] = []
    names = [name for name in named.parameters if name in trainable]
    for index, rule in enumerate(rules):
        if rule.selector is None:
            taken |= {name: index for name in names if name not in taken}
            continue
        selected = named.parameters_of(rule.selector)
        fault = named.fault(rule.selector)
        mine = [name for name in names if name in selected and name not in taken]
        if fault is not None or not mine:
            faults.append(fault or _empty(rule, rules, selected, taken))
        taken |= dict.fromkeys(mine, index)
    return {name: taken[name] for name in names if name in taken}, faults


def _empty(rule: Rule, rules: Sequence[Rule], selected: Collection[str], taken: Mapping[str, int]) -> Fault:
    """Why a rule gets no parameter, though its selector selects something."""
    earlier = {rules[taken[name]].name: None for name in selected if name in taken}
    frozen = [name for name in selected if name not in taken]
    if not selected:
        hint = "what it selects holds no parameters"
    elif not earlier:
        hint = f"it selects {listed(frozen)}, frozen for good: leave the group out, or thaw them at some time"
    else:
        hint = f"of what it selects, all that is trained is taken by earlier groups: {', '.join(map(repr, earlier))}"
    assert rule.selector is not None
    message, found = f"the group {rule.name!r} is empty", rule.selector.raw
    return Fault(message, rule.selector.path, rule.selector.origin, found, hint=hint)


def _without_decay(rules: Rules, named: NamedModel, faults: list[Fault]) -> Collection[str]:
    if rules.no_decay is None:
        return ()
    fault = named.fault(rules.no_decay)
    selected = named.parameters_of(rules.no_decay)
    if fault is None and not selected:
        fault = Fault("this selects no parameters", rules.no_decay.path, rules.no_decay.origin, rules.no_decay.raw)
    faults += [fault] if fault is not None else []
    return selected


def _depths(
    rules: Sequence[Rule], model: nn.Module, named: NamedModel, taken: Mapping[str, int], faults: list[Fault]
) -> dict[int, Depths]:
    """The depths that the parameters of each rule have, for those rules in which they count."""
    found: dict[int, Depths] = {}
    said: dict[int, list[Fault]] = {}
    for index, rule in enumerate(rules):
        if rule.decay is None or rule.decay.rate == 1 or not rule.values["lr"]:
            continue
        if not rule.decay.layers:
            found[index] = depths(model)
            continue
        found[index], more = chosen_depths(named, rule.decay.layers)
        more = more or _without_layer(rule, [n for n, of in taken.items() if of == index and n not in found[index].of])
        if more:
            said.setdefault(id(rule.decay), more)  # the same rule for layers may be that of several groups
    faults += [fault for each in said.values() for fault in each]
    return found


def _without_layer(rule: Rule, names: Sequence[str]) -> list[Fault]:
    assert rule.decay is not None
    message = f"parameters of the group {rule.name!r} lie in none of these layers: {listed(names)}"
    expected = "a layer for each; '**' as the last one takes the rest"
    place = (*rule.decay.path, "layers")
    return [Fault(message, place, rule.decay.origin, expected=expected)] if names else []


def _named(
    rules: Sequence[Rule], ordered: Sequence[_Split], by_rule: Mapping[int, Depths]
) -> Iterator[tuple[_Split, str, Rule, dict[str, Any]]]:
    """Each split with its name, as `head/layer_3/no_decay`, its rule and its hyperparameters."""
    for split in ordered:
        rule = rules[split.rule]
        name, values = rule.name, dict(rule.values)
        if split.depth is not None:
            assert rule.decay is not None
            name += f"/layer_{split.depth}"
            values["lr"] *= rule.decay.rate ** (by_rule[split.rule].top - split.depth)
        if split.no_decay:
            name += "/no_decay"
            values["weight_decay"] = 0.0
        yield split, name, rule, values


def _merged(
    named: Iterator[tuple[_Split, str, Rule, dict[str, Any]]],
    splits: Mapping[_Split, Sequence[str]],
    model: NamedModel,
) -> list[Group]:
    """The groups; those that differ in nothing, and that the config didn't name, are one."""
    groups: list[Group] = []
    for split, name, rule, values in named:
        names = set(splits[split])
        at = next((at for at, group in enumerate(groups) if _alike(group, rule, values)), len(groups))
        for first in groups[at : at + 1]:
            names |= set(first.parameters)
            name = name if name == DEFAULT_NAME else f"{first.name} + {name}"
        ordered = {each: parameter for each, parameter in model.parameters.items() if each in names}
        groups[at:] = [*groups[at + 1 :], Group(name, ordered, values, rule)]
    return groups


def _alike(group: Group, rule: Rule, values: Mapping[str, Any]) -> bool:
    same = group.rule.component.target is rule.component.target and dict(group.values) == dict(values)
    return same and not group.rule.named and not rule.named


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
