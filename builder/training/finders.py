"""Finds a learning rate and a batch size by trying some before training, which then goes on as if nothing had been."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path as Folder
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from builder.errors import RunError

DIVERGED = 4.0
"""How many times the least loss is too much."""
SMOOTHING = 0.8
"""The share of the past in the mean of the losses."""


class LearningRateFinder(Callback):
    """Tries rates from `lowest` to `highest` on `steps` batches before training (Smith 2015, arXiv:1506.01186).

    It prints the rate at which the loss falls fastest, writes all to `reports/learning_rate.csv`, and changes nothing:
    weights, optimiser and generators are then as they were. Groups keep the ratio of their rates to the first one's.
    """

    FOLDER = "reports"

    def __init__(
        self, lowest: float = 1e-6, highest: float = 1.0, steps: int = 100, dirpath: str = "reports"
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 < lowest < highest or steps < 10:
            raise ValueError("lowest and highest have to be rates above 0 in that order, and steps 10 or more")
        self.lowest, self.highest, self.steps, self.folder = lowest, highest, steps, Folder(dirpath)
        self.suggestion: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Try, and tell."""
        with untouched(pl_module):
            rates, losses = self._sweep(trainer, pl_module)
        self.suggestion = steepest(rates, losses)
        if trainer.is_global_zero:
            _write(self.folder / "learning_rate.csv", ("lr", "loss"), list(zip(rates, losses, strict=True)))
            found = "no rate at which the loss falls" if self.suggestion is None else f"{self.suggestion:.2g}"
            print(f"learning rate: {found} (of {len(rates)} tried, see reports/learning_rate.csv)", file=sys.stderr)

    def _sweep(self, trainer: pl.Trainer, pl_module: Any) -> tuple[list[float], list[float]]:
        """The rates tried, and the smoothed loss before each step with one of them."""
        optimizer = pl_module.plan.optimizer(pl_module.model)
        first = optimizer.param_groups[0]["lr"]
        ratios = [float(group["lr"] / first) for group in optimizer.param_groups]
        rates: list[float] = []
        losses: list[float] = []
        mean = 0.0
        for step, batch in zip(range(self.steps), _batches(trainer), strict=False):
            rate = self.lowest * (self.highest / self.lowest) ** (step / (self.steps - 1))
            for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                group["lr"] = rate * ratio
            loss = _step(trainer, pl_module, batch)
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            smooth = mean / (1 - SMOOTHING ** (step + 1))
            if not smooth < DIVERGED * min([*losses, smooth]):
                break
            rates.append(rate)
            losses.append(smooth)
            optimizer.step()
            optimizer.zero_grad()
        return rates, losses


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate at which the loss falls fastest by the rate's logarithm, which rises in equal steps; None if nowhere."""
    slopes = [after - before for before, after in zip(losses, losses[2:], strict=False)]
    best = min(range(len(slopes)), key=slopes.__getitem__, default=None)
    return None if best is None or slopes[best] >= 0 else rates[best + 1]


class BatchSizeFinder(Callback):
    """Tries batches of `smallest`, twice as many, … samples up to `largest` before training, each for `steps` steps.

    It prints the largest that fits into memory and the one that trains most samples a second, writes all to
    `reports/batch_size.csv`, and changes nothing.
    """

    FOLDER = "reports"

    def __init__(
        self, smallest: int = 8, largest: int = 4096, steps: int = 3, dirpath: str = "reports"
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 < smallest <= largest or steps < 1:
            raise ValueError("smallest and largest have to be numbers of samples in that order, and steps 1 or more")
        self.smallest, self.largest, self.steps, self.folder = smallest, largest, steps, Folder(dirpath)
        self.fits: int | None = None
        self.fastest: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Try, and tell."""
        speeds: dict[int, float] = {}
        with untouched(pl_module):
            size = self.smallest
            while size <= self.largest and (speed := self._speed(trainer, pl_module, size)) is not None:
                speeds[size] = speed
                size *= 2
        if not speeds:
            raise RunError(f"no batch of {self.smallest} samples fits into memory")
        self.fits, self.fastest = max(speeds), max(speeds, key=speeds.__getitem__)
        if trainer.is_global_zero:
            _write(self.folder / "batch_size.csv", ("batch_size", "samples_per_s"), list(speeds.items()))
            bound = "the largest that fits" if size <= self.largest else "the largest tried, which fits"
            told = f"{self.fits} is {bound}, {self.fastest} the fastest at {speeds[self.fastest]:.0f} samples/s"
            print(f"batch size: {told}", file=sys.stderr)

    def _speed(self, trainer: pl.Trainer, pl_module: Any, size: int) -> float | None:
        """Samples a second of batches of that size; None if they don't fit into memory."""
        batch = _batch_of(trainer, size)
        try:
            _step(trainer, pl_module, batch)
            start = time.perf_counter()
            for _ in range(self.steps):
                _step(trainer, pl_module, batch)
            return self.steps * size / (time.perf_counter() - start)
        except torch.OutOfMemoryError:
            return None
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):  # as PyTorch says on the CPU
                raise
            return None
        finally:
            pl_module.zero_grad()


@contextmanager
def untouched(pl_module: Any) -> Iterator[None]:
    """Afterwards the weights, buffers, modes and gradients of the module and all generators are as they were."""
    state = {name: value.clone() for name, value in pl_module.state_dict().items()}
    devices = [pl_module.device] if pl_module.device.type == "cuda" else []
    modes = {module: module.training for module in pl_module.modules()}
    try:
        with torch.random.fork_rng(devices=devices):
            pl_module.train()
            yield
    finally:
        pl_module.load_state_dict(state)
        pl_module.zero_grad()
        for module, training in modes.items():
            module.training = training


def _step(trainer: pl.Trainer, pl_module: Any, batch: Mapping[str, Tensor]) -> float:
    """The loss of a batch; leaves its gradients."""
    batch = trainer.strategy.batch_to_device(dict(batch))
    task = pl_module.task
    with trainer.precision_plugin.train_step_context():
        loss = task.loss.function(task.names(batch, pl_module.model(*task.arguments(batch))))
    loss.backward()
    return float(loss.detach())


def _batches(trainer: pl.Trainer) -> Iterator[Mapping[str, Tensor]]:
    """Train batches of a loader of its own, from its first epoch on, for ever."""
    loader = trainer.datamodule.data.loader("train")  # type: ignore[attr-defined]
    return chain.from_iterable(repeat(loader))


def _batch_of(trainer: pl.Trainer, size: int) -> dict[str, Tensor]:
    """The first samples of the train split as one batch, over again if there are fewer."""
    pieces, count = [], 0
    for batch in _batches(trainer):
        pieces.append(batch)
        count += len(next(iter(batch.values())))
        if count >= size:
            return {name: torch.cat([piece[name] for piece in pieces])[:size] for name in pieces[0]}
    raise AssertionError("there are train samples")


def _write(path: Folder, names: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
