"""Schedules that begin with a warm-up: factors of each group's own rate, so that groups keep their ratios."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Warmup(LRScheduler):
    """Multiplies each group's initial rate by a factor that first rises, then is what `after` says.

    In a warm-up of w steps the factor at step t, counted from 0, is (t + 1) / (w + 1): no step is lost at a rate of 0,
    and step w has the full rate. From `total_steps` on it is `min_ratio`.

    Args:
        optimizer: whose groups are scheduled.
        total_steps: the steps of the whole schedule.
        warmup: how many of them rise: below 1 a share of all, else a number.
        min_ratio: the factor at the end.
        last_epoch: the last step done, -1 at the beginning.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        warmup: float | int = 0.05,
        min_ratio: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if total_steps < 1:
            raise ValueError(f"total_steps is {total_steps}, which is less than one")
        if not 0 <= min_ratio <= 1:
            raise ValueError(f"min_ratio is {min_ratio}, which is not between 0 and 1")
        self.total_steps = total_steps
        self.warmup_steps = _steps("warmup", warmup, total_steps)
        self.min_ratio = float(min_ratio)
        if self.warmup_steps >= total_steps:
            raise ValueError(f"a warm-up of {self.warmup_steps} leaves none of {total_steps} steps for the rest")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each group for the coming step."""
        factor = self.factor(self.last_epoch)
        return [rate * factor for rate in self.base_lrs]

    def factor(self, step: int) -> float:
        """What the initial rates are multiplied by at `step`, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        if step >= self.total_steps:
            return self.min_ratio
        return self.min_ratio + (1 - self.min_ratio) * self.after(step)

    def after(self, step: int) -> float:
        """The share of the way from `min_ratio` up to 1, at a step after the warm-up."""
        raise NotImplementedError


class WarmupCosine(Warmup):
    """A linear warm-up, then half a cosine down to `min_ratio` (Loshchilov and Hutter 2017, arXiv:1608.03983).

    Without a warm-up the rates are those of `CosineAnnealingLR`.
    """

    def after(self, step: int) -> float:
        """Half a cosine from 1 to 0."""
        return (1 + math.cos(math.pi * (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))) / 2


class WarmupLinear(Warmup):
    """A linear warm-up, then a straight line down to `min_ratio`."""

    def after(self, step: int) -> float:
        """A line from 1 to 0."""
        return (self.total_steps - step) / (self.total_steps - self.warmup_steps)


class WarmupStableDecay(Warmup):
    """A linear warm-up, a constant rate, and a fall to `min_ratio` at the end.

    The schedule of MiniCPM (Hu et al. 2024, arXiv:2404.06395).

    Args:
        optimizer: whose groups are scheduled.
        total_steps: the steps of the whole schedule.
        warmup: how many of them rise: below 1 a share of all, else a number.
        decay: how many of them fall, in the same way.
        shape: of the fall: a line, half a cosine, or 1 - sqrt (Hägele et al. 2024, arXiv:2405.18392).
        min_ratio: the factor at the end.
        last_epoch: the last step done, -1 at the beginning.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        warmup: float | int = 0.05,
        decay: float | int = 0.2,
        shape: Literal["linear", "cosine", "sqrt"] = "linear",
        min_ratio: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if shape not in ("linear", "cosine", "sqrt"):
            raise ValueError(f"shape is {shape!r}, which is none of linear, cosine and sqrt")
        self.decay_steps = _steps("decay", decay, total_steps)
        self.shape = shape
        if _steps("warmup", warmup, total_steps) + self.decay_steps > total_steps:
            raise ValueError(f"warm-up and decay together are longer than {total_steps} steps")
        super().__init__(optimizer, total_steps, warmup, min_ratio, last_epoch)

    def after(self, step: int) -> float:
        """1 until the fall, which ends at 0."""
        left = self.total_steps - step
        if left >= self.decay_steps:
            return 1.0
        share = 1 - left / self.decay_steps
        if self.shape == "linear":
            return 1 - share
        return 1 - math.sqrt(share) if self.shape == "sqrt" else (1 + math.cos(math.pi * share)) / 2


def _steps(name: str, value: float, total: int) -> int:
    """A share of all steps, or a number of them, as a number."""
    if isinstance(value, bool) or value < 0 or (value >= 1 and value != int(value)):
        raise ValueError(f"{name} is {value}, which is neither a share below 1 nor a whole number")
    return round(value * total) if value < 1 else int(value)
