"""Runs a model once on the meta device: finds the sizes that were left out, every shape, and what doesn't fit.

Nothing is allocated and nothing is initialised, so that this costs a few microseconds a layer whatever its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from builder.errors import ConfigError, Fault, nearest
from builder.lang.syntax import LangError
from builder.model.make import Maker, Names, Pending, Refused, Sizes, settle
from builder.model.misfit import Call, Record, Shape, misfit, shapes, tensors
from builder.model.scope import evaluate
from builder.model.spec import Definition, Input, Node

GUESSES = (64, 224, 32, 16, 8, 256, 512)
"""Sizes tried in turn for the free dimensions of inputs; the first with which the model runs is taken."""

BATCH = 2
"""The size of each input's first dimension, if it is free: more than one, since batch norms refuse a single value."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """What the meta device told: the model on it, the sizes found, the calls in order, and the inputs it was given."""

    model: nn.Module
    sizes: Sizes
    calls: tuple[Call, ...]
    inputs: Mapping[str, Any]
    outputs: Any
    ran: bool
    nodes: Mapping[str, Node]


class Meter(Protocol):
    """Measures a run besides its shapes: a context around it that is told of each module entered and left."""

    def __enter__(self) -> object: ...

    def __exit__(self, *error: Any) -> None: ...

    def enter(self, path: str) -> None:
        """The module at that path is called."""

    def leave(self, path: str) -> None:
        """It returned."""


RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
"""What LSTM, GRU and RNN call."""


class SkipInit(TorchFunctionMode):
    """Leaves out what costs time and does nothing on the meta device: initialisers, and the steps of recurrent layers."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the tensor of an initialiser unchanged, tensors of the right shapes for a recurrence; call all else."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if is_unrolled(func, args, kwargs):
            return _unrolled(*args)
        return func(*args, **kwargs)


def is_unrolled(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether `SkipInit` leaves out the steps of this call: a recurrent layer's, with a batch of sequences."""
    return func in RECURRENT and not kwargs and args[0].is_meta and args[0].ndim == 3


def _unrolled(x: torch.Tensor, state: Any, weights: Any, *options: Any) -> tuple[torch.Tensor, ...]:
    """What a recurrent layer gives for a batch of sequences and a first state; PyTorch would take it step by step."""
    states = state if isinstance(state, tuple | list) else (state,)
    bidirectional = options[4]
    output = x.new_empty(*x.shape[:2], states[0].shape[-1] * (2 if bidirectional else 1))
    return output, *(torch.empty_like(part) for part in states)


def explore(
    definition: Definition, given: Names, data: Names, examples: Mapping[str, tuple[Shape, str]] | None = None
) -> Exploration:
    """Make the model on the meta device and run it.

    Args:
        definition: the model.
        given: values for its arguments.
        data: facts of the data set.
        examples: shape (batch dimension included) and dtype of the tensors that the data set gives, by input name.

    Raises:
        ConfigError: a layer refuses its arguments, or shapes don't fit, or a size can't be found.
    """
    _check_given(definition, given)
    examples = examples or {}
    free = _free(definition, examples)
    failures: list[Fault] = []
    found: Exploration | None = None
    for guess in GUESSES if free else GUESSES[:1]:
        attempt = _attempt(definition, given, data, examples, guess)
        if isinstance(attempt, Fault):
            failures.append(attempt)
        elif found is not None:
            _refuse_guessed(found, attempt, free)
            return found
        elif not free or not attempt.sizes:
            return attempt
        else:
            found = attempt
    if found is None:
        raise ConfigError(failures[0])
    return found


def rerun(found: Exploration, inputs: Mapping[str, Any], meter: Meter | None = None) -> tuple[Call, ...]:
    """Run an explored model once more, with other inputs on the meta device; with gradients if it is measured.

    Raises:
        ConfigError: it doesn't run with these.
    """
    try:
        return _run(found.model, inputs, found.nodes, meter)[0]
    except _Misfit as error:
        raise ConfigError(error.fault) from None


def _attempt(
    definition: Definition, given: Names, data: Names, examples: Mapping[str, tuple[Shape, str]], guess: int
) -> Exploration | Fault:
    """Make and run the model with every free dimension of that size; a fault if it doesn't run."""
    maker, model = _make(definition, given, data)
    inputs = _inputs(definition, {"data": data, **model.__dict__}, examples, guess)
    if inputs is None:
        return _unrun(model, maker)
    try:
        calls, outputs = _run(model, inputs, maker.nodes)
    except _Misfit as error:
        return error.fault
    except Refused:
        return maker.faults[0]
    for path in settle(model):
        _refuse_idle(maker, path)
    _check_references(model, maker)
    return Exploration(model, maker.sizes, calls, inputs, outputs, True, maker.nodes)


def _refuse_guessed(found: Exploration, other: Exploration, free: tuple[str, ...]) -> None:
    """Refuse a size that follows from a guess for a free dimension: two guesses gave two sizes."""
    faults = []
    for path, sizes in found.sizes.items():
        differing = [name for name in sizes if sizes[name] != other.sizes.get(path, sizes).get(name)]
        if differing:
            node = found.nodes[path]
            faults.append(
                Fault(f"{', '.join(differing)} of layer {path!r} depends on a free dimension of the inputs",
                      node.place.path, node.place.origin,
                      found=f"free dimensions {', '.join(free)}", expected="a size in its place, or one given here")
            )  # fmt: skip
    if faults:
        raise ConfigError(*faults)


