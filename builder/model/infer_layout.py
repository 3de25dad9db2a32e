"""Tensors without values: made by shape and strides, and as PyTorch lays out the results of elementwise functions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

FLOATS = frozenset((torch.float32, torch.float64, torch.float16, torch.bfloat16))
KINDS = (Tensor, torch.nn.Parameter)
META = torch.device("meta")


@lru_cache(maxsize=4096)
def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a contiguous tensor of that shape."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def blank(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A contiguous tensor on the meta device."""
    shape = tuple(shape)
    return torch.empty_strided(shape, contiguous_strides(shape), dtype=dtype, device=META)


def is_meta(x: Any) -> bool:
    """Whether this is a tensor with floating values, of any strides, that has elements."""
    return type(x) in KINDS and x.is_meta and x.layout is torch.strided and x.dtype in FLOATS and x.numel() > 0


def broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that two shapes have in common; None if there is none."""
    if left == right:
        return left
    longer, shorter = (left, right) if len(left) >= len(right) else (right, left)
    head = len(longer) - len(shorter)
    pairs = tuple(zip(longer[head:], shorter, strict=True))
    if not all(a == b or a == 1 or b == 1 for a, b in pairs):
        return None
    return (*longer[:head], *(a if b == 1 else b for a, b in pairs))


def elementwise(*operands: Tensor, dtype: torch.dtype | None = None) -> Tensor | None:
    """What an operation on each element gives: the shape that the operands have in common, laid out as PyTorch does.

    None if they have no common shape, or differ in type. All are those of `is_meta`.
    """
    first = operands[0]
    shape: tuple[int, ...] | None = tuple(first.shape)
    for x in operands[1:]:
        shape = None if shape is None or x.dtype is not first.dtype else broadcast(shape, tuple(x.shape))
    if shape is None:
        return None
    strides = contiguous_strides(shape)
    if not all(x.stride() == contiguous_strides(x.shape) for x in operands):
        strides = _kept(shape, operands)
    return torch.empty_strided(shape, strides, dtype=dtype or first.dtype, device=META)


def _kept(shape: tuple[int, ...], operands: tuple[Tensor, ...]) -> tuple[int, ...]:
    """The strides of a result: dense, its dimensions in memory in the order of those of the operands.

    As `TensorIterator` sorts them (aten/src/ATen/TensorIterator.cpp, reorder_dimensions).
    """
    rows = [_over(shape, x) for x in operands]
    order = list(reversed(range(len(shape))))
    for index in range(1, len(order)):
        moved = index
        for other in range(index - 1, -1, -1):
            sign = _comparedcontiguous_strides(shape, rows, order[other], order[moved])
            if sign > 0:
                order[other], order[moved] = order[moved], order[other]
                moved = other
            elif sign < 0:
                break
    strides, step = [0] * len(shape), 1
    for dim in order:
        strides[dim] = step
        step *= max(shape[dim], 1)
    return tuple(strides)


def _over(shape: tuple[int, ...], x: Tensor) -> tuple[int, ...]:
    """The strides with which an operand is gone through: none along dimensions in which it is repeated."""
    head = len(shape) - x.ndim
    own = zip(x.shape, x.stride(), shape[head:], strict=True)
    return (*[0] * head, *(0 if size == 1 != whole else stride for size, stride, whole in own))


def _comparedcontiguous_strides(shape: tuple[int, ...], rows: list[tuple[int, ...]], inner: int, outer: int) -> int:
    """1 if the dimension `inner` belongs outside of `outer`, -1 if it doesn't, 0 if no operand tells."""
    for row in rows:
        if row[inner] == 0 or row[outer] == 0:
            continue
        if row[inner] != row[outer]:
            return 1 if row[inner] > row[outer] else -1
        if shape[inner] > shape[outer]:
            return 1
    return 0


def is_plain(x: Any) -> bool:
    """Whether this is such a tensor, and contiguous in the strictest sense."""
    return is_meta(x) and x.stride() == contiguous_strides(x.shape)


def is_number(value: Any) -> bool:
    """Whether this is an int or a float, and no bool."""
    return type(value) in (int, float)


def is_share(value: Any) -> bool:
    """Whether this is a number from 0 to 1."""
    return is_number(value) and 0 <= value <= 1
