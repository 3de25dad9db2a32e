"""Transforms of pictures: what is done to batches [B, C, H, W] of them, each picture at its own random place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from builder.data.facts import ArgumentError
from builder.data.sources import Batch
from builder.data.transforms import beside, check_probability, draw, float_tensor, tensor_of, transforms


@transforms.register
@dataclass(frozen=True)
class RandomCrop:
    """Cut a window of `size` (height and width, or one number for both) out of each picture, at random.

    `padding` zeros are put on all sides first. The pictures are [B, C, H, W].
    """

    size: int | Sequence[int]
    padding: int = 0
    of: str = "x"

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with a window of each picture, each at a place of its own."""
        x = F.pad(tensor_of(batch, self.of, 4), [self.padding] * 4)
        height, width = _window(self.size, x)
        top = _below(x.shape[2] - height + 1, len(x), generator, x)
        left = _below(x.shape[3] - width + 1, len(x), generator, x)
        rows = top[:, None] + torch.arange(height, device=x.device)
        columns = left[:, None] + torch.arange(width, device=x.device)
        samples = torch.arange(len(x), device=x.device)[:, None, None]
        # The indexed dimensions come first, the channels last.
        cut = x.movedim(1, 3)[samples, rows[:, :, None], columns[:, None, :]]
        return batch | {self.of: cut.movedim(3, 1).contiguous()}


@transforms.register
@dataclass(frozen=True)
class CenterCrop:
    """Cut the middle of `size` (height and width, or one number for both) out of pictures [B, C, H, W]."""

    size: int | Sequence[int]
    of: str = "x"

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with the middle of each picture."""
        x = tensor_of(batch, self.of, 4)
        height, width = _window(self.size, x)
        top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
        return batch | {self.of: x[:, :, top : top + height, left : left + width].contiguous()}


@transforms.register
@dataclass(frozen=True)
class Resize:
    """Bring pictures [B, C, H, W] to `size` (height and width, or one number for both), bilinearly."""

    size: int | Sequence[int]
    of: str = "x"

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with all pictures resized."""
        x = float_tensor(batch, self.of, 4)
        size = [self.size] * 2 if isinstance(self.size, int) else list(self.size)
        return batch | {self.of: F.interpolate(x, size, mode="bilinear", antialias=True)}


@transforms.register
@dataclass(frozen=True)
class Brightness:
    """Multiply each sample by a number of its own from 1 - `by` to 1 + `by`."""

    by: float = 0.2
    of: str = "x"

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with each sample brighter or darker."""
        x = float_tensor(batch, self.of)
        return batch | {self.of: x * beside(1 + self.by * (2 * draw(len(x), generator, x) - 1), x)}


@transforms.register
@dataclass(frozen=True)
class Cutout:
    """Set a square of `size` pixels to `fill` in each picture [B, C, H, W], with probability `p`.

    Its middle lies anywhere in the picture, so that part of it may lie outside (DeVries and Taylor 2017,
    arXiv:1708.04552).
    """

    size: int
    p: float = 1.0
    fill: float = 0.0
    of: str = "x"

    def __post_init__(self) -> None:
        check_probability(self.p)

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with a square missing in each picture."""
        x = tensor_of(batch, self.of, 4)
        chosen = draw(len(x), generator, x) < self.p
        row, column = (_below(x.shape[dim], len(x), generator, x) - self.size // 2 for dim in (2, 3))
        hidden = chosen[:, None, None] & (
            _within(row, self.size, x.shape[2])[:, :, None] & _within(column, self.size, x.shape[3])[:, None, :]
        )
        return batch | {self.of: x.masked_fill(hidden[:, None], self.fill)}


def _below(bound: int, count: int, generator: Generator, like: Tensor) -> Tensor:
    """Whole numbers below a bound, one for each sample."""
    return torch.randint(bound, (count,), generator=generator, device=like.device)


def _within(start: Tensor, size: int, length: int) -> Tensor:
    """Which of `length` positions lie in a window of `size` from each `start`: [B, length]."""
    place = torch.arange(length, device=start.device) - start[:, None]
    return (place >= 0) & (place < size)


def _window(size: int | Sequence[int], x: Tensor) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    if not (0 < height <= x.shape[2] and 0 < width <= x.shape[3]):
        expected = f"at most {list(x.shape[2:])}, the size of the pictures"
        raise ArgumentError("size", "the window doesn't fit", found=[height, width], expected=expected)
    return height, width
