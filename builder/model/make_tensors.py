"""Tree → tensors: makes the parameters and buffers of a definition, and lets tied parameters be one."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import nn

from builder import registry
from builder.errors import nearest
from builder.lang.formula import Formula
from builder.model.infer_mode import as_usual
from builder.model.pending import Names, Pending
from builder.model.spec import Place, TensorSpec
from builder.weights.initialise import Cause

if TYPE_CHECKING:
    from builder.model.make import Maker


def first_line(error: BaseException) -> str:
    """The first line of what an exception says; its type, if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def add_tensor(maker: Maker, module: nn.Module, spec: TensorSpec, names: Names) -> None:
    """Register a parameter or buffer with its first value.

    Raises:
        Refused: its value can't be computed, or its shape is none.
    """
    if not maker.wanted(spec, names):
        if spec.role == "parameter":
            module.register_parameter(spec.name, None)
        else:
            module.register_buffer(spec.name, None, persistent=spec.persistent)
        return
    kept = maker.keeps and spec.role == "buffer" and not spec.persistent
    with as_usual() if kept else nullcontext():
        tensor = _value(maker, spec, names)
    if spec.role == "parameter":
        parameter = nn.Parameter(tensor, requires_grad=spec.requires_grad)
        module.register_parameter(spec.name, parameter)
        if maker.touched is not None:
            maker.touched.note(parameter, Cause(_own(spec), spec.place.origin, _own(spec)))
    else:
        module.register_buffer(spec.name, tensor, persistent=spec.persistent)


def _value(maker: Maker, spec: TensorSpec, names: Names) -> torch.Tensor:
    """The first value of a parameter or buffer.

    Raises:
        Refused: it can't be computed, or its shape is none.
    """
    if spec.value is not None:
        functions = {name: registry.functions.get(name) for name in spec.value.functions}
        try:
            tensor = torch.as_tensor(spec.value.bind(functions, guarded=maker.exploring)(names))
        except Exception as error:  # whatever the expression's functions raise
            maker.refuse(spec.place, f"the value of buffer {spec.name!r} can't be computed: {first_line(error)}")
    else:
        tensor = _initialised(maker, spec, names)
    return tensor if spec.dtype is None else tensor.to(getattr(torch, spec.dtype))


def _initialised(maker: Maker, spec: TensorSpec, names: Names) -> torch.Tensor:
    shape = maker.value(spec.shape, spec.place, names)
    if not isinstance(shape, list | tuple) or not all(type(size) is int and size >= 0 for size in shape):
        maker.refuse(spec.place, f"the shape of {spec.role} {spec.name!r} is not a list of sizes", found=shape)
    dtype = None if spec.dtype is None else getattr(torch, spec.dtype)
    try:
        tensor = torch.zeros(shape, dtype=dtype) if spec.init is None else torch.empty(shape, dtype=dtype)
    except (TypeError, RuntimeError) as error:  # too large a size, or all of them together
        maker.refuse(spec.place, f"{spec.role} {spec.name!r} can't be made: {first_line(error)}", found=shape)
    if spec.init is not None:
        arguments = {key: maker.value(value, spec.place, names) for key, value in spec.init_arguments.items()}
        try:
            registry.initialisers.get(spec.init)(tensor, **arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            maker.refuse(spec.place, f"{spec.init} can't initialise {spec.role} {spec.name!r}: {first_line(error)}")
    return tensor


def _own(spec: TensorSpec) -> str:
    """What a parameter's declaration says of its initial value, on one line."""
    given = {"type": spec.init, **spec.init_arguments}
    texts = (f"{key}: {f'={value.text}' if isinstance(value, Formula) else value}" for key, value in given.items())
    return f"{spec.name}: {{init: {spec.init if len(given) == 1 else '{' + ', '.join(texts) + '}'}}}"


def tie(maker: Maker, module: nn.Module, target: str, source: str, place: Place) -> None:
    """Let the parameter `target` be the parameter `source`; either may be missing by a typing error."""
    shared = _parameter(module, source)
    for name, found in ((source, shared), (target, _parameter(module, target))):
        if found is None:
            _refuse_tie(maker, module, name, place)
            return
    owner, _, leaf = target.rpartition(".")
    setattr(module.get_submodule(owner), leaf, shared)


def _parameter(module: nn.Module, name: str) -> nn.Parameter | None:
    """The parameter of that name, found without going through all others."""
    owner, _, leaf = name.rpartition(".")
    try:
        return module.get_submodule(owner)._parameters.get(leaf)
    except AttributeError:
        return None


def _refuse_tie(maker: Maker, module: nn.Module, name: str, place: Place) -> None:
    """Refuse a name that no parameter has, unless a layer that isn't made yet may have it."""
    if not any(isinstance(part, Pending) for part in module.modules()):
        known = [known for known, _ in module.named_parameters(remove_duplicate=False)]
        maker.refuse(place, f"no parameter {name!r} to tie", nearest=nearest(name, known))
