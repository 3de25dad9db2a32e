"""Tells somebody else of each epoch's metrics while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import pytorch_lightning as pl
from torch import nn

from builder.training.task import PHASES

OnEpoch = Callable[[int, Mapping[str, float]], object]


class Watch(pl.Callback):
    """Calls `on_epoch(epoch, metrics)` once an epoch is over, with the values of train and val that it gave.

    Epochs count from 0. That is when the next one begins, or training ends: then all values of it are known and its
    checkpoints are on disk. An exception of `on_epoch` ends training; after the last epoch it does as well.
    """

    def __init__(self, on_epoch: OnEpoch) -> None:
        super().__init__()
        self._on_epoch = on_epoch
        self.on_parameters: Callable[[int], object] | None = None
        self._over: int | None = None
        self._validated = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell how many parameters the model has."""
        if self.on_parameters is not None:
            model = cast(nn.Module, pl_module.model)
            self.on_parameters(sum(parameter.numel() for parameter in model.parameters()))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that the values of val are of this epoch."""
        self._validated = self._validated or not trainer.sanity_checking

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell of the epoch before this one, if it was trained here."""
        self._tell(trainer)
        self._over, self._validated = trainer.current_epoch, False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell of the last epoch."""
        self._tell(trainer)

    def _tell(self, trainer: pl.Trainer) -> None:
        if self._over is None:
            return
        over, self._over = self._over, None
        told = [phase for phase in PHASES if phase == "train" or (phase == "val" and self._validated)]
        items = trainer.callback_metrics.items()
        self._on_epoch(over, {name: float(value) for name, value in items if name.partition("/")[0] in told})
