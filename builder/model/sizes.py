"""Which arguments of a layer are the size of what flows in, and how to read them off it.

A rule gets the positional inputs of the layer's first call and returns the argument's value. Shapes are those that
PyTorch documents for each class: (N, C, spatial…) for convolutions and batch norms, (…, features) for the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch

Rule = Callable[[tuple[Any, ...]], Any]


def last(inputs: tuple[Any, ...]) -> int:
    """The size of the last dimension."""
    return int(inputs[0].shape[-1])


def second(inputs: tuple[Any, ...]) -> int:
    """The size of dimension 1, the channels of a batch."""
    return int(inputs[0].shape[1])


def last_of_second(inputs: tuple[Any, ...]) -> int:
    """The size of the last dimension of the second input."""
    return int(inputs[1].shape[-1])


def channels(spatial: int) -> Rule:
    """The channels of an input with that many spatial dimensions, with or without a batch dimension."""

    def rule(inputs: tuple[Any, ...]) -> int:
        return int(inputs[0].shape[-spatial - 1])

    return rule


def _by_spatial(prefixes: tuple[str, ...], argument: str) -> dict[str, dict[str, Rule]]:
    return {f"{prefix}{n}d": {argument: channels(n)} for prefix in prefixes for n in (1, 2, 3)}


RULES: dict[str, dict[str, Rule]] = {
    "Linear": {"in_features": last},
    "Bilinear": {"in1_features": last, "in2_features": last_of_second},
    **_by_spatial(("Conv", "ConvTranspose"), "in_channels"),
    **_by_spatial(("InstanceNorm",), "num_features"),
    **{name: {"num_features": second} for name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")},
    "GroupNorm": {"num_channels": second},
    "LayerNorm": {"normalized_shape": last},
    "RMSNorm": {"normalized_shape": last},
    **{name: {"input_size": last} for name in ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")},
    "MultiheadAttention": {"embed_dim": last},
    **{name: {"d_model": last} for name in ("TransformerEncoderLayer", "TransformerDecoderLayer")},
    "AdaptiveLogSoftmaxWithLoss": {"in_features": last},
}
"""Input-size arguments of torch.nn's classes, by class and argument."""

COMMON: dict[str, Rule] = {
    "in_features": last,
    "in_channels": second,
    "num_features": second,
    "normalized_shape": last,
    "input_size": last,
    "embed_dim": last,
    "d_model": last,
}
"""The same names in layers that users register, where they have no default."""


@cache
def rules(target: Callable[..., Any]) -> Mapping[str, Rule]:
    """The arguments of a layer that may be left out, with the rule that fills each in."""
    if isinstance(target, type):
        for base in target.__mro__:
            if base.__module__.startswith("torch.") and base.__name__ in RULES:
                return RULES[base.__name__]
    if getattr(target, "__module__", "").startswith("torch."):
        return {}
    parameters = inspect.signature(target).parameters.values()
    required = {parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty}
    return {name: rule for name, rule in COMMON.items() if name in required}


@cache
def inferable(target: Callable[..., Any]) -> frozenset[str]:
    """The names of the arguments that `rules` fills in."""
    return frozenset(rules(target))


def infer_sizes(target: Callable[..., Any], missing: set[str], inputs: tuple[Any, ...]) -> dict[str, Any]:
    """The values of the missing arguments, read off the inputs of the layer's first call.

    Raises:
        ValueError: the inputs don't say; the message tells what was given.
    """
    sizes = {}
    for name in sorted(missing):
        try:
            sizes[name] = rules(target)[name](inputs)
        except (IndexError, AttributeError):
            given = ", ".join(str(list(x.shape)) if isinstance(x, torch.Tensor) else type(x).__name__ for x in inputs)
            hint = " (a recurrent layer gives its output and its state)" if "tuple" in given else ""
            raise ValueError(f"{name!r} can't be found from {given or 'nothing'}{hint}") from None
    return sizes