def _make(definition: Definition, given: Names, data: Names) -> tuple[Maker, nn.Module]:
    maker = Maker(exploring=True)
    try:
        with torch.device("meta"), SkipInit():
            return maker, maker.root(definition, given, data)
    except Refused:
        raise ConfigError(*maker.faults) from None


def _check_given(definition: Definition, given: Names) -> None:
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


def _free(definition: Definition, examples: Mapping[str, Any]) -> tuple[str, ...]:
    """The free dimensions of the inputs besides the first of each, where no example gives their size."""
    dims = [
        dim
        for item in definition.inputs
        if not item.optional and item.name not in examples
        for dim in (item.shape or ())[1:]
        if isinstance(dim, str)
    ]
    return tuple(dict.fromkeys(dims))


def _inputs(
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
            inputs[item.name] = torch.empty(shape, dtype=getattr(torch, item.dtype), device="meta")
    return inputs


def _dim(item: Input, index: int, names: Names, free: dict[str, int], guess: int) -> int:
    assert item.shape is not None
    dim = item.shape[index]
    if isinstance(dim, str):
        return free.setdefault(dim, BATCH if index == 0 else guess)
    try:
        size = evaluate(dim, names)
    except LangError as error:
        raise ConfigError(error.fault(str(dim), item.place.origin, item.place.path)) from None
    if type(size) is not int or size < 0:
        raise ConfigError(Fault(f"dimension {index} of input {item.name!r} is not a size", item.place.path,
                                item.place.origin, found=size))  # fmt: skip
    return size


def _unify(item: Input, shape: Shape, names: Names, free: dict[str, int]) -> None:
    """Check the declared shape of an input against that of the data."""
    if item.shape is None:
        return
    wanted = [free.setdefault(dim, size) if isinstance(dim, str) else evaluate(dim, names)
              for dim, size in zip(item.shape, shape, strict=False)]  # fmt: skip
    if len(item.shape) != len(shape) or tuple(wanted) != shape:
        shown = ", ".join(dim if isinstance(dim, str) else str(evaluate(dim, names)) for dim in item.shape)
        raise ConfigError(
            Fault(f"input {item.name!r} doesn't fit the data", item.place.path, item.place.origin,
                  found=f"[{shown}]", expected=f"{list(shape)}, the shape of {item.name!r} in a batch of the data")
        )  # fmt: skip


class _Misfit(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


def _run(
    model: nn.Module, inputs: Mapping[str, Any], nodes: Mapping[str, Node], meter: Meter | None = None
) -> tuple[tuple[Call, ...], Any]:
    """Run the model, recording the first call of each module."""
    record = Record()
    handles = list(_watch(model, record, meter))
    try:
        with torch.set_grad_enabled(meter is not None), torch.device("meta"), SkipInit(), meter or nullcontext():
            outputs = model(*inputs.values())  # optional inputs come last
    except Refused:
        raise
    except Exception as error:  # whatever a layer raises, a user's among them
        raise _Misfit(misfit(model, error, record, nodes)) from error
    finally:
        for handle in handles:
            handle.remove()
    return tuple(record.calls.values()), outputs


def _watch(model: nn.Module, record: Record, meter: Meter | None) -> Iterator[Any]:
    """Note what goes into each module and what comes out; all tensors are kept, so that no two share an identity."""
    for path, module in model.named_modules():

        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: Any, path: str = path) -> None:
            record.running.append((path, tensors((args, kwargs))))
            if meter is not None:
                meter.enter(path)

        def leave(module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any, path: str = path) -> None:
            if meter is not None:
                meter.leave(path)
            _, given = record.running.pop()
            record.calls.setdefault(path, Call(path, shapes(given), shapes(output)))
            record.givers.extend((tensor, path) for tensor in tensors(output))

        yield module.register_forward_pre_hook(enter, with_kwargs=True)
        yield module.register_forward_hook(leave, with_kwargs=True)


def _check_references(model: nn.Module, maker: Maker) -> None:
    """Refuse what a `forward` names below a layer and the layer doesn't have."""
    faults = []
    for path, definition in maker.made.items():
        module = model.get_submodule(path)
        for reference in definition.forward.references if definition.forward is not None else ():
            modules = [name for name, _ in module.named_modules(remove_duplicate=False)]
            tensors = [name for name, _ in module.named_parameters(remove_duplicate=False)]
            tensors += [name for name, _ in module.named_buffers(remove_duplicate=False)]
            faults.append(reference.fault(modules, tensors))
    if found := [fault for fault in faults if fault is not None]:
        raise ConfigError(*dict.fromkeys(found))


def _refuse_idle(maker: Maker, path: str) -> None:
    node = maker.nodes[path]
    raise ConfigError(
        Fault(f"the sizes of layer {path!r} can't be found: it was not called when the model was run",
              node.place.path, node.place.origin, hint=f"give {node.type} its sizes")
    )  # fmt: skip


def _unrun(model: nn.Module, maker: Maker) -> Exploration:
    """A model of whose inputs nothing is known: it can't be run, so that no size may be missing."""
    for path, module in model.named_modules():
        if isinstance(module, Pending):
            node = maker.nodes[path]
            raise ConfigError(
                Fault(f"the sizes of layer {path!r} can't be found: nothing is known of the model's inputs",
                      node.place.path, node.place.origin,
                      hint="declare their shapes, for example `inputs: {x: [B, 3, 32, 32]}`, or give the sizes")
            )  # fmt: skip
    _check_references(model, maker)
    return Exploration(model, maker.sizes, (), {}, None, False, maker.nodes)
