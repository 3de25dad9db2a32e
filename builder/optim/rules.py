"""What `optimizer:` says about groups of parameters, read and checked without the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from builder.catalog.arguments import check_arguments, parameters_of
from builder.catalog.component import Component, read_component
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Origin, Path
from builder.registry import optimizers
from builder.select import Selector, read_selector

RESERVED = ("groups", "no_decay", "layer_decay")
"""Keys of `optimizer:` that aren't arguments of its `type`."""
GROUP_KEYS = ("name", "select", "layer_decay")
"""Keys of a group that aren't arguments of the optimiser."""
DEFAULT_NAME = "default"
"""The name of the group of all that no other one takes."""


@dataclass(frozen=True, slots=True)
class LayerDecay:
    """The learning rate is multiplied by `rate` from a layer to the one below; `layers` from the bottom up, if said."""

    rate: float
    layers: tuple[Selector, ...]
    path: Path
    origin: Origin


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
    no_decay, more = _selector(section.get("no_decay"), (*path, "no_decay"), origins)
    decay, others = _layer_decay(section.get("layer_decay"), (*path, "layer_decay"), origins)
    faults += more + others
    rules: list[Rule] = []
    for index, item in enumerate(_items(section.get("groups"), (*path, "groups"), origins, faults)):
        rule = _group(item, top, decay, (*path, "groups", index), origins, faults)
        rules += [rule] if rule is not None else []
    faults += _names_twice(rules)
    if top is None or faults:
        raise ConfigError(*faults)
    values, refused = _values(top)
    rules.append(Rule(DEFAULT_NAME, False, None, top, values, decay, path, origins.of(path)))
    faults += refused + _without_decay(rules, no_decay)
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
        decay, more = _layer_decay(item["layer_decay"], (*path, "layer_decay"), origins)
        faults += more
    component, more = _component(item, top, path, origins)
    faults += more
    if component is None or selector is None or len(faults) > before:
        return None
    values, more = _values(component)
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
    if "type" in item:
        return read_component(optimizers, item, path, origins.of, withheld=("params",), reserved=GROUP_KEYS)
    if top is None:
        return None, []
    own = {key: value for key, value in item.items() if key not in GROUP_KEYS}
    parameters = parameters_of(top.target)
    faults = check_arguments(
        top.kind, top.name, top.target, own, path=path, origin_of=lambda key: origins.of((*path, key)),
        provided=parameters.required if parameters else (), withheld=("params",),
    )  # fmt: skip
    return Component(top.kind, top.name, top.target, {**top.arguments, **own}, path, origins.of(path)), faults


def _values(component: Component) -> tuple[Mapping[str, Any], list[Fault]]:
    """All hyperparameters, as the optimiser itself fills in and checks them: those given per group it wouldn't check.

    It is made for one small matrix, which every optimiser takes.
    """
    try:
        return component.make([nn.Parameter(torch.empty(1, 1))]).defaults, []
    except ConfigError as error:
        return {}, list(error.faults)


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
    for rule in rules:
        if rule.decay is not None and not isinstance(rule.values.get("lr"), int | float):
            message = f"{rule.component.name} has no learning rate that layers could decay"
            faults.append(Fault(message, rule.decay.path, rule.decay.origin, expected="no `layer_decay`"))
    return faults


def _layer_decay(raw: Any, path: Path, origins: Origins) -> tuple[LayerDecay | None, list[Fault]]:
    """The decay written at `path`; null for none."""
    if raw is None:
        return None, []
    values = raw if isinstance(raw, Mapping) else {"rate": raw}
    rate, layers = values.get("rate"), values.get("layers")
    faults = []
    if (
        set(values) - {"rate", "layers"}
        or isinstance(rate, bool)
        or not isinstance(rate, int | float)
        or not 0 < rate <= 1
    ):
        expected = "a number above 0, at most 1, or {rate: …, layers: [selectors from the bottom up]}"
        faults.append(Fault("layer_decay can't be used", path, origins.of(path), raw, expected))
    selectors: list[Selector] = []
    if layers is not None:
        place = (*path, "layers")
        if not isinstance(layers, list | tuple) or not layers:
            faults.append(Fault("layers are a list", place, origins.of(place), layers, "selectors from the bottom up"))
            layers = ()
        for index, item in enumerate(layers):
            selector, more = read_selector(item, (*place, index), origins.of)
            faults += more
            selectors += [selector] if selector is not None else []
    if faults:
        return None, faults
    return LayerDecay(float(rate), tuple(selectors), path, origins.of(path)), []  # type: ignore[arg-type]
