"""The model again with other arguments: what tells `width` from a number that happens to be the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from builder.errors import BuilderError
from builder.lang.formula import Formula
from builder.model.infer import Exploration, explore
from builder.model.pending import Names, Sizes
from builder.model.scope import evaluate
from builder.model.source_visits import instance_names, repeat_counts
from builder.model.spec import Definition

MAX_PROBED = 4000
"""Layers above which a model isn't explored again: its sizes are printed as numbers."""

MAX_ITEMS = 8
"""Numbers in a list above which they aren't doubled in turn."""


def probes(definition: Definition, given: Names, data: Names, found: Exploration) -> Iterator[tuple[Names, Sizes]]:
    """The model with one number among its arguments doubled at a time, where that can run."""
    if len(found.nodes) > MAX_PROBED:
        return
    names = instance_names(definition, given, {"data": data})
    counts = repeat_counts(definition)
    # Two copies say as much as many, in less time.
    few = {name: _two(names[name]) for name in definition.args if name in counts}
    for name in definition.args:
        for doubled in () if name in counts else _doubled(names[name]):
            for others in (few, {}) if few else ({},):
                values = {**given, **others, name: doubled}
                try:
                    examples = _examples(definition, values, data, found)
                    yield values, explore(definition, values, data, examples).sizes
                except BuilderError:
                    continue
                break


def _examples(
    definition: Definition, given: Names, data: Names, found: Exploration
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of the inputs as they were found, but for the sizes that are formulas over the arguments."""
    names = instance_names(definition, given, {"data": data})
    examples = {}
    for item in definition.inputs:
        example = found.inputs.get(item.name)
        if isinstance(example, torch.Tensor):
            dims = item.shape or example.shape
            sizes = [
                evaluate(d, names) if isinstance(d, Formula) else n for d, n in zip(dims, example.shape, strict=True)
            ]
            examples[item.name] = tuple(sizes), str(example.dtype).removeprefix("torch.")
    return examples


def _doubled(value: Any) -> Iterator[Any]:
    """Twice a number; of a list, with one number doubled in turn."""
    if type(value) is int and value > 0:
        yield 2 * value
    elif isinstance(value, list | tuple) and len(value) <= MAX_ITEMS and all(type(item) is int for item in value):
        for index, item in enumerate(value):
            yield [*value[:index], 2 * item, *value[index + 1 :]]


def _two(value: Any) -> Any:
    """Two copies; of each, if there are several counts."""
    if isinstance(value, list | tuple):
        return [_two(item) for item in value]
    return 2 if type(value) is int else value
