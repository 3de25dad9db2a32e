"""What is done to whole batches of tensors before a model sees them.

A transform is anything that takes a batch and a generator and gives a batch; what it draws comes from that generator
and from nowhere else, so that it is a function of (seed, epoch, batch). One that needs statistics has `fitted`, which
gives it those of the train split.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from builder.data.facts import ArgumentError
from builder.data.sources import Batch, Source
from builder.errors import nearest
from builder.registry import transforms

CHUNK = 1024
"""Samples that are taken at once where statistics are computed."""


class Transform(Protocol):
    """A change of a batch."""

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The changed batch; the given one and its tensors stay as they are."""


@transforms.register
@dataclass(frozen=True)
class Normalise:
    """Bring each channel (dimension 1) to mean 0 and standard deviation 1.

    `mean` and `std` are a number, or one for each channel; those that are left out are those of the train split as the
    data set gives it. A channel that is constant becomes 0.
    """

    of: str = "x"
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None

    def fitted(self, train: Source, values: Mapping[str, Any]) -> Normalise:
        """The same with the mean and standard deviation of the train split (float64 sums), where they are left out."""
        if self.mean is not None and self.std is not None:
            return self
        mean, std = _moments(train, self.of)
        return replace(self, mean=mean if self.mean is None else self.mean, std=std if self.std is None else self.std)

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with `of` brought to mean 0 and standard deviation 1."""
        x = float_tensor(batch, self.of)
        return batch | {self.of: (x - _by_channel("mean", self.mean, x)) / _by_channel("std", self.std, x)}


@transforms.register
@dataclass(frozen=True)
class Scale:
    """`of * by + add`, as float32: `{type: Scale, by: 0.00392156862745098}` takes bytes to 0..1."""

    of: str = "x"
    by: float = 1.0
    add: float = 0.0

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with `of` scaled."""
        return batch | {self.of: tensor_of(batch, self.of).float() * self.by + self.add}


@transforms.register
@dataclass(frozen=True)
class Flip:
    """Turn each sample round along dimension `dim` (-1: left and right), with probability `p`.

    With a list in `of`, the tensors of a sample are turned together (a picture and its mask).
    """

    of: str | Sequence[str] = "x"
    p: float = 0.5
    dim: int = -1

    def __post_init__(self) -> None:
        check_probability(self.p)

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with some samples turned round."""
        names = _names(self.of)
        x = tensor_of(batch, names[0])
        chosen = draw(len(x), generator, x) < self.p
        return batch | {name: _where(chosen, tensor_of(batch, name, 1).flip(self.dim), batch[name]) for name in names}


@transforms.register
@dataclass(frozen=True)
class Noise:
    """Add Gaussian noise of standard deviation `std`."""

    std: float
    of: str = "x"

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with noise in `of`."""
        x = float_tensor(batch, self.of)
        noise = torch.empty_like(x).normal_(0, 1, generator=generator)
        return batch | {self.of: x + self.std * noise}


@transforms.register
@dataclass(frozen=True)
class OneHot:
    """The probabilities [B, num_classes] of the classes of `target`, as a tensor `to`; 1 for the class it is.

    It stands under `eval` where `Mixup` stands under `train`.
    """

    target: str = "target"
    to: str = "probabilities"
    num_classes: int | None = None

    def fitted(self, train: Source, values: Mapping[str, Any]) -> OneHot:
        """The same with the number of classes of the data, if it is left out."""
        return self if self.num_classes else replace(self, num_classes=_num_classes(values))

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with the probabilities."""
        return batch | {self.to: _one_hot(tensor_of(batch, self.target), self.num_classes)}


@transforms.register
@dataclass(frozen=True)
class Mixup:
    """Mix each sample with another of the batch, and the probabilities of their classes likewise.

    One share for a batch is drawn from Beta(`alpha`, `alpha`); the larger part stays with the sample itself, so that
    its `target` still says what it mostly is. The probabilities are a new tensor `to`, for a loss
    `cross_entropy(output, probabilities)` (Zhang et al. 2018, arXiv:1710.09412).
    """

    alpha: float = 0.2
    of: str | Sequence[str] = "x"
    target: str = "target"
    to: str = "probabilities"
    num_classes: int | None = None

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ArgumentError("alpha", "a Beta distribution needs a positive number", found=self.alpha)

    def fitted(self, train: Source, values: Mapping[str, Any]) -> Mixup:
        """The same with the number of classes of the data, if it is left out."""
        return self if self.num_classes else replace(self, num_classes=_num_classes(values))

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch, each sample mixed with another."""
        probabilities = _one_hot(tensor_of(batch, self.target), self.num_classes)
        share = _beta(self.alpha, generator, probabilities)
        other = torch.randperm(len(probabilities), generator=generator, device=probabilities.device)
        mixed = {name: float_tensor(batch, name) for name in _names(self.of)} | {self.to: probabilities}
        return batch | {name: torch.lerp(x[other], x, share) for name, x in mixed.items()}


