"""What PyTorch's common layers return, from their arguments alone: so that they needn't be made to know it.

As in `infer_rules`, only ordinary arguments are answered for; a layer with any other is made and called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from builder.model.infer_layout import blank, is_number, is_plain, is_share
from builder.model.infer_windows import slid

Leaf = Callable[[Tensor, Mapping[str, Any]], tuple[int, ...] | None]
"""From a layer's input, and all arguments of the layer that it was given or that were found, to its output's shape."""


def leaf_output(kind: Any, arguments: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a layer of that class returns for these inputs; None if that isn't known without making it."""
    leaf = LEAVES.get(kind)
    if leaf is None or len(args) != 1 or kwargs or not is_plain(args[0]):
        return None
    x = args[0]
    shape = leaf(x, arguments) if x.dtype is torch.get_default_dtype() else None
    return None if shape is None else blank(shape, x.dtype)


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _known(arguments: Mapping[str, Any], **tests: Callable[[Any], bool]) -> bool:
    """Whether each argument has a test, and passes it."""
    return all(name in tests and tests[name](value) for name, value in arguments.items())


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _linear(x: Tensor, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
    usual = _known(arguments, in_features=_is_size, out_features=_is_size, bias=_is_bool)
    if not usual or not x.ndim or arguments["in_features"] != x.shape[-1]:
        return None
    return (*x.shape[:-1], arguments["out_features"])


def _is_setting(value: Any) -> bool:
    return type(value) is int or (type(value) is tuple and all(type(item) is int for item in value))


def _conv(spatial: int) -> Leaf:
    def leaf(x: Tensor, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        usual = _known(
            arguments, in_channels=_is_size, out_channels=_is_size, kernel_size=_is_setting, stride=_is_setting,
            padding=_is_setting, dilation=_is_setting, groups=_is_size, bias=_is_bool,
        )  # fmt: skip
        given = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **arguments}
        if not usual or x.ndim != spatial + 2 or given["in_channels"] != x.shape[1]:
            return None
        if given["in_channels"] % given["groups"] or given["out_channels"] % given["groups"]:
            return None
        sizes = slid(x.shape[2:], given["kernel_size"], given["stride"], given["padding"], given["dilation"])
        return None if sizes is None else (x.shape[0], given["out_channels"], *sizes)

    return leaf


def _batch_norm(spatial: int) -> Leaf:
    def leaf(x: Tensor, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        usual = _known(arguments, num_features=_is_size, eps=is_number, momentum=is_number)
        fitting = usual and x.ndim == spatial + 2 and arguments["num_features"] == x.shape[1]
        return tuple(x.shape) if fitting and x.numel() > x.shape[1] else None  # one value a channel is refused

    return leaf


def _layer_norm(x: Tensor, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
    usual = _known(arguments, normalized_shape=_is_size, eps=is_number, elementwise_affine=_is_bool, bias=_is_bool)
    return tuple(x.shape) if usual and x.ndim and arguments["normalized_shape"] == x.shape[-1] else None


def _same(**tests: Callable[[Any], bool]) -> Leaf:
    """A layer whose output is like its input, if its arguments pass their tests."""

    def leaf(x: Tensor, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        return tuple(x.shape) if _known(arguments, **tests) else None

    return leaf


LEAVES: Mapping[Any, Leaf] = {
    nn.Linear: _linear,
    nn.Conv1d: _conv(1),
    nn.Conv2d: _conv(2),
    nn.Conv3d: _conv(3),
    nn.BatchNorm2d: _batch_norm(2),
    nn.BatchNorm3d: _batch_norm(3),
    nn.LayerNorm: _layer_norm,
    nn.ReLU: _same(inplace=_is_bool),
    nn.SiLU: _same(inplace=_is_bool),
    nn.GELU: _same(approximate=lambda value: value in ("none", "tanh")),
    nn.Sigmoid: _same(),
    nn.Tanh: _same(),
    nn.Dropout: _same(p=is_share, inplace=_is_bool),
}
"""By class."""
