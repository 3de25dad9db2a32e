"""Runs a model once on the meta device: finds the sizes that were left out, every shape, and what doesn't fit.

Nothing is allocated and nothing is initialised, so that this costs a few microseconds a layer whatever its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from builder.errors import ConfigError, Fault, nearest
from builder.lang.guard import TooLong, bounded, spend
from builder.lang.syntax import LangError
from builder.model.explain import explain
from builder.model.make import Maker, Names, Pending, Refused, Sizes, idle, settle, untouched
from builder.model.misfit import depends_on_data, misfit
from builder.model.recall import Recall
from builder.model.record import Call, Record, Shape, shapes, tensors
from builder.model.scope import evaluate
from builder.model.sizes import inferable
from builder.model.spec import Definition, Input, Node

GUESSES = (64, 224, 32, 16, 8, 256, 512)
"""Sizes tried in turn for the free dimensions of inputs; the first with which the model runs is taken."""

BATCH = 2
"""The size of each input's first dimension, if it is free: more than one, since batch norms refuse a single value."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """What the meta device told: the model on it, the sizes found, the calls in order, and the inputs it was given.

    `keys` says of the model's blocks which are equal, as in `Maker`.
    """

    model: nn.Module
    sizes: Sizes
    calls: tuple[Call, ...]
    inputs: Mapping[str, Any]
    outputs: Any
    ran: bool
    nodes: Mapping[str, Node]
    keys: Mapping[str, tuple[Any, ...]]


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


STEPS_OF_A_CALL = 50
"""What a function of PyTorch costs of the steps that a model may take while it is checked."""

TAKEN_APART = (
    torch.unbind, torch.split, torch.chunk, torch.tensor_split,
    torch.Tensor.unbind, torch.Tensor.split, torch.Tensor.chunk, torch.Tensor.tensor_split,
)  # fmt: skip
"""What makes many tensors of one."""


def _parts(func: Callable[..., Any], x: torch.Tensor, *args: Any, **kwargs: Any) -> int:
    """How many tensors come of taking one apart, at most."""
    dim = kwargs.get("dim", next(iter(args[0 if "unbind" in func.__name__ else 1 :]), 0))
    return int(x.shape[dim]) if isinstance(dim, int) and -x.ndim <= dim < x.ndim else 0


class SkipInit(TorchFunctionMode):
    """Leaves out what costs time and does nothing on the meta device: initialisers, the steps of recurrent layers."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the tensor of an initialiser unchanged, tensors of the right shapes for a recurrence; else call."""
        kwargs = kwargs or {}
        spend(STEPS_OF_A_CALL + (_parts(func, *args, **kwargs) if func in TAKEN_APART else 0))
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if is_unrolled(func, args, kwargs):
            return _unrolled(*args)
        if func is nn.functional.batch_norm and not torch.is_grad_enabled() and _fits_batch_norm(*args, **kwargs):
            return torch.empty_like(args[0])
        if func is nn.functional.linear and not torch.is_grad_enabled() and not kwargs and _fits_linear(*args):
            return args[0].new_empty(*args[0].shape[:-1], len(args[1]))
        return func(*args, **kwargs)


