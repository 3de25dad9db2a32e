"""Lets every step of training and validation draw from generators that its place alone decides."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from builder.seeding import reseed, reseed_step


class Randomness(Callback):
    """Seeds all generators before each epoch, and before each batch, by (seed, phase, epoch, batch, rank).

    No generator's state is ever saved: a run that goes on at batch b draws what it would have drawn there. It comes
    before all other callbacks but the one that saves positions, so that what they draw follows from the place too.

    A loop that doesn't call callbacks' hooks has to call `reseed_step` where `on_train_batch_start` does.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed for what is drawn before the first batch."""
        reseed(self.seed, "train", trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed for the batch, and for all that comes after it up to the next one."""
        reseed_step(self.seed, "train", trainer.current_epoch, batch_idx, trainer.global_rank)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed for what is drawn before the first batch."""
        reseed(self.seed, "val", trainer.current_epoch)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Seed for the batch."""
        reseed_step(self.seed, "val", trainer.current_epoch, batch_idx, trainer.global_rank)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed for what is drawn before the first batch."""
        reseed(self.seed, "test", trainer.current_epoch)

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Seed for the batch."""
        reseed_step(self.seed, "test", trainer.current_epoch, batch_idx, trainer.global_rank)
