"""What an instance of a layer tells: what it holds and doesn't know of, and what of it can't be pickled."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from builder.inspect.doctor.finding import Finding
from builder.inspect.doctor.source import Source

OWN = frozenset(nn.Module().__dict__)
"""Attributes that every module has."""
DEEPEST = 4
"""How far into lists and objects it is looked."""

SourceOf = Callable[[type], Source | None]


def findings(module: nn.Module, source_of: SourceOf) -> Iterator[Finding]:
    """All that is found in one module, not in those below it."""
    places = _Places(module, source_of)
    for name, value in vars(module).items():
        if name not in OWN:
            yield from _attribute(places, name, value)
    if "<locals>" in type(module).__qualname__:
        yield from places.found("local", "")


class _Places:
    """Where the attributes of a module are assigned, in its class or in those that this comes from."""

    def __init__(self, module: nn.Module, source_of: SourceOf) -> None:
        self.name = type(module).__name__
        self.sources = [source for cls in type(module).__mro__ if (source := source_of(cls)) is not None]

    def found(self, rule: str, name: str, kind: str = "") -> Iterator[Finding]:
        """A finding at the line that assigns the attribute; none where that says it is fine."""
        for source in self.sources:
            line = source.line_of(name)
            if line is not None:
                if not source.is_fine(line):
                    yield Finding(rule, self.name, source.file, line, name, kind)
                return
        if self.sources and not self.sources[0].is_fine(self.sources[0].tree.lineno):
            yield Finding(rule, self.name, self.sources[0].file, self.sources[0].tree.lineno, name, kind)


def _attribute(places: _Places, name: str, value: Any) -> Iterator[Finding]:
    if isinstance(value, Tensor):
        yield from places.found("parameter" if value.requires_grad else "buffer", name)
    elif isinstance(value, list | tuple | dict | set | frozenset):
        held = set(_held(value, DEEPEST, set()))
        if held:
            yield from places.found("modules" if "module" in held else "tensors", name, type(value).__name__)
    elif not isinstance(value, type | nn.Module) and not callable(value) and set(_held(value, DEEPEST, set())):
        yield from places.found("hidden", name, type(value).__name__)
    if not isinstance(value, Tensor | nn.Module) and (why := _unpicklable(value)):
        yield from places.found("pickle", name, why)


def _held(value: Any, depth: int, seen: set[int]) -> Iterator[str]:
    """Whether tensors and modules are in a value: `tensor`, `module`, for each of them."""
    if isinstance(value, Tensor):
        yield "tensor"
    elif isinstance(value, nn.Module):
        yield "module"
    elif depth and id(value) not in seen:
        seen.add(id(value))
        if isinstance(value, dict):
            inner = list(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            inner = list(value)
        else:
            inner = list(getattr(value, "__dict__", {}).values()) if not isinstance(value, type) else []
        for item in inner:
            yield from _held(item, depth - 1, seen)


def _unpicklable(value: Any) -> str:
    """Why a value can't be pickled, in a few words; empty if it can."""
    if getattr(value, "__name__", "") == "<lambda>":
        return "a lambda"
    if "<locals>" in getattr(value, "__qualname__", ""):
        return "it is made inside of a function"
    try:
        pickle.Pickler(io.BytesIO()).dump(value)
    except Exception as error:  # whatever `__reduce__` of anything raises
        first = str(error).splitlines()[0] if str(error) else ""
        return f"{type(error).__name__}: {first}"[:100]
    return ""