def _fits_batch_norm(x: torch.Tensor, *args: Any, **kwargs: Any) -> bool:
    """Whether a batch norm takes this input; PyTorch's way to its shape on the meta device costs milliseconds."""
    sizes = [value.shape for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
    fits = x.is_meta and x.ndim >= 2 and all(size == x.shape[1:2] for size in sizes)
    return fits and x.numel() > x.shape[1]  # one value a channel is refused in training


def _fits_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> bool:
    """Whether a linear map takes this input; PyTorch's way to its shape takes ten times as long as making the layer."""
    fits = x.is_meta and x.ndim and weight.ndim == 2 and x.shape[-1] == weight.shape[1] and x.dtype == weight.dtype
    return bool(fits and (bias is None or (bias.shape == weight.shape[:1] and bias.dtype == x.dtype)))


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
    definition: Definition,
    given: Names,
    data: Names,
    examples: Mapping[str, tuple[Shape, str]] | None = None,
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
    maker, model = _make(definition, given, data)
    for guess in GUESSES if free else GUESSES[:1]:
        inputs = _inputs(definition, {"data": data, **model.__dict__}, examples, guess)
        if inputs is None:
            return _unrun(model, maker)
        try:
            calls, outputs = _run(model, inputs, maker)
        except _DependsOnData:
            return _half_run(model, maker, inputs)
        except _Misfit as error:
            _refuse_guessed(maker, free)
            failures.append(error.fault)
            if found is None:
                maker, model = _make(definition, given, data)
            continue
        if found is not None:
            break  # a second run with other sizes of the free dimensions agrees
        found = Exploration(model, maker.sizes, calls, inputs, outputs, True, maker.nodes, maker.keys)
        if not free or not maker.sizes:
            break
    if found is None:
        raise ConfigError(failures[0])
    _refuse_idle(maker, model, "it was not called when the model was run")
    _complete(model, maker)
    return found


def find_sizes(
    definition: Definition, given: Names, data: Names, examples: Mapping[str, tuple[Shape, str]] | None = None
) -> Sizes:
    """The sizes that `explore` finds, in less time: of blocks that are equal only one is made.

    Raises:
        ConfigError: as `explore`.
    """
    _check_given(definition, given)
    sizes = _sketched(definition, given, data, examples or {})
    return explore(definition, given, data, examples).sizes if sizes is None else sizes


def _sketched(
    definition: Definition, given: Names, data: Names, examples: Mapping[str, tuple[Shape, str]]
) -> Sizes | None:
    """The sizes, if all goes well; what doesn't is left to `explore` to tell."""
    free, runs = _free(definition, examples), 0
    maker, model = _make(definition, given, data, sketching=True)
    for guess in GUESSES if free else GUESSES[:1]:
        inputs = _inputs(definition, {"data": data, **model.__dict__}, examples, guess)
        if inputs is None:
            return None
        try:
            with bounded(), torch.no_grad(), torch.device("meta"), SkipInit():
                model(*inputs.values())
        except TooLong as error:
            raise _too_long(error) from None
        except Exception:  # whatever a layer raises, a user's among them
            if not runs or maker.guessed:
                return None
            continue
        runs += 1
        if runs == 2 or not free or not maker.sizes:
            break
    return None if untouched(model) else maker.sizes


def _half_run(model: nn.Module, maker: Maker, inputs: Mapping[str, Any]) -> Exploration:
    """A model that can't be run to its end: what comes before that end may lack sizes, not what comes after."""
    _refuse_idle(model=model, maker=maker, why="what comes before it depends on the data's values")
    _complete(model, maker)
    return Exploration(model, maker.sizes, (), inputs, None, False, maker.nodes, maker.keys)


def _complete(model: nn.Module, maker: Maker) -> None:
    """Make what is still pending, and check what could be checked only now.

    Raises:
        ConfigError: a layer refuses its arguments, or `forward` names what a layer doesn't have.
    """
    try:
        with torch.device("meta"), SkipInit():
            settle(model)
            maker.tie_again(model)
    except Refused:
        raise ConfigError(*maker.faults) from None
    _check_references(model, maker)


def rerun(found: Exploration, inputs: Mapping[str, Any], meter: Meter | None = None) -> tuple[Call, ...]:
    """Run an explored model once more, with other inputs on the meta device; with gradients if it is measured.

    Raises:
        ConfigError: it doesn't run with these.
    """
    try:
        return _run(found.model, inputs, Maker(True, nodes=dict(found.nodes), keys=dict(found.keys)), meter)[0]
    except _Misfit as error:
        raise ConfigError(error.fault) from None
    except _DependsOnData:
        raise ConfigError(Fault("the model can't be run without the values of its inputs")) from None


def _refuse_guessed(maker: Maker, free: tuple[str, ...]) -> None:
    """Refuse sizes that follow from a guess for a free dimension: another guess gave others."""
    faults = [
        Fault(f"{', '.join(names)} of layer {path!r} depends on a free dimension of the inputs",
              maker.nodes[path].place.path, maker.nodes[path].place.origin,
              found=f"free dimensions {', '.join(free)}", expected="a size in its place, or one given here")
        for path, names in maker.guessed.items()
    ]  # fmt: skip
    if faults:
        raise ConfigError(*faults)


def _make(definition: Definition, given: Names, data: Names, *, sketching: bool = False) -> tuple[Maker, nn.Module]:
    maker = Maker(exploring=True)
    maker.recall = Recall(maker.sizes) if sketching else None
    try:
        with bounded(), torch.device("meta"), SkipInit():
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


class _DependsOnData(Exception):
    """The model can't be run to its end without the values of its inputs."""


class _Misfit(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


def _run(
    model: nn.Module, inputs: Mapping[str, Any], maker: Maker, meter: Meter | None = None
) -> tuple[tuple[Call, ...], Any]:
    """Run the model, recording the first call of each module."""
    record = Record()
    handles = list(_watch(model, record, meter))
    try:
        with (
            bounded(),
            torch.set_grad_enabled(meter is not None),
            torch.device("meta"),
            SkipInit(),
            meter or _Recalling(model, maker, Recall(maker.sizes, record.calls)),
        ):
            outputs = model(*inputs.values())  # optional inputs come last
    except Refused:
        raise _Misfit(maker.faults[0] if maker.faults else Fault("sizes depend on a guess")) from None
    except Exception as error:  # whatever a layer raises, a user's among them
        if isinstance(error, TooLong):
            raise _too_long(error) from None
        if depends_on_data(error):
            raise _DependsOnData from error
        raise _Misfit(misfit(model, error, record, maker.nodes)) from error
    finally:
        for handle in handles:
            handle.remove()
    return tuple(record.calls.values()), outputs


def _too_long(error: TooLong) -> ConfigError:
    told = explain(error)
    return ConfigError(Fault(str(error), told.path, told.origin))


class _Recalling:
    """Puts a recall before the `forward` of each block of a model, while it is active."""

    def __init__(self, model: nn.Module, maker: Maker, recall: Recall) -> None:
        self._model, self._maker, self._recall = model, maker, recall
        self._changed: list[nn.Module] = []

    def __enter__(self) -> None:
        keys = self._maker.keys
        for path, module in self._model.named_modules():
            if path and path in keys:
                module.__dict__["forward"] = partial(self._recall.call, path, keys[path], module.forward)
                self._changed.append(module)

    def __exit__(self, *error: Any) -> None:
        for module in self._changed:
            del module.__dict__["forward"]


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
        if definition.forward is None or not definition.forward.references:
            continue
        module = model.get_submodule(path)
        for reference in definition.forward.references:
            modules = [name for name, _ in module.named_modules(remove_duplicate=False)]
            tensors = [name for name, _ in module.named_parameters(remove_duplicate=False)]
            tensors += [name for name, _ in module.named_buffers(remove_duplicate=False)]
            faults.append(reference.fault(modules, tensors))
    if found := [fault for fault in faults if fault is not None]:
        raise ConfigError(*dict.fromkeys(found))


def _refuse_idle(maker: Maker, model: nn.Module, why: str) -> None:
    """Refuse layers whose sizes are not known after the run."""
    faults = []
    for path in idle(model):
        node = maker.nodes[path]
        assert node.target is not None
        missing = sorted(inferable(node.target) - set(node.arguments))
        faults.append(
            Fault(f"the sizes of layer {path!r} can't be found: {why}", node.place.path, node.place.origin,
                  hint=f"give {node.type} its {' and '.join(missing) or 'sizes'}")
        )  # fmt: skip
    if faults:
        raise ConfigError(*faults)


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
    return Exploration(model, maker.sizes, (), {}, None, False, maker.nodes, maker.keys)
