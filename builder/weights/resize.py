"""Fits a tensor of one shape to a parameter of another: position embeddings, and kernels of convolutions.

Legend: n, m tokens of source and target; p tokens before the grid (class, registers); d width; h, w a grid's sides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

MODES = {1: ("linear", "nearest"), 2: ("bicubic", "bilinear", "nearest"), 3: ("trilinear", "nearest")}
"""Interpolations by the number of dimensions, the first being the default."""

CHANNELS = ("average", "sum", "repeat")
"""How input channels of a kernel are made from others."""

MOST_TOKENS = 5
"""Up to how many tokens before a grid are looked for where the config says none: a class token and four registers."""


class Unfit(ValueError):
    """A tensor can't be brought to a shape; `args` are why, and the way out or None."""


@dataclass(frozen=True, slots=True)
class Resize:
    """How a tensor is fitted; what is None is found from the shapes.

    Attributes:
        mode: the interpolation.
        prefix: tokens before the grid of a position embedding, which are kept.
        grid: sides of the target's grid.
        source_grid: sides of the source's grid.
        channels: how a kernel's input channels are made: each the `average` of the source's; each their `sum` divided
            by the number of channels, so that a grey picture gives what it gave; or the source's in turn (`repeat`),
            scaled likewise.
        antialias: whether an interpolation in two dimensions smooths where it makes smaller.
    """

    mode: str | None = None
    prefix: int | None = None
    grid: tuple[int, int] | None = None
    source_grid: tuple[int, int] | None = None
    channels: str = "average"
    antialias: bool = True


@dataclass(frozen=True, slots=True)
class Fitting:
    """One resize that is settled: what is done, in words, and with which sizes."""

    words: str
    kind: str
    shape: tuple[int, ...]
    mode: str
    antialias: bool = False
    prefix: int = 0
    source_grid: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()
    channels: str = "average"

    def apply(self, tensor: Tensor) -> Tensor:
        """A new tensor of the target's shape; computed in float32 at least."""
        wide = tensor if tensor.dtype.itemsize >= 4 else tensor.float()
        made = _tokens(wide, self) if self.kind == "tokens" else _kernel(wide, self)
        return made.to(tensor.dtype)


def settle(source: tuple[int, ...], target: tuple[int, ...], owner: nn.Module | None, how: Resize) -> Fitting:
    """How a tensor of the shape `source` is brought to `target`, the shape of a parameter of `owner`.

    Raises:
        Unfit: it can't be, or it isn't clear how.
    """
    if isinstance(owner, _ConvNd):
        return _settle_kernel(source, target, owner, how)
    is_table = _may_hold_positions(owner) and (len(source) == 2 or (len(source) == 3 and source[0] == 1))
    if len(source) != len(target) or not is_table or source[-1] != target[-1] or source[:-2] != target[:-2]:
        raise Unfit("only position embeddings [n, d] and [1, n, d] and kernels of convolutions are resized", None)
    return _settle_tokens(source[-2], target, how)


def _may_hold_positions(owner: nn.Module | None) -> bool:
    """Not a layer of PyTorch, such as Linear, whose rows are outputs: to interpolate between these means nothing."""
    return isinstance(owner, nn.Embedding) or not type(owner).__module__.startswith("torch.nn.modules.")


def _settle_tokens(n: int, target: tuple[int, ...], how: Resize) -> Fitting:
    m = target[-2]
    is_line = how.mode == "linear" or (how.mode == "nearest" and how.grid is None and how.source_grid is None)
    if is_line:
        return _line(n, target, how)
    if how.prefix is not None or how.grid is not None or how.source_grid is not None:
        return _grid(n, target, how, how.prefix or 0)
    prefix = next((p for p in range(1, min(MOST_TOKENS + 1, n, m)) if _square(n - p) and _square(m - p)), None)
    if _square(n) and _square(m) and how.mode is None:
        raise Unfit(
            f"{n} and {m} tokens may be a line or a square grid",
            "say {resize: linear}, or {resize: bicubic, prefix: 0}",
        )
    if prefix is None and how.mode is None:
        return _line(n, target, how)
    return _grid(n, target, how, 0 if _square(n) and _square(m) else prefix or 0)


def _line(n: int, target: tuple[int, ...], how: Resize) -> Fitting:
    m, p = target[-2], how.prefix or 0
    if min(n, m) <= p:
        raise Unfit(f"{n} tokens and {m} don't both go beyond a prefix of {p}", None)
    mode = how.mode or "linear"
    words = f"{mode}, {n - p} → {m - p} positions{_kept(p)}"
    return Fitting(words, "tokens", target, mode, prefix=p, source_grid=(n - p,), grid=(m - p,))


def _grid(n: int, target: tuple[int, ...], how: Resize, p: int) -> Fitting:
    mode = _mode(how, 2)
    source, grid = _sides(n, p, how.source_grid, "source_grid"), _sides(target[-2], p, how.grid, "grid")
    antialias = how.antialias and mode != "nearest"
    words = f"{mode}{', antialiased' if antialias else ''}, {_shown(source)} → {_shown(grid)}{_kept(p)}"
    return Fitting(words, "tokens", target, mode, antialias, p, source, grid)


