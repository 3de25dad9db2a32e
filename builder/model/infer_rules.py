"""The shapes of what PyTorch's common functions return, in closed form.

On the meta device, PyTorch computes most shapes in Python: that of a layer norm takes longer than the layer takes to
make, and the first call imports a compiler, which takes seconds. A rule here does it in microseconds. It answers for
ordinary arguments alone, and with None for all others: then PyTorch's own way is taken, its errors among what comes of
it. Tests compare each rule with PyTorch's way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from builder.model.infer_attention import scaled_dot_product_attention
from builder.model.infer_layout import (
    FLOATS,
    KINDS,
    META,
    blank,
    broadcast,
    contiguous_strides,
    elementwise,
    is_meta,
    is_number,
    is_plain,
    is_share,
)

Rule = Callable[..., Tensor | None]


def fits(x: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether an optional weight has this shape and type."""
    return x is None or (is_plain(x) and x.shape == shape and x.dtype is dtype)


def _is_false(value: Any) -> bool:
    return value is False


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _same(**options: Callable[[Any], bool]) -> Rule:
    """The rule of a function whose output is like its input, given the tests that its further arguments must pass."""
    names = tuple(options)

    def rule(x: Any, /, *args: Any, **kwargs: Any) -> Tensor | None:
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if len(args) > len(names) or not is_meta(x):
            return None
        usual = all(name in options and options[name](value) for name, value in given.items())
        return elementwise(x) if usual else None

    return rule


def _hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor | None:
    fitting = is_plain(x) and is_number(min_val) and is_number(max_val) and min_val < max_val and inplace is False
    return blank(x.shape, x.dtype) if fitting else None


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor | None:
    """What it gives when it draws; else it gives the input itself, in no time."""
    fitting = is_meta(x) and is_share(p) and p > 0 and training is True and inplace is False
    return elementwise(x) if fitting else None


def _softmax(x: Tensor, dim: int, _stacklevel: int = 3, dtype: Any = None) -> Tensor | None:
    fitting = is_plain(x) and type(dim) is int and -x.ndim <= dim < x.ndim and dtype is None
    return blank(x.shape, x.dtype) if fitting else None


def _binary(x: Any, other: Any, /) -> Tensor | None:
    if not is_meta(x):
        return None
    if is_number(other):
        return elementwise(x)
    return elementwise(x, other) if is_meta(other) else None


def _in_place(x: Any, other: Any, /) -> Tensor | None:
    """The tensor itself, if it takes another, which doesn't widen it."""
    found = _binary(x, other)
    return x if found is not None and found.shape == x.shape else None


def _with_number(x: Any, number: Any, /) -> Tensor | None:
    return elementwise(x) if is_meta(x) and is_number(number) else None


def _compared(x: Any, other: Any, /) -> Tensor | None:
    if not is_meta(x):
        return None
    if is_number(other):
        return elementwise(x, dtype=torch.bool)
    return elementwise(x, other, dtype=torch.bool) if is_meta(other) else None