def _beta(alpha: float, generator: Generator, like: Tensor) -> Tensor:
    """The larger of X and 1 - X for X drawn from Beta(alpha, alpha), without dimensions.

    Drawn as X / (X + Y) of two gamma variables; torch draws those by `_standard_gamma`.
    """
    pair = torch.full((2,), alpha, dtype=torch.float64, device=like.device)
    pair = torch._standard_gamma(pair, generator=generator).clamp_min(1e-300)
    share = pair[0] / pair.sum()
    return torch.maximum(share, 1 - share).to(like.dtype)


def _one_hot(target: Tensor, num_classes: int | None) -> Tensor:
    if num_classes is None or target.is_floating_point():
        raise ArgumentError("target", "the target isn't a class")
    return F.one_hot(target, num_classes).float()


def _num_classes(values: Mapping[str, Any]) -> int:
    if "num_classes" not in values:
        raise ArgumentError("num_classes", "the data has no classes", expected="their number")
    return int(values["num_classes"])


def _names(of: str | Sequence[str]) -> list[str]:
    return [of] if isinstance(of, str) else list(of)


def tensor_of(batch: Batch, name: str, dims: int = 0) -> Tensor:
    """A tensor of a batch, which has at least `dims` dimensions.

    Raises:
        ArgumentError: there is none of that name, or it has fewer.
    """
    if name not in batch:
        expected = f"one of {', '.join(batch)}"
        message = f"a batch has no tensor {name!r}"
        raise ArgumentError("of", message, expected=expected, nearest=nearest(name, batch))
    if dims and batch[name].dim() < dims:
        shape = list(batch[name].shape[1:])
        message = f"the tensor {name!r} has too few dimensions for this"
        raise ArgumentError("of", message, found=shape, expected=f"{dims - 1} in each sample")
    return batch[name]


def float_tensor(batch: Batch, name: str, dims: int = 0) -> Tensor:
    """The same as `tensor_of`, whole numbers as float32."""
    x = tensor_of(batch, name, dims)
    return x if x.is_floating_point() else x.float()


def check_probability(p: float) -> None:
    """Refuse what is no probability.

    Raises:
        ArgumentError: `p` isn't from 0 to 1.
    """
    if not 0 <= p <= 1:
        raise ArgumentError("p", "no probability", found=p, expected="a number from 0 to 1")


def draw(count: int, generator: Generator, like: Tensor) -> Tensor:
    """Numbers from 0 to 1, one for each sample."""
    return torch.rand(count, generator=generator, device=like.device)


def beside(values: Tensor, x: Tensor) -> Tensor:
    """One value for each sample, in the dimensions of `x`."""
    return values.view(-1, *[1] * (x.dim() - 1))


def _where(chosen: Tensor, changed: Tensor, x: Tensor) -> Tensor:
    return torch.where(beside(chosen, x), changed, x)


def _by_channel(argument: str, values: float | Sequence[float] | None, x: Tensor) -> Tensor:
    tensor = torch.as_tensor(values, dtype=x.dtype, device=x.device)
    if not tensor.dim():
        return tensor
    channels = x.shape[1] if x.dim() > 1 else 1
    if len(tensor) != channels:
        raise ArgumentError(argument, "one number for each channel", found=list(tensor.shape), expected=str(channels))
    return tensor.view(1, -1, *[1] * (x.dim() - 2)) if x.dim() > 1 else tensor


def _moments(train: Source, of: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over the train split; 1 for the deviation of a constant one."""
    count, total, squares = 0.0, torch.zeros(()), torch.zeros(())
    shift: Tensor | None = None
    for start in range(0, train.size, CHUNK):
        x = tensor_of(train.take(slice(start, start + CHUNK)), of).double()
        x = x.movedim(1, -1).flatten(0, -2) if x.dim() > 1 else x[:, None]
        # Sums of differences to some value near the mean lose no digits.
        shift = x.mean(0) if shift is None else shift
        count, total, squares = count + len(x), total + (x - shift).sum(0), squares + (x - shift).square().sum(0)
    assert shift is not None
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    # What is left of a constant channel's rounding errors is no deviation.
    constant = std <= 1e-7 * (shift + mean).abs().clamp_min(math.sqrt(torch.finfo(torch.float64).tiny))
    return (shift + mean).tolist(), torch.where(constant, torch.ones_like(std), std).tolist()


importlib.import_module("builder.data.picture_transforms")  # registers those of pictures
