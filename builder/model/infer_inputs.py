"""What a model is run with to find its sizes: examples of the data, or guesses where nothing is said of a dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from builder.errors import ConfigError, Fault, nearest
from builder.lang.syntax import LangError
from builder.model.pending import Names
from builder.model.record import Shape
from builder.model.scope import evaluate
from builder.model.spec import Definition, Input

GUESSES = (64, 224, 32, 16, 8, 256, 512)
"""Sizes tried in turn for the free dimensions of inputs; the first with which the model runs is taken."""

BATCH = 2
"""The size of each input's first dimension, if it is free: more than one, since batch norms refuse a single value."""


def check_given(definition: Definition, given: Names) -> None:
    """Refuse values for arguments that a model doesn't have, and the lack of one that it requires.

    Raises:
        ConfigError: with all of them.
    """
    faults = []
    for name in given:
        if name not in definition.args:
            faults.append(Fault(f"{definition.name} has no argument {name!r}", (*definition.place.path, "args"),
                                definition.place.origin, nearest=nearest(name, definition.args)))  # fmt: skip
    for name, argument in definition.args.items():
        if argument.required and name not in given:
            faults.append(Fault(f"argument {name!r} is required", argument.place.path, argument.place.origin,
                                found="required", expected="a value in its place"))  # fmt: skip
    if faults:
        raise ConfigError(*faults)


def free_dimensions(definition: Definition, examples: Mapping[str, Any]) -> tuple[str, ...]:
    """The free dimensions of the inputs besides the first of each, where no example gives their size."""
    dims = [
        dim
        for item in definition.inputs
        if not item.optional and item.name not in examples
        for dim in (item.shape or ())[1:]
        if isinstance(dim, str)
    ]
    return tuple(dict.fromkeys(dims))


def example_inputs(
    definition: Definition, names: Names, examples: Mapping[str, tuple[Shape, str]], guess: int
) -> dict[str, Any] | None:
    """Inputs on the meta device; None if nothing is known of one of them."""
    free: dict[str, int] = {}
    inputs: dict[str, Any] = {}
    for item in definition.inputs:
        if item.optional:
            continue
        if item.name in examples:
            shape, dtype = examples[item.name]
            _unify(item, shape, names, free)
            inputs[item.name] = torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        elif item.dtype in ("int", "float", "str"):
            inputs[item.name] = {"int": 1, "float": 1.0, "str": ""}[item.dtype]
        elif item.shape is None:
            return None
        else:
            shape = tuple(_dim(item, index, names, free, guess) for index in range(len(item.shape)))
            inputs[item.name] = _example(item, shape)
    return inputs


def _example(item: Input, shape: Shape) -> torch.Tensor:
    try:
        return torch.empty(shape, dtype=getattr(torch, item.dtype), device="meta")
    except (TypeError, RuntimeError):  # a size beyond 64 bits, or all of them together
        place = item.place
        message = f"input {item.name!r} is larger than any tensor"
        raise ConfigError(Fault(message, place.path, place.origin, found=list(shape))) from None


def _dim(item: Input, index: int, names: Names, free: dict[str, int], guess: int) -> int:
    assert item.shape is not None
    dim = item.shape[index]
    if isinstance(dim, str):
        return free.setdefault(dim, BATCH if index == 0 else guess)
    size = _evaluated(item, dim, names)
    if type(size) is not int or size < 0:
        raise ConfigError(Fault(f"dimension {index} of input {item.name!r} is not a size", item.place.path,
                                item.place.origin, found=size))  # fmt: skip
    return size


def _evaluated(item: Input, dim: Any, names: Names) -> Any:
    try:
        return evaluate(dim, names)
    except LangError as error:
        raise ConfigError(error.fault(str(dim), item.place.origin, item.place.path)) from None


def _unify(item: Input, shape: Shape, names: Names, free: dict[str, int]) -> None:
    """Check the declared shape of an input against that of the data."""
    if item.shape is None:
        return
    wanted = [free.setdefault(dim, size) if isinstance(dim, str) else _evaluated(item, dim, names)
              for dim, size in zip(item.shape, shape, strict=False)]  # fmt: skip
    if len(item.shape) != len(shape) or tuple(wanted) != shape:
        shown = ", ".join(dim if isinstance(dim, str) else str(_evaluated(item, dim, names)) for dim in item.shape)
        raise ConfigError(
            Fault(f"input {item.name!r} doesn't fit the data", item.place.path, item.place.origin,
                  found=f"[{shown}]", expected=f"{list(shape)}, the shape of {item.name!r} in a batch of the data")
        )  # fmt: skip
