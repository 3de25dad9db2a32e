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
from builder.model.infer_layout import KINDS, META
from builder.model.record import Call

PLAIN = (type(None), bool, int, float, str)


@dataclass(frozen=True, slots=True)
class Memory:
    """What a part gave, and what was found inside it, by what is added to its path."""

    output: Any
    sizes: tuple[tuple[str, dict[str, Any]], ...]
    calls: tuple[Call, ...]


class Contradicted(Exception):
    """A part was recalled whose inputs now give other sizes than they did before; `names` are those of the layer's."""

    def __init__(self, path: str, names: tuple[str, ...]) -> None:
        super().__init__(path, names)
        self.path, self.names = path, names


class Unknown(Exception):
    """A value that is more than shapes and plain numbers; calls with it are not remembered."""


@dataclass(slots=True)
class Recall:
    """What the parts of one model gave so far; `sizes` and `calls` are where their insides are noted by path."""

    sizes: dict[str, dict[str, Any]]
    calls: dict[str, Call] = field(default_factory=dict)
    known: dict[Any, Memory] = field(default_factory=dict)
    before: dict[str, list[str]] = field(default_factory=dict, init=False)
    """Path of a part → what is added to it for the layers inside whose sizes an earlier run has found."""

    def __post_init__(self) -> None:
        for name in self.sizes:
            end = len(name)
            while end > 0:
                self.before.setdefault(name[:end], []).append(name[end:])
                end = name.rfind(".", 0, end)

    def call(self, path: str, key: Any, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The output of the part at `path`; `key` says all that decides its shapes besides its inputs.

        Raises:
            Contradicted: sizes inside it are known already, and are others.
        """
        try:
            with torch._C.DisableTorchFunction():
                key = (key, tuple(_signature((args, kwargs))))
        except Unknown:
            return forward(*args, **kwargs)
        memory = self.known.get(key)
        if memory is not None:
            return self._recalled(path, memory)
        sizes, calls = len(self.sizes), len(self.calls)
        output = forward(*args, **kwargs)
        try:
            with torch._C.DisableTorchFunction():
                kept = _copied(output)
        except Unknown:
            return output
        depth = len(path)
        ends = (*self.before.get(path, ()), *(name[depth:] for name in islice(self.sizes, sizes, None)))
        self.known[key] = Memory(
            kept,
            tuple((end, self.sizes[path + end]) for end in ends),
            tuple(
                Call(call.path[depth:], call.inputs, call.outputs) for call in islice(self.calls.values(), calls, None)
            ),
        )
        return output

    def _recalled(self, path: str, memory: Memory) -> Any:
        for end, sizes in memory.sizes:
            known = self.sizes.setdefault(path + end, sizes)
            if known != sizes:
                raise Contradicted(path + end, tuple(name for name in sizes if sizes[name] != known.get(name)))
        for call in memory.calls:
            name = path + call.path
            self.calls.setdefault(name, Call(name, call.inputs, call.outputs))
        with torch._C.DisableTorchFunction():
            return _copied(memory.output)


def _signature(value: Any) -> Iterator[Any]:
    """What decides the shapes of what comes out: layouts and dtypes of tensors, plain values, their nesting."""
    spend(1)
    if isinstance(value, torch.Tensor):
        yield _layout(value)
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


def _layout(x: torch.Tensor) -> tuple[Any, ...]:
    """All there is to a tensor without values."""
    if type(x) not in KINDS or not x.is_meta or x.layout is not torch.strided or x.is_conj() or x.is_neg():
        raise Unknown
    return tuple(x.shape), x.stride(), x.dtype


def _copied(value: Any) -> Any:
    """The same with tensors of its own, so that no two calls give the same tensor."""
    spend(1)
    if isinstance(value, torch.Tensor):
        shape, strides, dtype = _layout(value)
        return torch.empty_strided(shape, strides, dtype=dtype, device=META)
    if type(value) in PLAIN:
        return value
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    raise Unknown