def _sides(n: int, p: int, said: tuple[int, int] | None, key: str) -> tuple[int, int]:
    if said is None and _square(n - p):
        side = math.isqrt(n - p)
        return side, side
    if said is not None and said[0] * said[1] == n - p:
        return said
    which = "the file" if key == "source_grid" else "the model"
    if said is None:
        raise Unfit(f"{n} tokens of {which} less {p} are no square grid", f"say '{key}: [height, width]' or 'prefix'")
    raise Unfit(f"a grid of {_shown(said)} and {p} tokens before it are not the {n} tokens of {which}", None)


def _settle_kernel(source: tuple[int, ...], target: tuple[int, ...], owner: _ConvNd, how: Resize) -> Fitting:
    is_transposed = isinstance(owner, _ConvTransposeNd)
    if len(source) != len(target) or len(target) < 3 or source[0] != target[0]:
        raise Unfit("of a convolution only the kernel's input channels and its size are resized", None)
    if source[1] != target[1] and (is_transposed or owner.groups != 1):
        raise Unfit("the channels of a transposed or grouped convolution aren't resized", None)
    words = []
    if source[1] != target[1]:
        words.append(f"{source[1]} → {target[1]} channels by {how.channels}")
    mode = _mode(how, len(target) - 2)
    antialias = how.antialias and mode in ("bilinear", "bicubic")
    if source[2:] != target[2:]:
        words.append(f"{mode}{', antialiased' if antialias else ''}, {_shown(source[2:])} → {_shown(target[2:])}")
    return Fitting("; ".join(words), "kernel", target, mode, antialias, channels=how.channels)


def _mode(how: Resize, dims: int) -> str:
    mode = how.mode or MODES[dims][0]
    if mode not in MODES[dims]:
        raise Unfit(f"{mode!r} doesn't interpolate in {dims} dimensions", f"choose {' or '.join(MODES[dims])}")
    return mode


def _tokens(tensor: Tensor, fitting: Fitting) -> Tensor:
    """[..., n, d] → [..., m, d]; the tokens before the grid stay as they are."""
    table = tensor.reshape(tensor.shape[-2:])
    kept, rest = table[: fitting.prefix], table[fitting.prefix :]
    planes = rest.T.reshape(1, -1, *fitting.source_grid)
    made = _interpolated(planes, fitting.grid, fitting).flatten(2)[0].T
    return torch.cat([kept, made]).reshape(fitting.shape)


def _kernel(tensor: Tensor, fitting: Fitting) -> Tensor:
    """[out, in, *size] → [out, in', *size']."""
    channels, size = fitting.shape[1], fitting.shape[2:]
    if tensor.shape[1] != channels:
        tensor = _channels(tensor, channels, fitting.channels)
    return _interpolated(tensor, size, fitting) if tensor.shape[2:] != size else tensor


def _channels(tensor: Tensor, channels: int, how: str) -> Tensor:
    own = tensor.shape[1]
    if how == "repeat":
        turns = tensor.repeat(1, -(-channels // own), *[1] * (tensor.ndim - 2))[:, :channels]
        return turns * (own / channels)
    mean = tensor.mean(1, keepdim=True) if how == "average" else tensor.sum(1, keepdim=True) / channels
    return mean.expand(-1, channels, *tensor.shape[2:])


def _interpolated(planes: Tensor, size: tuple[int, ...], fitting: Fitting) -> Tensor:
    if fitting.mode == "nearest":
        return F.interpolate(planes, size=size, mode="nearest")
    return F.interpolate(planes, size=size, mode=fitting.mode, align_corners=False, antialias=fitting.antialias)


def _square(n: int) -> bool:
    return n > 0 and math.isqrt(n) ** 2 == n


def _shown(sides: tuple[int, ...]) -> str:
    return "×".join(map(str, sides))


def _kept(prefix: int) -> str:
    return f", {prefix} token{'s' if prefix > 1 else ''} before it kept" if prefix else ""


def read_resize(raw: Mapping[str, Any]) -> tuple[Resize | None, str | None, str | None]:
    """The long form `{resize: bicubic, prefix: 1, …}`; else the key that is wrong, and what is expected of it."""
    for key, value in raw.items():
        expected = _expected(key, value)
        if expected is not None:
            return None, key, expected
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in raw.items() if key != "resize"
    }
    return Resize(mode=raw["resize"], **given), None, None


def _expected(key: str, value: Any) -> str | None:
    """What a key of the long form takes, where this value isn't that; empty: there is no such key."""
    modes = [mode for each in MODES.values() for mode in each]
    if key in ("grid", "source_grid"):
        is_grid = isinstance(value, list | tuple) and len(value) == 2
        good = is_grid and all(type(side) is int and side > 0 for side in value)
        return None if good else "[height, width]"
    if key == "prefix":
        return None if type(value) is int and value >= 0 else "the number of tokens before the grid"
    if key == "antialias":
        return None if isinstance(value, bool) else "true or false"
    if key in ("resize", "channels"):
        choices = list(dict.fromkeys(modes)) if key == "resize" else list(CHANNELS)
        return None if value in choices else f"one of {', '.join(choices)}"
    return ""
