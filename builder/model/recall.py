"""Runs equal parts of a model once: what a block gave for inputs of some shape, another copy of it gives again.

Only for the meta device, where outputs are nothing but shapes: the run of a model with a hundred equal blocks then
costs what one with one block costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from builder.lang.guard import spend
from builder.model.record import Call

PLAIN = (type(None), bool, int, float, str)


@dataclass(frozen=True, slots=True)
class Memory:
    """What a part gave, and what was found inside it, by paths from the part."""

    output: Any
    sizes: tuple[tuple[str, dict[str, Any]], ...]
    calls: tuple[Call, ...]


class Unknown(Exception):
    """A value that is more than shapes and plain numbers; calls with it are not remembered."""


@dataclass(slots=True)
class Recall:
    """What the parts of one model gave so far; `sizes` and `calls` are where their insides are noted by path."""

    sizes: dict[str, dict[str, Any]]
    calls: dict[str, Call] = field(default_factory=dict)
    known: dict[Any, Memory] = field(default_factory=dict)

    def call(self, path: str, key: Any, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The output of the part at `path`; `key` says all that decides its shapes besides its inputs."""
        try:
            key = (key, tuple(_signature((args, kwargs))))
        except Unknown:
            return forward(*args, **kwargs)
        memory = self.known.get(key)
        if memory is not None:
            return self._recalled(path, memory)
        sizes, calls = len(self.sizes), len(self.calls)
        output = forward(*args, **kwargs)
        try:
            kept = _copied(output)
        except Unknown:
            return output
        depth = len(path) + 1
        self.known[key] = Memory(
            kept,
            tuple((name[depth:], found) for name, found in islice(self.sizes.items(), sizes, None)),
            tuple(
                Call(call.path[depth:], call.inputs, call.outputs) for call in islice(self.calls.values(), calls, None)
            ),
        )
        return output

    def _recalled(self, path: str, memory: Memory) -> Any:
        for name, sizes in memory.sizes:
            self.sizes.setdefault(f"{path}.{name}", sizes)
        for call in memory.calls:
            name = f"{path}.{call.path}"
            self.calls.setdefault(name, Call(name, call.inputs, call.outputs))
        return _copied(memory.output)


def _signature(value: Any) -> Iterator[Any]:
    """What decides the shapes of what comes out: shapes and dtypes of tensors, plain values, their nesting."""
    spend(1)
    if isinstance(value, torch.Tensor):
        yield (tuple(value.shape), value.dtype)
    elif type(value) in PLAIN:
        yield value
    elif isinstance(value, dict):
        yield ("dict", *value)
        for item in value.values():
            yield from _signature(item)
    elif isinstance(value, list | tuple):
        yield (type(value).__name__, len(value))
        for item in value:
            yield from _signature(item)
    else:
        raise Unknown


def _copied(value: Any) -> Any:
    """The same with tensors of its own, so that no two calls give the same tensor."""
    spend(1)
    if isinstance(value, torch.Tensor):
        return torch.empty_like(value)
    if type(value) in PLAIN:
        return value
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    raise Unknown