def _like(x: Tensor, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor | None:
    if type(x) not in KINDS or not x.is_meta or x.layout is not torch.strided or not x.numel():
        return None
    plain = x.stride() == contiguous_strides(x.shape) and device in (None, META, "meta")
    return blank(x.shape, dtype or x.dtype) if plain and isinstance(dtype, torch.dtype | None) else None


def _drawn_like(x: Tensor) -> Tensor | None:
    return blank(x.shape, x.dtype) if is_plain(x) else None


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    fitting = is_meta(x) and is_meta(weight) and x.ndim and weight.ndim == 2 and x.dtype is weight.dtype
    if not fitting or x.shape[-1] != weight.shape[1] or not fits(bias, (weight.shape[0],), x.dtype):
        return None
    return blank((*x.shape[:-1], weight.shape[0]), x.dtype)


def _matmul(x: Tensor, other: Tensor, /) -> Tensor | None:
    fitting = is_plain(x) and is_meta(other) and x.dtype is other.dtype and other.ndim >= 2 and x.ndim >= other.ndim
    if not fitting or x.shape[-1] != other.shape[-2] or (other.ndim > 2 and x.shape[:-2] != other.shape[:-2]):
        return None
    return blank((*x.shape[:-1], other.shape[-1]), x.dtype)


def _bmm(x: Tensor, other: Tensor, /) -> Tensor | None:
    return _matmul(x, other) if is_plain(x) and is_meta(other) and x.ndim == other.ndim == 3 else None


def _layer_norm(
    x: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float | None = 1e-5
) -> Tensor | None:
    if not is_plain(x) or type(normalized_shape) not in (tuple, list, torch.Size) or not normalized_shape:
        return None
    shape = tuple(normalized_shape)
    fitting = x.shape[-len(shape) :] == shape and fits(weight, shape, x.dtype) and fits(bias, shape, x.dtype)
    return blank(x.shape, x.dtype) if fitting and (eps is None or is_number(eps)) else None


def _rms_norm(x: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: Any = None) -> Tensor | None:
    return _layer_norm(x, normalized_shape, weight, None, eps)


def _group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor | None:
    if not is_plain(x) or type(num_groups) is not int or num_groups < 1 or x.ndim < 2 or x.shape[1] % num_groups:
        return None
    many = x.numel() > num_groups  # one value a group is refused
    channels = x.shape[1:2]
    fitting = many and fits(weight, channels, x.dtype) and fits(bias, channels, x.dtype) and is_number(eps)
    return blank(x.shape, x.dtype) if fitting else None


def _batch_norm(
    x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float | None = 0.1, eps: float = 1e-5,
) -> Tensor | None:  # fmt: skip
    if not is_plain(x) or x.ndim < 2 or x.numel() <= x.shape[1]:  # one value a channel is refused in training
        return None
    statistics = (running_mean, running_var)
    whole = all(part is not None for part in statistics) or (training and statistics == (None, None))
    fitting = all(fits(part, x.shape[1:2], x.dtype) for part in (*statistics, weight, bias))
    return blank(x.shape, x.dtype) if whole and fitting and is_number(momentum) and is_number(eps) else None


def _embedding(
    ids: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor | None:  # fmt: skip
    if type(ids) is not Tensor or not ids.is_meta or ids.dtype is not torch.int64 or ids.numel() == 0:
        return None
    plain = ids.layout is torch.strided and ids.stride() == contiguous_strides(ids.shape) and is_plain(weight)
    if not plain or weight.ndim != 2 or max_norm is not None or scale_grad_by_freq is not False or sparse is not False:
        return None
    if padding_idx is not None and not (type(padding_idx) is int and -len(weight) <= padding_idx < len(weight)):
        return None
    return blank((*ids.shape, weight.shape[1]), weight.dtype)


def _reduced(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor | None:
    if not is_plain(x) or type(keepdim) is not bool:
        return None
    if dim is None:
        dims = tuple(range(x.ndim))
    else:
        dims = tuple(dim) if type(dim) in (tuple, list) else (dim,)
    if not dims or not all(type(item) is int and -x.ndim <= item < x.ndim for item in dims):
        return None
    gone = {item % x.ndim for item in dims}
    if len(gone) != len(dims):
        return None
    sizes = [1 if index in gone else size for index, size in enumerate(x.shape) if keepdim or index not in gone]
    return blank(tuple(sizes), x.dtype)


def _cat(tensors: Any, dim: int = 0) -> Tensor | None:
    if type(tensors) not in (tuple, list) or not tensors or not all(map(_is_joinable, tensors)):
        return None
    first = tensors[0]
    if type(dim) is not int or not -first.ndim <= dim < first.ndim:
        return None
    axis = dim % first.ndim
    if any(x.dtype is not first.dtype or _without(x.shape, axis) != _without(first.shape, axis) for x in tensors):
        return None
    shape = list(first.shape)
    shape[axis] = sum(x.shape[axis] for x in tensors)
    return blank(tuple(shape), first.dtype)


def _is_joinable(x: Any) -> bool:
    """Whether a concatenation with this is contiguous: it isn't where channels come last."""
    return is_meta(x) and x.ndim > 0 and (x.ndim not in (4, 5) or is_plain(x) or x.stride()[1] > x.stride()[-1])


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], -1, *shape[axis + 1 :])


def _reshape(x: Tensor, /, *sizes: Any) -> Tensor | None:
    """A copy, where there can be no view; a view is quick as it is."""
    shape = tuple(sizes[0]) if len(sizes) == 1 and type(sizes[0]) in (tuple, list, torch.Size) else sizes
    if not is_meta(x) or x.is_contiguous() or not all(type(size) is int and (size > 0 or size == -1) for size in shape):
        return None
    known = math.prod(size for size in shape if size != -1)
    open_sizes = shape.count(-1)
    if open_sizes > 1 or x.numel() % known or (not open_sizes and known != x.numel()):
        return None
    shape = tuple(x.numel() // known if size == -1 else size for size in shape)
    try:
        return x.view(shape)
    except RuntimeError:
        return blank(shape, x.dtype)


def _contiguous(x: Tensor, /) -> Tensor | None:
    return blank(x.shape, x.dtype) if is_meta(x) and not x.is_contiguous() else None


def _arange(*args: Any, device: Any = None, dtype: Any = None) -> Tensor | None:
    if not all(type(value) is int and abs(value) < 2**31 for value in args) or device not in (None, META, "meta"):
        return None
    if not 1 <= len(args) <= 3 or dtype not in (None, torch.int64, *FLOATS):
        return None
    start, end, step = (0, *args, 1) if len(args) == 1 else (*args, 1)[:3]
    return blank((len(range(start, end, step)),), dtype or torch.int64) if step > 0 and start < end else None


def _masked_fill(x: Tensor, mask: Tensor, value: Any, /) -> Tensor | None:
    fitting = is_plain(x) and type(mask) is Tensor and mask.is_meta and mask.dtype is torch.bool and is_number(value)
    return blank(x.shape, x.dtype) if fitting and broadcast(x.shape, mask.shape) == x.shape else None


def _triangle(x: Tensor, diagonal: int = 0) -> Tensor | None:
    return blank(x.shape, x.dtype) if is_plain(x) and x.ndim >= 2 and type(diagonal) is int else None


_INPLACE = {"inplace": _is_false}

_BY_NAME: Mapping[str, Rule] = {
    **dict.fromkeys(("relu", "silu", "mish", "selu", "hardswish", "hardsigmoid"), _same(**_INPLACE)),
    **dict.fromkeys(("sigmoid", "tanh", "softsign", "tanhshrink", "logsigmoid"), _same()),
    **dict.fromkeys(("exp", "log", "sqrt", "rsqrt", "abs", "neg", "square", "sin", "cos", "erf"), _same()),
    "gelu": _same(approximate=lambda value: value in ("none", "tanh")),
    "leaky_relu": _same(negative_slope=is_number, **_INPLACE),
    "elu": _same(alpha=is_number, **_INPLACE),
    "softplus": _same(beta=is_number, threshold=is_number),
    "hardtanh": _hardtanh,
    "relu6": _same(**_INPLACE),
    "dropout": _dropout,
    "softmax": _softmax,
    "log_softmax": _softmax,
    **dict.fromkeys(("add", "sub", "mul", "div"), _binary),
    **dict.fromkeys(("__rsub__", "__rdiv__", "__rpow__"), _with_number),
    **dict.fromkeys(("add_", "sub_", "mul_", "div_"), _in_place),
    **dict.fromkeys(("zeros_like", "ones_like", "empty_like"), _like),
    **dict.fromkeys(("randn_like", "rand_like"), _drawn_like),
    "pow": _with_number,
    "__pow__": _with_number,
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne", "__eq__", "__ne__"), _compared),
    "linear": _linear,
    "matmul": _matmul,
    "__matmul__": _matmul,
    "bmm": _bmm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
    "embedding": _embedding,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "mean": _reduced,
    "sum": _reduced,
    "cat": _cat,
    "concat": _cat,
    "reshape": _reshape,
    "contiguous": _contiguous,
    "arange": _arange,
    "masked_fill": _masked_fill,
    "tril": _triangle,
    "triu": _triangle,
}


def _by_function() -> dict[Callable[..., Any], Rule]:
    """The functions of PyTorch that bear these names, as they reach a `TorchFunctionMode`."""
    homes = (F, torch, Tensor)
    return {
        function: rule
        for name, rule in _BY_NAME.items()
        for function in (getattr(home, name, None) for home in homes)
        if function is not None
    }


RULES = _by_function()
"""Rules by function: those of torch.nn.functional, of torch, and the methods of tensors."""
