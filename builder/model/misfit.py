"""Says what doesn't fit when a model fails on the meta device: both layers, both shapes, and what sets them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from builder.errors import DEFAULT, Fault, Origin, Path
from builder.model.classes import DefinedModule
from builder.model.explain import explain
from builder.model.pending import Pending
from builder.model.record import Record
from builder.model.sizes import rules
from builder.model.spec import Node

SETS_OUTPUT = (
    "out_features", "out_channels", "embedding_dim", "hidden_size", "num_features", "num_channels", "normalized_shape",
    "embed_dim", "d_model",
)  # fmt: skip
"""Arguments that set the size of what a layer gives, most telling first."""


def misfit(model: nn.Module, error: Exception, record: Record, nodes: Mapping[str, Node]) -> Fault:
    """The fault that an exception of the model stands for."""
    path, inputs = record.running[-1] if record.running else ("", ())
    giver = record.giver(inputs)
    origin, place = _place(model, error, path, nodes)
    module = _module(model, path)
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    given = ", ".join(str(list(tensor.shape)) for tensor in inputs) or "nothing"
    layer = f"{_type(module, path, nodes)} {path!r}" if path else f"the model's forward ({first})"
    wanted = _wanted(module, inputs)
    if path and not wanted:
        layer += f" ({first})"
    fits = isinstance(error, RuntimeError) or wanted  # PyTorch's own complaints about shapes are RuntimeErrors
    return Fault(
        f"shapes don't fit in {layer}" if fits else f"{type(error).__name__} in {layer}", place, origin,
        found=_Text(f"an input of shape {given}" + (f", {_given_by(model, giver, record, nodes)}" if giver else "")),
        expected=wanted, hint=_hint(first),
    )  # fmt: skip


def _hint(first: str) -> str | None:
    if "'NoneType' object is not callable" in first:
        return "a layer whose `when` is false isn't made: ask for it first, `if layer is not None:`"
    return None


class _Text(str):
    """Text that is shown without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _place(model: nn.Module, error: Exception, path: str, nodes: Mapping[str, Node]) -> tuple[Origin, Path]:
    """The line of the layer that failed; of the forward, if it is the forward of a definition that did."""
    told = explain(error)
    if path in nodes and not (told.path and _has_forward(model, path)):
        return nodes[path].place.origin, nodes[path].place.path
    return (told.origin, told.path) if told.path else (DEFAULT, ())


def _has_forward(model: nn.Module, path: str) -> bool:
    module = model.get_submodule(path)
    return isinstance(module, DefinedModule) and module._recipe.text is not None


def _module(model: nn.Module, path: str) -> nn.Module:
    module = model.get_submodule(path)
    return module.layer or module if isinstance(module, Pending) else module


def _type(module: nn.Module, path: str, nodes: Mapping[str, Node]) -> str:
    return nodes[path].type if path in nodes else type(module).__name__


def _wanted(module: nn.Module, inputs: tuple[Any, ...]) -> str | None:
    """Which size argument of a layer its input contradicts."""
    for name, rule in rules(_class(module)).items():
        value = getattr(module, name, None)
        try:
            got = rule(inputs)
        except (IndexError, AttributeError):
            continue
        if value is not None and value != got and value != (got,):
            return f"{name}={value}, as it says; {name}={got} would fit"
    return None


def _class(module: nn.Module) -> Callable[..., Any]:
    return type(module)


def _given_by(model: nn.Module, giver: str, record: Record, nodes: Mapping[str, Node]) -> str:
    module = _module(model, giver)
    setter = next((f" ({name}={getattr(module, name)})" for name in SETS_OUTPUT if hasattr(module, name)), "")
    outputs = ", ".join(str(list(shape)) for shape in record.calls[giver].outputs)
    return f"after {_type(module, giver, nodes)} {giver!r}{setter}, which gave {outputs}"


def depends_on_data(error: Exception) -> bool:
    """Whether an exception on the meta device says that a tensor's values are needed, which aren't known there."""
    return isinstance(error, NotImplementedError) or "meta tensor" in str(error)
