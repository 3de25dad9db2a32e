"""Averages of the weights over training, which are validated, kept and tested in place of the weights themselves."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import callbacks
from pytorch_lightning.trainer.states import TrainerFn

from builder.training.loop_rule import without_outputs


class _Averaging(callbacks.WeightAveraging):
    """Lightning's, but for two things: until the first average there is none, and a test takes the average."""

    def _begun(self) -> bool:
        return self._average_model is not None and bool(self._average_model.n_averaged)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the average."""
        if trainer.state.fn == TrainerFn.FITTING and self._begun():
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the weights."""
        if trainer.state.fn == TrainerFn.FITTING and self._begun():
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the model."""
        if self._begun():
            super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average where the weights stand, and the weights beside it."""
        if self._begun():
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take both apart again, to go on training; for a test the average stays in the model."""
        if trainer.state.fn == TrainerFn.FITTING and "averaging_state" in checkpoint:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class EMAWeightAveraging(_Averaging, callbacks.EMAWeightAveraging):
    """An exponential moving average of the weights: `decay` is the share of the past in it.

    Taken every `update_every_n_steps` optimiser steps, from `update_starting_at_step` on; `use_buffers` averages the
    statistics of normalisation too. It is what is validated, kept in checkpoints and tested.
    """

    def __init__(
        self,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
        use_buffers: bool = True,
    ) -> None:
        if not 0 <= decay < 1 or update_every_n_steps < 1:
            raise ValueError("decay has to be from 0 to below 1, and update_every_n_steps 1 or more")
        super().__init__(
            decay=decay,
            update_every_n_steps=update_every_n_steps,
            update_starting_at_step=update_starting_at_step,
            use_buffers=use_buffers,
        )


class MeanWeightAveraging(_Averaging):
    """The mean of the weights at the ends of the last epochs (Izmailov et al. 2018, arXiv:1803.05407).

    `start` is the share of the epochs after which it begins. It is what is validated, kept in checkpoints and tested.
    The learning rate is left to the scheduler: one that stays high to the end suits it. `use_buffers` averages the
    statistics of normalisation too, in place of another pass over the data.

    Lightning's StochasticWeightAveraging makes that pass, and its average reaches no checkpoint, so that it isn't
    what a test of the best one sees.
    """

    def __init__(self, start: float = 0.75, use_buffers: bool = True) -> None:
        super().__init__(use_buffers=use_buffers)
        if not 0 <= start < 1:
            raise ValueError("start has to be from 0 to below 1")
        self.start = start

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See that there is a last epoch."""
        if not trainer.max_epochs or trainer.max_epochs < 0:
            raise ValueError("MeanWeightAveraging needs trainer.max_epochs")

    @without_outputs
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the weights into the mean at the end of an epoch, before it is validated."""
        assert trainer.max_epochs is not None and self._average_model is not None
        if trainer.is_last_batch and trainer.current_epoch >= int(self.start * trainer.max_epochs):
            self._average_model.update_parameters(pl_module)
