"""A layer of PyTorch's as a node: its type, and the arguments with which its constructor makes it again."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from builder.catalog.signatures import signature_of
from builder.registry import layers

_SKIPPED = ("device", "dtype", "_weight", "_freeze")

ONE_FOR_ALL = (
    "kernel_size", "stride", "padding", "dilation", "output_padding", "output_size", "scale_factor", "normalized_shape"
)  # fmt: skip
"""Arguments for which a number stands for a list of equal ones."""


class Unsayable(ValueError):
    """A part of a model can't be said in YAML; says why."""


def registered(module: nn.Module) -> str | None:
    """The name under which a module's class is registered; None if it isn't, or is a container."""
    name = layers.name_of(type(module))
    return None if name in ("Sequential", "ModuleList", "ModuleDict") else name


def layer_node(module: nn.Module, name: str) -> str | dict[str, Any]:
    """The node that makes such a layer: its type, or a mapping with arguments that aren't the defaults.

    Raises:
        Unsayable: its constructor's arguments can't be read off it.
    """
    try:
        arguments = _arguments(module, name, short=True)
    except Unsayable:
        arguments = _arguments(module, name, short=False)
    shown = {key: _nested(value) for key, value in arguments.items()}
    return {"type": name, **shown} if shown else name


def _arguments(module: nn.Module, name: str, *, short: bool) -> dict[str, Any]:
    """The arguments that aren't the defaults; `short`: one number in place of several equal ones."""
    arguments = {}
    signature = signature_of(type(module))
    for key, parameter in signature.parameters.items():
        if key in _SKIPPED or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = _argument(module, key, parameter, short)
        if value is not parameter.empty and not _same(value, parameter.default):
            arguments[key] = value
    _check(module, name, arguments)
    return arguments


def _argument(module: nn.Module, key: str, parameter: inspect.Parameter, short: bool) -> Any:
    """The value of an argument, as the module holds it; the default where it holds none."""
    special = _SPECIAL.get((type(module).__name__, key))
    if special is not None:
        return special(module)
    if key == "bias" and not isinstance(getattr(module, "bias", None), bool):
        return _has_bias(module)
    value = getattr(module, key, parameter.default)
    if isinstance(value, nn.Module | torch.Tensor):
        return parameter.default
    if isinstance(value, tuple | list) and len(set(map(repr, value))) == 1 and isinstance(value[0], int | float):
        return value[0] if short and key in ONE_FOR_ALL else list(value)
    return list(value) if isinstance(value, tuple) else value


def _has_bias(module: nn.Module) -> bool:
    return any(name.rpartition(".")[2].startswith(("bias", "in_proj_bias")) for name, _ in module.named_parameters())


def _same(value: Any, default: Any) -> bool:
    if callable(default) and isinstance(value, str):
        return getattr(default, "__name__", "") == value
    if isinstance(default, tuple):
        return isinstance(value, list) and list(default) == value
    return type(value) is type(default) and value == default or (
        isinstance(value, int | float) and isinstance(default, int | float)
        and not isinstance(value, bool) and not isinstance(default, bool) and value == default
    )  # fmt: skip


def _nested(value: Any) -> Any:
    name = registered(value) if isinstance(value, nn.Module) else None
    return _plain(value) if name is None else layer_node(value, name)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Size | tuple | list):
        return [_plain(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise Unsayable(f"an argument is a {type(value).__name__}")


def _check(module: nn.Module, name: str, arguments: Mapping[str, Any]) -> None:
    """Make the layer again without memory, and look whether it is the same.

    Raises:
        Unsayable: it isn't.
    """
    try:
        with torch.device("meta"):
            again = type(module)(**arguments)
    except Exception as error:  # a constructor raises what it likes
        raise Unsayable(f"{name} can't be made with {dict(arguments)}: {error}") from None
    ours = [(key, tuple(value.shape)) for key, value in again.state_dict().items()]
    theirs = [(key, tuple(value.shape)) for key, value in module.state_dict().items()]
    if ours != theirs or _kinds(again) != _kinds(module):
        raise Unsayable(f"{name} holds something that its arguments don't say: {module.extra_repr()}")


def _kinds(module: nn.Module) -> list[tuple[str, type, str]]:
    """What a module shows of itself and all in it, a tuple like a list."""
    shown = str.maketrans("[]", "()")
    return [(name, type(part), part.extra_repr().translate(shown)) for name, part in module.named_modules()]


def _transformer(key: str) -> Any:
    def read(module: Any) -> Any:
        layer = module
        return {
            "d_model": lambda: layer.linear1.in_features,
            "nhead": lambda: layer.self_attn.num_heads,
            "dim_feedforward": lambda: layer.linear1.out_features,
            "dropout": lambda: layer.dropout.p,
            "activation": lambda: _activation(layer.activation),
            "layer_norm_eps": lambda: layer.norm1.eps,
            "batch_first": lambda: layer.self_attn.batch_first,
            "bias": lambda: layer.linear1.bias is not None,
        }[key]()

    return read


def _activation(function: Any) -> Any:
    name = getattr(function, "__name__", type(function).__name__).lower()
    if name not in ("relu", "gelu"):
        raise Unsayable(f"the activation {name!r} is neither relu nor gelu")
    return name


_SPECIAL: dict[tuple[str, str], Any] = {
    ("MultiheadAttention", "bias"): lambda module: module.in_proj_bias is not None,
    ("MultiheadAttention", "add_bias_kv"): lambda module: module.bias_k is not None,
    ("MultiheadAttention", "kdim"): lambda module: None if module._qkv_same_embed_dim else module.kdim,
    ("MultiheadAttention", "vdim"): lambda module: None if module._qkv_same_embed_dim else module.vdim,
    **{(f"InstanceNorm{n}d", "bias"): lambda module: module.bias is not None or not module.affine for n in (1, 2, 3)},
    ("PReLU", "init"): lambda module: 0.25,
    ("BatchNorm1d", "bias"): lambda module: module.bias is not None or not module.affine,
    ("BatchNorm2d", "bias"): lambda module: module.bias is not None or not module.affine,
    ("BatchNorm3d", "bias"): lambda module: module.bias is not None or not module.affine,
    ("LayerNorm", "bias"): lambda module: module.bias is not None or not module.elementwise_affine,
    **{
        (kind, key): _transformer(key)
        for kind in ("TransformerEncoderLayer", "TransformerDecoderLayer")
        for key in (
            "d_model",
            "nhead",
            "dim_feedforward",
            "dropout",
            "activation",
            "layer_norm_eps",
            "batch_first",
            "bias",
        )
    },
    ("TransformerEncoder", "encoder_layer"): lambda module: module.layers[0],
    ("TransformerEncoder", "norm"): lambda module: module.norm,
    ("TransformerDecoder", "norm"): lambda module: module.norm,
    ("TransformerEncoder", "enable_nested_tensor"): lambda module: module.enable_nested_tensor,
    ("TransformerDecoder", "decoder_layer"): lambda module: module.layers[0],
}
"""Arguments that a module doesn't hold under their own names."""
