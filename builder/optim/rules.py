"""What `optimizer:` says about groups of parameters, read and checked without the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from builder.catalog.arguments import check_arguments, parameters_of
from builder.catalog.component import Component, read_component
from builder.config.kinds import number
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Origin, Path, nearest
from builder.optim.blame import culprit
from builder.optim.layer_decay import LayerDecay, read_layer_decay
from builder.optim.light import light
from builder.registry import optimizers
from builder.select import Selector, read_selector

RESERVED = ("groups", "no_decay", "layer_decay")
"""Keys of `optimizer:` that aren't arguments of its `type`."""
GROUP_KEYS = ("name", "select", "layer_decay")
"""Keys of a group that aren't arguments of the optimiser."""
MATRICES_ONLY = (torch.optim.Muon,)
"""Optimisers of parameters with two dimensions."""
DEFAULT_NAME = "default"
"""The name of the group of all that no other one takes."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A group as the config says it; `values` are all the hyperparameters of its optimiser, defaults among them.

    Without a selector it takes what is left. `named` is whether the config gave the name.
    """

    name: str
    named: bool
    selector: Selector | None
    component: Component
    values: Mapping[str, Any]
    decay: LayerDecay | None
    path: Path
    origin: Origin


@dataclass(frozen=True, slots=True)
class Rules:
    """All groups in order, the default one last, and what has no weight decay."""

    rules: tuple[Rule, ...]
    no_decay: Selector | None

    @property
    def plain(self) -> bool:
        """Whether all parameters are treated alike."""
        return len(self.rules) == 1 and self.no_decay is None and self.rules[0].decay is None


def read_rules(section: Mapping[str, Any], origins: Origins, path: Path) -> Rules:
    """The groups of the section at `path`.

    Raises:
        ConfigError: it is wrong, whatever the model; all faults at once.
    """
    top, faults = read_component(
        optimizers, section, path, origins.of, withheld=("params",), reserved=RESERVED
    )  # fmt: skip
    faults = _with_keys(faults, path, RESERVED)
    no_decay, more = _selector(section.get("no_decay"), (*path, "no_decay"), origins)
    decay, others = read_layer_decay(section.get("layer_decay"), (*path, "layer_decay"), origins)
    faults += more + others
    rules: list[Rule] = []
    for index, item in enumerate(_items(section.get("groups"), (*path, "groups"), origins, faults)):
        rule = _group(item, top, decay, (*path, "groups", index), origins, faults)
        rules += [rule] if rule is not None else []
    faults += _names_twice(rules)
    if top is None or faults:
        raise ConfigError(*faults)
    values, refused = _values(top, section, origins)
    rules.append(Rule(DEFAULT_NAME, False, None, top, values, decay, path, origins.of(path)))
    faults += refused or _without_decay(rules, no_decay)
    if faults:
        raise ConfigError(*faults)
    return Rules(tuple(rules), no_decay)


def _selector(raw: Any, path: Path, origins: Origins) -> tuple[Selector | None, list[Fault]]:
    return (None, []) if raw is None else read_selector(raw, path, origins.of)


def _items(raw: Any, path: Path, origins: Origins, faults: list[Fault]) -> list[Any]:
    if raw is None or isinstance(raw, list | tuple):
        return list(raw or ())
    faults.append(Fault("groups are a list", path, origins.of(path), raw, "a list of mappings with `select`"))
    return []


def _group(
    item: Any, top: Component | None, decay: LayerDecay | None, path: Path, origins: Origins, faults: list[Fault]
) -> Rule | None:
    """The rule of one item of `groups`; None with faults."""
    if not isinstance(item, Mapping) or "select" not in item:
        faults.append(Fault("a group selects parameters", path, origins.of(path), item, "a mapping with `select`"))
        return None
    before = len(faults)
    selector, more = read_selector(item["select"], (*path, "select"), origins.of)
    faults += more + _check_name(item, path, origins)
    if "layer_decay" in item:
        decay, more = read_layer_decay(item["layer_decay"], (*path, "layer_decay"), origins)
        faults += more
    component, more = _component(item, top, path, origins)
    faults += more
    if component is None or selector is None or len(faults) > before:
        return None
    values, more = _values(component, item, origins)
    faults += more + _per_group(item, component, values, origins)
    name = item.get("name") or str(selector)
    return Rule(name, "name" in item, selector, component, values, decay, path, origins.of(path))


def _check_name(item: Mapping[str, Any], path: Path, origins: Origins) -> list[Fault]:
    if "name" not in item:
        return []
    name, place = item["name"], (*path, "name")
    if not isinstance(name, str) or not name or "/" in name:
        return [Fault("a group can't be called so", place, origins.of(place), name, "a text without '/'")]
    return []


def _names_twice(rules: list[Rule]) -> list[Fault]:
    seen: dict[str, Rule] = {}
    faults = []
    for rule in rules:
        if rule.name == DEFAULT_NAME:
            message = f"the name {rule.name!r} is that of the group of all that no other one takes"
            faults.append(Fault(message, rule.path, rule.origin, expected="another `name`"))
        first = seen.setdefault(rule.name, rule)
        if first is not rule:
            message = f"two groups are called {rule.name!r}"
            hint = f"the other stands at {first.origin}" if first.origin.line or first.origin.override else None
            faults.append(Fault(message, rule.path, rule.origin, expected="`name`s that differ", hint=hint))
    return faults


