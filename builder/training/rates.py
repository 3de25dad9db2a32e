"""Learning rates in the logs: one curve for each group of the optimiser."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class GroupRates(Callback):
    """Logs `lr/GROUP` of each group, or `lr` of a single one, as all loggers take metrics.

    The rates are those with which the step is made: they are read before it. They are logged with the losses of steps,
    every `log_every_n_steps`, and with the last step of each epoch and of all.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look up what every step has to know; an epoch that is resumed in its midst doesn't start."""
        self._look(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look it up again: the data may have been loaded anew."""
        self._look(trainer)

    def _look(self, trainer: pl.Trainer) -> None:
        self._every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        self._batches, self._most = trainer.num_training_batches, trainer.max_steps

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log the rates of this step, if it is one that is logged."""
        done = batch_idx + 1
        logged = self._every and not done % self._every
        if logged or done == self._batches or (self._most >= 0 and trainer.global_step + 1 == self._most):
            self._log(trainer)

    def _log(self, trainer: pl.Trainer) -> None:
        rates = group_rates(trainer)
        for logger in trainer.loggers if rates else ():
            logger.log_metrics({**rates, "epoch": trainer.current_epoch}, step=trainer.global_step)


def group_rates(trainer: pl.Trainer) -> dict[str, float]:
    """The rates of all groups now, by the names under which they are logged."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups if "lr" in group]
    if len(groups) == 1:
        return {"lr": float(groups[0]["lr"])}
    return {f"lr/{group.get('name', index)}": float(group["lr"]) for index, group in enumerate(groups)}
