"""Lays the hooks of a config beside its model: which modules and parameters each is about, and why one can't work."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from builder import registry
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault
from builder.select import NamedModel
from builder.training.compiled import Compile
from builder.training.hooks.rules import ABOUT_MODULES, CHANGING, Rule, read_hooks
from builder.training.loggers import TensorBoardLogger

Shapes = Mapping[str, Sequence[tuple[int, ...]]]
"""Module path → the shapes of what it gives, for modules that are called."""

FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class PlannedHook:
    """A hook and what it is about in the model: names of modules, or of parameters."""

    rule: Rule
    names: tuple[str, ...]

    @property
    def about_modules(self) -> bool:
        """Whether `names` are those of modules."""
        return self.rule.of in ABOUT_MODULES

    def is_due(self, step: int) -> bool:
        """Whether it is due at the optimiser step that comes after `step` others."""
        return (step + 1) % self.rule.every == 0


def plan_hooks(
    config: Mapping[str, Any],
    origins: Origins,
    model: nn.Module,
    *,
    given: Shapes | None,
    trainable: Collection[str],
    growth: float = 1.0,
) -> tuple[PlannedHook, ...]:
    """The hooks of the section `hooks` of a config.

    Args:
        config: the whole config.
        origins: where it was written.
        model: its model, on the meta device.
        given: what its modules give; None where the model couldn't be run.
        trainable: the parameters that are trained at some time.
        growth: a batch's samples in training by those with which `given` was found.

    Raises:
        ConfigError: a hook is wrong, or is about nothing, or can't work with the rest of the config.
    """
    rules, faults = read_hooks(config.get("hooks"), origins)
    named = NamedModel(model)
    planned = []
    for rule in rules:
        names, fault = _names(rule, named, given, trainable)
        faults += [fault] if fault is not None else list(_hindered(rule, names, config, given or {}, growth))
        planned.append(PlannedHook(rule, names))
    if faults:
        raise ConfigError(*faults)
    return tuple(planned)


def _names(
    rule: Rule, named: NamedModel, given: Shapes | None, trainable: Collection[str]
) -> tuple[tuple[str, ...], Fault | None]:
    """What a rule is about, and why that is nothing."""
    fault = None if rule.selector is None else named.fault(rule.selector)
    if fault is not None:
        return (), fault
    if rule.of in ABOUT_MODULES:
        return _modules(rule, named, given)
    parameters = named.parameters if rule.selector is None else named.parameters_of(rule.selector)
    if not parameters:
        return (), _about_nothing(rule, "it selects no parameters")
    names = tuple(parameters) if rule.of == "weights" else tuple(name for name in parameters if name in trainable)
    return names, None if names else _about_nothing(rule, "none of the parameters that it selects is ever trained")


def _modules(rule: Rule, named: NamedModel, given: Shapes | None) -> tuple[tuple[str, ...], Fault | None]:
    if rule.selector is None:
        chosen = {name: module for name, module in named.modules.items() if not list(module.children())}
    else:
        chosen = named.modules_of(rule.selector)
    if not chosen:
        return (), _about_nothing(rule, f"{rule.of} are those of modules, and it selects parameters only")
    names = tuple(name for name in chosen if given is None or name in given)
    if not names:
        return (), _about_nothing(rule, "none of the modules that it selects is called")
    return names, None


def _about_nothing(rule: Rule, message: str) -> Fault:
    place = (*rule.path, "select")
    return Fault(f"this hook is about nothing: {message}", place, rule.origin, rule.selector and rule.selector.raw)


def _hindered(
    rule: Rule, names: Sequence[str], config: Mapping[str, Any], given: Shapes, growth: float
) -> Iterator[Fault]:
    """Why a hook can't work with the rest of the config."""
    if rule.of in ABOUT_MODULES and _has(registry.callbacks, config.get("callbacks"), Compile):
        yield Fault(
            f"{rule.of} can't be had under torch.compile: what is compiled runs as a whole, without its modules' calls",
            rule.path, rule.origin, hint="leave out the callback Compile, or take weights, updates or weight_gradients",
        )  # fmt: skip
    if rule.of == "gradients" and rule.action in ("clip", "noise", "type") and _is_scaled(config.get("trainer")):
        yield Fault(
            "gradients with respect to activations are multiplied by a scale in 16-bit precision", (*rule.path, "of"),
            rule.origin, expected="of: weight_gradients, or trainer.precision: bf16-mixed",
        )  # fmt: skip
    if rule.action == "record" and "histogram" in rule.value:
        if not _has(registry.loggers, config.get("logger"), TensorBoardLogger):
            yield Fault("no logger takes histograms", (*rule.path, "record"), rule.origin,
                        expected="a TensorBoardLogger under 'logger'")  # fmt: skip
    if rule.action == "save":
        size = growth * FLOAT_BYTES * sum(math.prod(shape) for name in names for shape in given.get(name, ()))
        if size > rule.max_mb * 2**20:
            message, hint = f"a file would hold about {size / 2**20:,.3g} MiB", "select fewer modules, or raise max_mb"
            yield Fault(message, rule.path, rule.origin, expected=f"at most max_mb: {rule.max_mb}", hint=hint)
    if rule.action == "scale" and rule.value == 1:
        yield Fault("a scale of 1 changes nothing", (*rule.path, "scale"), rule.origin)


def _has(kind: registry.Registry, section: Any, target: type) -> bool:
    """Whether a section of components holds one of that class."""
    parts = section.values() if isinstance(section, Mapping) else ()
    types = [part.get("type") if isinstance(part, Mapping) else part for part in parts]
    found = [kind.get(name) for name in types if isinstance(name, str) and name in kind]
    return any(isinstance(each, type) and issubclass(each, target) for each in found)


def _is_scaled(trainer: Any) -> bool:
    return isinstance(trainer, Mapping) and str(trainer.get("precision")) in ("16-mixed", "16")


def changes(hook: PlannedHook) -> bool:
    """Whether a hook may change what is trained."""
    return hook.rule.action in (*CHANGING, "type")
