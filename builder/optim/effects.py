"""What the section `optimizer:` says without effect, or against what an optimiser is meant for: notes, not faults."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import nn

from builder.errors import Fault, Path
from builder.optim.depth import Depths
from builder.optim.rules import MATRICES_ONLY, Rule, Rules
from builder.select import NamedModel


def effects(
    rules: Rules,
    named: NamedModel,
    taken: Mapping[str, int],
    without_decay: Collection[str],
    by_rule: Mapping[int, Depths],
) -> tuple[Fault, ...]:
    """The notes on rules that hold of a model.

    Args:
        rules: all of them.
        named: the model.
        taken: the index of the rule that each trained parameter follows.
        without_decay: what `no_decay` selects, trained or not.
        by_rule: the depths of the rules in which they count.
    """
    return (
        *_of_no_decay(rules, taken, without_decay),
        *_of_layer_decay(rules.rules, taken, by_rule),
        *(note for index, rule in enumerate(rules.rules) for note in _of_matrices(rule, index, named, taken)),
    )


def _of_no_decay(rules: Rules, taken: Mapping[str, int], selected: Collection[str]) -> Iterator[Fault]:
    if rules.no_decay is None:
        return
    decaying = {name for name, index in taken.items() if rules.rules[index].values.get("weight_decay")}
    if decaying & set(selected):
        return
    why = "the weight decay is 0 anyway"
    if decaying:
        why = "what it selects isn't trained, or has no weight decay anyway"
    yield Fault(f"no_decay has no effect: {why}", rules.no_decay.path, rules.no_decay.origin, rules.no_decay.raw)


def _of_layer_decay(rules: Sequence[Rule], taken: Mapping[str, int], by_rule: Mapping[int, Depths]) -> Iterator[Fault]:
    """A note on each decay that changes no rate, whichever groups follow it."""
    following: dict[Path, list[int]] = {}
    for index, rule in enumerate(rules):
        if rule.decay is not None:
            following.setdefault(rule.decay.path, []).append(index)
    for indices in following.values():
        decay = rules[indices[0]].decay
        assert decay is not None
        names = [name for name, index in taken.items() if index in indices]
        rated = [name for name in names if rules[taken[name]].values["lr"]]
        lower = [name for name in rated if (of := by_rule.get(taken[name])) and of.of[name] < of.top]
        if lower:
            continue
        why = "a rate of 1 leaves every layer as it is"
        if decay.rate != 1:
            why = "only the top layer is trained" if rated else "the learning rate is 0"
        why = why if names else "no trained parameter follows it"
        yield Fault(f"layer_decay has no effect: {why}", decay.path, decay.origin)


def _of_matrices(rule: Rule, index: int, named: NamedModel, taken: Mapping[str, int]) -> Iterator[Fault]:
    """A note on embeddings and the last layer where they are orthogonalised, which only suits matrices in between."""
    if not issubclass(rule.component.target, MATRICES_ONLY):
        return
    matrices = [name for name, parameter in named.parameters.items() if parameter.ndim == 2]
    outside = [name for name in matrices if name == matrices[-1] or _embeds(named, name)]
    found = [name for name in outside if taken.get(name) == index]
    if found:
        message = f"{rule.component.name} isn't meant for embeddings and the last layer, but trains {', '.join(found)}"
        hint = f"give them to a group of another type: select: [{{not: {{ndim: 2}}}}, {', '.join(found)}]"
        yield Fault(message, rule.component.path, rule.component.origin, hint=hint)


def _embeds(named: NamedModel, name: str) -> bool:
    owners = [named.modules[alias.rpartition(".")[0]] for alias in named.aliases[name]]
    return any(isinstance(owner, nn.Embedding | nn.EmbeddingBag) for owner in owners)