def _component(
    item: Mapping[str, Any], top: Component | None, path: Path, origins: Origins
) -> tuple[Component | None, list[Fault]]:
    """A group's optimiser: one of its own if it has a `type`, else the section's with the group's arguments."""
    rate = _check_rate(item, path, origins)
    if "type" in item:
        made, faults = read_component(optimizers, item, path, origins.of, withheld=("params",), reserved=GROUP_KEYS)
    elif top is None:
        return None, []
    else:
        own = {key: value for key, value in item.items() if key not in GROUP_KEYS}
        parameters = parameters_of(top.target)
        faults = check_arguments(
            top.kind, top.name, top.target, own, path=path, origin_of=lambda key: origins.of((*path, key)),
            provided=parameters.required if parameters else (), withheld=("params",),
        )  # fmt: skip
        made = Component(top.kind, top.name, top.target, {**top.arguments, **own}, path, origins.of(path))
    places = [fault.path for fault in rate]
    faults = [fault for fault in faults if fault.path not in places or "has no argument" in fault.message]
    return made, rate + _with_keys(faults, path, (*GROUP_KEYS, "type"))


def _check_rate(item: Mapping[str, Any], path: Path, origins: Origins) -> list[Fault]:
    """The fault of a group's learning rate, as the schema tells that of the section."""
    kind, place = number(0), (*path, "lr")
    if "lr" not in item or kind.accepts(item["lr"]):
        return []
    return [Fault("wrong value", place, origins.of(place), item["lr"], kind.expected)]


def _with_keys(faults: Sequence[Fault], path: Path, keys: Sequence[str]) -> list[Fault]:
    """Faults of unknown arguments at `path`, with the other keys that may stand there among those expected."""
    told = []
    for fault in faults:
        if fault.path[:-1] == path and "has no argument" in fault.message and fault.expected is not None:
            names = [*fault.expected.split(", "), *keys]
            fault = replace(fault, expected=", ".join(names), nearest=nearest(fault.path[-1], names))
        told.append(fault)
    return told


def _values(
    component: Component, section: Mapping[str, Any], origins: Origins
) -> tuple[Mapping[str, Any], list[Fault]]:
    """All hyperparameters, as the optimiser itself fills in and checks them: those given per group it wouldn't check.

    It is made for one small matrix, which every optimiser takes. What it refuses is told at the argument of `section`
    that it refuses.
    """
    try:
        return _defaults(component), []
    except ConfigError as error:
        (fault,) = error.faults

    def works(arguments: Mapping[str, Any]) -> bool:
        try:
            _defaults(replace(component, arguments=arguments))
        except ConfigError:
            return False
        return True

    given = [key for key in section if key in component.arguments]
    key = culprit(component, given, fault.message, works)
    if key is None:
        return {}, [fault]
    place = (*fault.path, key)
    return {}, [replace(fault, path=place, origin=origins.of(place), found=section[key])]


def _defaults(component: Component) -> Mapping[str, Any]:
    found: Mapping[str, Any] = light(component).make([nn.Parameter(torch.empty(1, 1))]).defaults
    return found


def _per_group(
    item: Mapping[str, Any], component: Component, values: Mapping[str, Any], origins: Origins
) -> list[Fault]:
    """Arguments that the optimiser takes, but not for one group."""
    faults = []
    for key in item if values and "type" not in item else ():
        if key not in GROUP_KEYS and key not in values:
            place = (*component.path, key)
            message = f"{component.name} takes {key!r} for all parameters, not for one group"
            faults.append(Fault(message, place, origins.of(place)))
    return faults


def _without_decay(rules: list[Rule], no_decay: Selector | None) -> list[Fault]:
    """What asks for a hyperparameter that no optimiser of the section, or not this one, has."""
    faults = []
    if no_decay is not None and not any("weight_decay" in rule.values for rule in rules):
        message = f"{rules[-1].component.name} has no weight decay to leave out"
        faults.append(Fault(message, no_decay.path, no_decay.origin, expected="no `no_decay`"))
    elif no_decay is not None and not any(_says_decay(rule) for rule in rules):
        message = f"{rules[-1].component.name} has a weight decay of 0, of which nothing can be left out"
        expected = "a `weight_decay`, or no `no_decay`"
        faults.append(Fault(message, no_decay.path, no_decay.origin, expected=expected))
    for rule in rules:
        if rule.decay is not None and not isinstance(rule.values.get("lr"), int | float):
            message = f"{rule.component.name} has no learning rate that layers could decay"
            faults.append(Fault(message, rule.decay.path, rule.decay.origin, expected="no `layer_decay`"))
    return faults


def _says_decay(rule: Rule) -> bool:
    """Whether there is a weight decay, or the config itself says that there is none."""
    return bool(rule.values.get("weight_decay")) or "weight_decay" in rule.component.arguments
