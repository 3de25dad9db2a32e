"""Parameters and buffers of a module as the language says them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from builder.importer.layers import Unsayable
from builder.model.tensors import DTYPES

LITERAL = 16
"""So many numbers of a buffer that isn't saved are written out."""


def parameter(value: nn.Parameter) -> dict[str, Any]:
    """The entry of a parameter; how it begins is a guess by the values that it has."""
    entry: dict[str, Any] = {"shape": list(value.shape), "init": _beginning(value)}
    return entry | _dtype(value) | ({} if value.requires_grad else {"requires_grad": False})


def _beginning(value: Tensor) -> Any:
    if value.is_meta or not value.numel():
        return "zeros_"
    if not value.is_floating_point():
        return "zeros_"
    first = float(value.detach().flatten()[0])
    if bool((value == first).all()):
        return {0.0: "zeros_", 1.0: "ones_"}.get(first, {"type": "constant_", "val": first})
    std = float(value.detach().float().std())
    return {"type": "normal_", "std": float(f"{std:.2g}")}


def buffer(value: Tensor, persistent: bool) -> dict[str, Any]:
    """The entry of a buffer.

    Raises:
        Unsayable: it isn't saved with the weights, and isn't one of the few that an expression makes.
    """
    text = _expression(value)
    if text is None and not persistent:
        raise Unsayable("a buffer that isn't saved holds numbers of its own")
    entry: dict[str, Any] = {"shape": list(value.shape)} | _dtype(value) if text is None else {"value": text}
    return entry if persistent else entry | {"persistent": False}


def _dtype(value: Tensor) -> dict[str, Any]:
    name = str(value.dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise Unsayable(f"a tensor of {name}")
    return {} if name == "float32" else {"dtype": name}


def _expression(value: Tensor) -> str | None:
    """An expression that gives exactly these values; None if there is no simple one."""
    if value.is_meta or not value.numel():
        return None
    shape, dtype = list(value.shape), str(value.dtype).removeprefix("torch.")
    made = "" if dtype == "float32" else f", dtype={dtype}"
    if not value.is_complex() and value.dtype != torch.bool:
        count = torch.arange(value.numel(), dtype=value.dtype)
        if value.numel() > 1 and torch.equal(value.flatten(), count):
            text = f"arange({value.numel()}{'' if dtype == 'int64' else f', dtype={dtype}'})"
            return text if len(shape) == 1 else f"{text}.view({', '.join(map(str, shape))})"
    first = value.flatten()[0].item()
    if bool((value == first).all()):
        filled = "zeros" if first == 0 else "ones" if first == 1 else None
        if filled is not None and shape:
            return f"{filled}({shape}{made})"
        return f"full({shape}, {first}{made})" if shape else None
    if len(shape) >= 2:
        ones = torch.ones_like(value)
        for name, function in (("tril", torch.tril), ("triu", torch.triu)):
            if torch.equal(value, function(ones)):
                return f"{name}(ones({shape}{made}))"
    return None
