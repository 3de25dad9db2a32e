"""A small module whose forward is given as text, and what is wrong with a text."""

import torch
import torch.nn.functional as F
from torch import nn

from builder.errors import ConfigError, Origin
from builder.lang.forward import LayerName, Scope, parse_forward

FUNCTIONS = {
    "relu": F.relu, "cat": torch.cat, "stack": torch.stack, "linear": F.linear, "softmax": torch.softmax,
    "zeros": torch.zeros, "no_grad": torch.no_grad, "enable_grad": torch.enable_grad, "autocast": torch.autocast,
    "mse_loss": F.mse_loss, "cross_entropy": F.cross_entropy, "einsum": torch.einsum, "finfo": torch.finfo,
    "float32": torch.float32, "int64": torch.int64,
}  # fmt: skip
CONSTANTS = ("float32", "int64")
CALLABLES = tuple(name for name in FUNCTIONS if name not in CONSTANTS)

ORIGIN = Origin("net.yaml", 20, 3, text_line=21, text_indent=4)
PATH = ("model", "forward")


def plain(kind="layer", **children):
    return LayerName(kind, children)


def scope(inputs=("x",), optional=(), **names):
    """A scope in which layers may be left unused, unless they are told by `layers`."""
    return Scope(
        inputs={**dict.fromkeys(inputs, False), **dict.fromkeys(optional, True)},
        functions=CALLABLES,
        constants=CONSTANTS,
        **names,
    )


def read(text, **names):
    return parse_forward(text, scope(**names), origin=ORIGIN, path=PATH)


def faults(text, **names):
    """The messages of all faults of a forward."""
    return [fault.message for fault in errors(text, **names).faults] if errors(text, **names) else []


def errors(text, **names):
    """The ConfigError that a forward raises, or None."""
    try:
        read(text, **names)
    except ConfigError as error:
        return error
    return None


def layer_of(module):
    """What is statically known of a module, as a definition would tell it."""
    kind = {nn.Sequential: "Sequential", nn.ModuleList: "ModuleList", nn.ModuleDict: "ModuleDict"}.get(type(module))
    if kind is None:
        return LayerName(opaque=True)
    return LayerName(kind, {name: layer_of(child) for name, child in module.named_children()})


def build(text, *, inputs=("x",), optional=(), args=None, layers=None, parameters=None, buffers=None):
    """A module with that forward."""
    args, layers, parameters, buffers = args or {}, layers or {}, parameters or {}, buffers or {}
    forward = read(
        text, inputs=inputs, optional=optional, args=frozenset(args),
        layers={name: layer_of(layer) for name, layer in layers.items()},
        parameters=frozenset(parameters), buffers=frozenset(buffers),
    )  # fmt: skip
    module = type("Net", (nn.Module,), {"forward": forward.bind(FUNCTIONS, "Net")})()
    for name, value in args.items():
        setattr(module, name, value)
    for name, value in layers.items():
        module.add_module(name, value)
    for name, value in parameters.items():
        module.register_parameter(name, nn.Parameter(value))
    for name, value in buffers.items():
        module.register_buffer(name, value)
    return module
