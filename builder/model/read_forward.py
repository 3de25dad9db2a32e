"""What a definition's `forward` says, and of what it may speak; without one, that its layers can be called in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder import registry
from builder.catalog.functions import constants
from builder.errors import ConfigError
from builder.lang.forward import Forward, parse_forward
from builder.lang.scope import LayerName, Scope
from builder.model.scope import Context
from builder.model.spec import CONTAINERS, Argument, Input, Node, TensorSpec


def read_forward(
    raw: Any, context: Context, args: Mapping[str, Argument], outer: frozenset[str], inputs: tuple[Input, ...],
    parameters: tuple[TensorSpec, ...], buffers: tuple[TensorSpec, ...], layers: tuple[Node, ...],
) -> Forward | None:  # fmt: skip
    """The forward pass; None, and faults, if it is none."""
    here = context.at("forward")
    if not isinstance(raw, str):
        here.fault("'forward' is a block of Python", found=raw, expected="text after `forward: |`")
        return None
    taken: list[Input | TensorSpec | Node] = [*inputs, *parameters, *buffers, *layers]
    own = {item.name for item in taken}  # hide arguments from further out
    scope = Scope(
        inputs={item.name: item.optional for item in inputs},
        args=frozenset(args) | (outer - {"data", "i"} - own),
        layers={node.name: layer_name(node) for node in layers},
        parameters=frozenset(item.name for item in parameters),
        buffers=frozenset(item.name for item in buffers),
        functions=callables(),
        constants=constants(),
        origins={item.name: item.place.origin for item in inputs},
    )
    try:
        return parse_forward(raw, scope, origin=here.place.origin, path=here.path)
    except ConfigError as error:
        context.reading.faults.extend(error.faults)
        return None


def callables() -> frozenset[str]:
    """The names of the registered functions that `forward` may call; the others are values, such as dtypes."""
    return frozenset(registry.functions) - constants()


def layer_name(node: Node) -> LayerName:
    """What is known of a layer when `forward` is read: whether it can be called, and what it holds."""
    origin = node.place.origin
    if node.kind in CONTAINERS:
        if any(child.when is not True for child in node.children):
            return LayerName(kind=node.kind, opaque=True, unused=node.unused, origin=origin)  # type: ignore[arg-type]
        return LayerName(
            kind=node.kind,  # type: ignore[arg-type]
            children={child.name: layer_name(child) for child in node.children},
            element=layer_name(node.element) if node.element is not None else None,
            unused=node.unused,
            origin=origin,
        )
    if node.definition is None:
        return LayerName(opaque=True, unused=node.unused, origin=origin)
    definition = node.definition
    return LayerName(
        children={child.name: layer_name(child) for child in definition.layers},
        tensors=tuple(item.name for item in (*definition.parameters, *definition.buffers)),
        unused=node.unused,
        origin=origin,
    )


def check_stack(inputs: tuple[Input, ...], layers: tuple[Node, ...], context: Context) -> None:
    """Without `forward`, layers are called one after the other: one value goes in, each layer can be called."""
    if not layers:
        context.fault("a module definition needs `layers`, or a `forward`", expected="at least one layer")
    if len(inputs) > 1:
        context.at("inputs").fault(
            "several inputs need a `forward` that says what becomes of each", found=[item.name for item in inputs]
        )
    for node in layers:
        if node.kind in ("ModuleList", "ModuleDict"):
            context.at("layers", node.name).fault(
                f"a {node.kind} can't be called one after the other", hint="use Sequential, or write a `forward`"
            )
