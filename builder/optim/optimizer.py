"""The optimiser that the section `optimizer:` describes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from builder.catalog.component import Component
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Path
from builder.optim.combined import Combined
from builder.optim.fits import check_fits
from builder.optim.groups import Group, make_groups
from builder.optim.light import light
from builder.optim.rules import read_rules
from builder.optim.state import keep_by_name
from builder.select import NamedModel

FUSED_ON_CUDA = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
"""Optimisers whose fused kernels are taken on CUDA unless the config says otherwise."""
IMPLEMENTATIONS = ("fused", "foreach", "capturable", "differentiable")
"""Arguments that choose or restrict how a step is computed."""


def build_optimizer(
    model: nn.Module,
    section: Mapping[str, Any],
    origins: Origins,
    path: Path = ("optimizer",),
    *,
    trainable: Collection[str] | None = None,
    planned: bool = False,
) -> Optimizer:
    """The optimiser over the trainable parameters of `model`, each once, in the groups that the section says.

    Every group has its `name`, the `type` of its optimiser and the `param_names`. State is saved with these names and
    loaded by them. Where groups have a `type` of their own it is a `Combined` one. Its attribute `notes` says what of
    the section has no effect; `group_report` tells it.

    Args:
        model: the model; on the meta device too.
        section: the section `optimizer:`.
        origins: where its values were written.
        path: the section's place in the config.
        trainable: first names of the parameters that are trained at some time; None for those that require a gradient.
        planned: whether it is only looked at, and never takes a step.

    Raises:
        ConfigError: the section is wrong, or nothing is trainable.
    """
    rules = read_rules(section, origins, path)
    named = NamedModel(model)
    if trainable is None:
        trainable = [name for name, parameter in named.parameters.items() if parameter.requires_grad]
    assert named.parameters.keys() >= set(trainable), "trainable are first names"
    if not trainable:
        raise ConfigError(Fault("the model has no trainable parameter", path, origins.of(path)))
    groups, faults, notes = make_groups(rules, model, named, set(trainable))
    faults = faults or check_fits(groups, named)
    if faults:
        raise ConfigError(*faults)
    optimizer = _made(groups, rules.plain, planned)
    keep_by_name(optimizer, named.aliases)
    optimizer.notes = notes  # type: ignore[attr-defined]
    return optimizer


def _made(groups: Sequence[Group], plain: bool, planned: bool) -> Optimizer:
    """The optimiser of the groups; where there is nothing to tell apart, made as one would by hand."""
    by_type: dict[Any, list[Group]] = {}
    for group in groups:
        by_type.setdefault(group.rule.component.target, []).append(group)
    made = [_one(each, plain, planned) for each in by_type.values()]
    return made[0] if len(made) == 1 else Combined(made)


def _one(groups: Sequence[Group], plain: bool, planned: bool) -> Optimizer:
    """One optimiser; arguments that differ between groups are those of the groups."""
    component = groups[-1].rule.component
    values = [{} if plain else group.values for group in groups]
    optimizer = (light(component) if planned else component).make(
        [{"params": list(group.parameters.values()), **each} for group, each in zip(groups, values, strict=True)]
    )
    for param_group, group in zip(optimizer.param_groups, groups, strict=True):
        param_group["name"] = group.name
        param_group["type"] = component.name
        param_group["param_names"] = list(group.parameters)
        _choose_fused(param_group, group.rule.component)
    return optimizer


def _choose_fused(param_group: dict[str, Any], component: Component) -> None:
    """Take fused kernels on CUDA, where the config doesn't choose.

    Chosen for a group, not for the optimiser, since an optimiser made with `fused=True` unscales gradients in its step,
    which keeps Lightning from clipping them in mixed precision with float16.
    """
    chosen = any(component.arguments.get(key) for key in IMPLEMENTATIONS) or any(
        component.arguments.get(key) is False for key in ("fused", "foreach")
    )
    able = issubclass(component.target, FUSED_ON_CUDA) and not chosen
    if able and all(each.is_cuda and each.is_floating_point() for each in param_group["params"]):
        param_group["fused"] = True
