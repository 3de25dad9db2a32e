"""Which parameters an optimiser can train at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from builder.errors import Fault
from builder.optim.groups import Group, listed
from builder.optim.rules import MATRICES_ONLY, Rule
from builder.select import NamedModel

ONE_GROUP_ONLY = (torch.optim.LBFGS,)
"""Optimisers that treat all parameters as one vector."""
SPARSE_ONLY = (torch.optim.SparseAdam,)
"""Optimisers of parameters with sparse gradients."""
SPARSE_TOO = (torch.optim.SGD, torch.optim.Adagrad, torch.optim.SparseAdam, torch.optim.LBFGS)
"""PyTorch's optimisers that take sparse gradients."""


def check_fits(groups: Sequence[Group], named: NamedModel) -> list[Fault]:
    """What the optimisers of the groups can't train, one fault for each kind of trouble of a group's `type`."""
    sparse = {name: _sparse(named, name) for group in groups for name in group.parameters}
    by_rule: dict[int, dict[str, nn.Parameter]] = {}
    for group in groups:
        by_rule.setdefault(id(group.rule), {}).update(group.parameters)
    rules = {id(group.rule): group.rule for group in groups}
    faults = [fault for key, rule in rules.items() for fault in _of_rule(rule, by_rule[key], sparse)]
    alone = [group.rule for group in groups if issubclass(group.rule.component.target, ONE_GROUP_ONLY)]
    for rule in alone[:1] if len(groups) > 1 else ():
        message = f"{rule.component.name} takes all parameters as one group, but there are {len(groups)}"
        faults.append(Fault(message, rule.path, rule.origin, expected="no `groups`, `no_decay` and `layer_decay`"))
    unique = {(fault.message, fault.path): fault for fault in faults}
    return list(unique.values())


def _of_rule(rule: Rule, parameters: Mapping[str, nn.Parameter], sparse: Mapping[str, bool | None]) -> Iterator[Fault]:
    """What a rule's optimiser can't train of the parameters that follow it, in whatever groups they lie."""
    component = rule.component
    target, path, origin = component.target, component.path, component.origin
    others = [name for name, parameter in parameters.items() if parameter.ndim != 2]
    if issubclass(target, MATRICES_ONLY) and others:
        message = f"{component.name} trains matrices only, but the group {rule.name!r} holds {listed(others)}"
        hint = "train them with another optimiser: groups: [{select: {not: {ndim: 2}}, type: AdamW, lr: 3.0e-4}]"
        yield Fault(message, path, origin, hint=hint)
    dense = [name for name in parameters if sparse[name] is False]
    if issubclass(target, SPARSE_ONLY) and dense:
        message = (
            f"{component.name} trains parameters with sparse gradients only, but those of {listed(dense)} are dense"
        )
        hint = "an Embedding or EmbeddingBag has them with `sparse: true`; train the rest in groups of another `type`"
        yield Fault(message, path, origin, hint=hint)
    found = [name for name in parameters if sparse[name]]
    if target.__module__.startswith("torch.optim.") and not issubclass(target, SPARSE_TOO) and found:
        message = f"{component.name} can't train with sparse gradients, which {listed(found)} will have"
        hint = "train them in a group with `type: SparseAdam`, or leave out `sparse: true`"
        yield Fault(message, path, origin, hint=hint)


def _sparse(named: NamedModel, name: str) -> bool | None:
    """Whether a parameter's gradients will be sparse; None where only a run could tell."""
    owners = [named.modules[alias.rpartition(".")[0]] for alias in named.aliases[name]]
    embeddings = [owner for owner in owners if isinstance(owner, nn.Embedding | nn.EmbeddingBag)]
    if len(embeddings) == len(owners) and all(owner.sparse for owner in embeddings):
        return True
    if all(type(owner).__module__.startswith("torch.nn.") for owner in owners):
        return False
    return None
