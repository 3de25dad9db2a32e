"""The shapes of what convolutions and pools return: `infer_rules`, for functions that slide a window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from builder.model.infer_layout import blank, is_plain
from builder.model.infer_rules import Rule, fits


def _each(value: Any, spatial: int, least: int) -> tuple[int, ...] | None:
    """A setting for each spatial dimension, if it is given plainly and is not less than that."""
    values = tuple(value) if type(value) in (tuple, list) else (value,)
    if len(values) not in (1, spatial) or not all(type(item) is int and item >= least for item in values):
        return None
    return values * spatial if len(values) == 1 else values


def slid(sizes: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[int, ...] | None:
    """How often a window fits into each dimension: ⌊(size + 2 padding − dilation (kernel − 1) − 1) / stride⌋ + 1."""
    spatial = len(sizes)
    settings = ((kernel, 1), (stride, 1), (padding, 0), (dilation, 1))
    widths, steps, pads, gaps = (_each(value, spatial, least) for value, least in settings)
    if widths is None or steps is None or pads is None or gaps is None:
        return None
    spare = [
        size + 2 * pad - gap * (width - 1) - 1 for size, width, pad, gap in zip(sizes, widths, pads, gaps, strict=True)
    ]
    return tuple(room // step + 1 for room, step in zip(spare, steps, strict=True)) if min(spare) >= 0 else None


def conv(spatial: int) -> Rule:
    """The rule of a convolution over that many dimensions."""

    def rule(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor | None:  # fmt: skip
        if not _is_batch(x, weight, bias, spatial, groups) or x.shape[1] != weight.shape[1] * groups:
            return None
        if weight.shape[0] % groups or not fits(bias, weight.shape[:1], x.dtype):
            return None
        sizes = slid(x.shape[2:], tuple(weight.shape[2:]), stride, padding, dilation)
        return None if sizes is None else blank((x.shape[0], weight.shape[0], *sizes), x.dtype)

    return rule


def conv_transpose(spatial: int) -> Rule:
    """The rule of a transposed convolution over that many dimensions."""

    def rule(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> Tensor | None:  # fmt: skip
        if not _is_batch(x, weight, bias, spatial, groups) or x.shape[1] != weight.shape[0] or len(weight) % groups:
            return None
        channels = weight.shape[1] * groups
        steps, pads, more, wide = (
            _each(value, spatial, least)
            for value, least in ((stride, 1), (padding, 0), (output_padding, 0), (dilation, 1))
        )
        if steps is None or pads is None or more is None or wide is None or not fits(bias, (channels,), x.dtype):
            return None
        sizes = [
            (size - 1) * step - 2 * pad + gap * (width - 1) + extra + 1
            for size, width, step, pad, extra, gap in zip(
                x.shape[2:], weight.shape[2:], steps, pads, more, wide, strict=True
            )
        ]
        usual = all(extra < max(step, gap) for extra, step, gap in zip(more, steps, wide, strict=True))
        return blank((x.shape[0], channels, *sizes), x.dtype) if usual and min(sizes) > 0 else None

    return rule


def _is_batch(x: Tensor, weight: Tensor, bias: Tensor | None, spatial: int, groups: int) -> bool:
    """Whether these are the input and the weights of a convolution, and of one type."""
    plain = is_plain(x) and is_plain(weight) and x.ndim == weight.ndim == spatial + 2
    return plain and x.dtype is weight.dtype and type(groups) is int and groups > 0


def _pooled(x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, spatial: int) -> Tensor | None:
    if not is_plain(x) or x.ndim != spatial + 2:
        return None
    widths, pads = _each(kernel, spatial, 1), _each(padding, spatial, 0)
    if widths is None or pads is None or any(pad > width // 2 for pad, width in zip(pads, widths, strict=True)):
        return None
    sizes = slid(x.shape[2:], widths, widths if stride in (None, (), []) else stride, padding, dilation)
    return None if sizes is None else blank((*x.shape[:2], *sizes), x.dtype)


def max_pool(spatial: int) -> Rule:
    """The rule of a maximum over windows."""

    def rule(
        x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False, return_indices: bool = False,
    ) -> Tensor | None:  # fmt: skip
        plain = ceil_mode is False and return_indices is False
        return _pooled(x, kernel_size, stride, padding, dilation, spatial) if plain else None

    return rule


def avg_pool(spatial: int) -> Rule:
    """The rule of a mean over windows."""

    def rule(
        x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
        ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> Tensor | None:  # fmt: skip
        widths = _each(kernel_size, spatial, 1)
        plain = ceil_mode is False and type(count_include_pad) is bool and divisor_override is None
        if widths is None or any(size < width for size, width in zip(x.shape[2:], widths, strict=False)):
            return None
        return _pooled(x, kernel_size, stride, padding, 1, spatial) if plain else None

    return rule


def adaptive_pool(spatial: int) -> Rule:
    """The rule of a pool to an output of a given size."""

    def rule(x: Tensor, output_size: Any) -> Tensor | None:
        sizes = _each(output_size, spatial, 1)
        if sizes is None or not is_plain(x) or x.ndim != spatial + 2:
            return None
        return blank((*x.shape[:2], *sizes), x.dtype)

    return rule


def _by_function() -> dict[Callable[..., Any], Rule]:
    rules: dict[Callable[..., Any], Rule] = {}
    for spatial in (1, 2, 3):
        for name, rule in (
            (f"conv{spatial}d", conv(spatial)),
            (f"conv_transpose{spatial}d", conv_transpose(spatial)),
            (f"max_pool{spatial}d", max_pool(spatial)),
            (f"avg_pool{spatial}d", avg_pool(spatial)),
            (f"adaptive_avg_pool{spatial}d", adaptive_pool(spatial)),
        ):
            rules[getattr(F, name)] = rule
    return rules


WINDOWS = _by_function()
"""Rules by the function of torch.nn.functional."""
