"""Freezes and thaws a model while Lightning trains it."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import StochasticWeightAveraging
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn

from builder.errors import ConfigError, Fault
from builder.weights.freeze_plan import Freezer, FrozenPlan

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Freezing(pl.Callback):
    """Applies a plan to the model inside the LightningModule, as the trainer's epoch and optimiser step say.

    Nothing is saved: after a resume the epoch and step are those of the checkpoint, and so is what is frozen. Steps
    are told apart at the first micro-batch of each, so that a thawed parameter's first gradient is that of whole steps.
    """

    def __init__(self, plan: FrozenPlan) -> None:
        self.plan = plan
        self._freezer: Freezer | None = None
        self._next_step: int | None = None
        self._validated = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Freeze what is frozen at the start, before the model is wrapped for several processes.

        Raises:
            ConfigError: the plan can't be held to with this strategy, or with another callback.
        """
        if stage != "fit":
            return
        faults = [*_unsupported(self.plan, trainer), *_averaged(self.plan, trainer, pl_module)]
        if faults:
            raise ConfigError(*faults)
        self._freezer = Freezer(self.plan, _model(pl_module))
        self._freezer.freeze(0, 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Freeze what is frozen where training begins or goes on, which may be within an epoch."""
        assert self._freezer is not None
        wrapped, self._freezer = (
            self._freezer.frozen,
            Freezer(self.plan, _model(pl_module)),
        )  # modules may be others now
        self._freezer.frozen = wrapped
        self._freezer.remember_modes()
        self._apply(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Thaw what thaws at this epoch, and put the modes right, whoever changed them."""
        self._apply(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning puts the modes back after this hook; they are looked at again at the next batch."""
        self._validated = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Thaw what thaws at this step."""
        if self._validated or (self._next_step is not None and trainer.global_step >= self._next_step):
            self._apply(trainer)

    def _apply(self, trainer: pl.Trainer) -> None:
        assert self._freezer is not None
        step = trainer.global_step
        if self._freezer.apply(trainer.current_epoch, step):
            _wrap_again(trainer)
        self._next_step, self._validated = self.plan.next_step(step), False

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the model."""
        self._freezer = None


def _model(pl_module: pl.LightningModule) -> nn.Module:
    """The model that the plan is about."""
    model = pl_module.model
    assert isinstance(model, nn.Module)
    return model


def _wrap_again(trainer: pl.Trainer) -> None:
    """Wrap the model for several processes anew: DDP only averages gradients of what trained when it was wrapped.

    The alternative is to wrap with all that ever trains and to look for unused parameters in each step. That sends the
    frozen ones' zeros around, costs a walk of the graph a step, and can't be had with a static graph.
    """
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy):
        strategy.model = trainer.lightning_module
        gc.collect()  # hooks of the old wrapper go with it
        strategy.configure_ddp()


def _unsupported(plan: FrozenPlan, trainer: pl.Trainer) -> list[Fault]:
    """The fault of a schedule under a strategy that can't train a parameter that was frozen when it was set up."""
    strategy = trainer.strategy
    if isinstance(strategy, SingleDeviceStrategy | DDPStrategy) or not plan.ends:
        return []
    rule = next(rule for rule in plan.rules if rule.until is not None)
    name = type(strategy).__name__
    message, expected = f"nothing can thaw under {name}", "trainer.strategy: ddp, or one device"
    return [Fault(message, (*rule.path, "until"), rule.origin, expected=expected)]


def _averaged(plan: FrozenPlan, trainer: pl.Trainer, pl_module: pl.LightningModule) -> list[Fault]:
    """The fault of a callback that in the end measures the statistics of all BatchNorm layers anew, frozen or not."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    if not any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
        return []
    modules = dict(_model(pl_module).named_modules())
    for rule in plan.rules:
        held = [modules[name] for name in rule.modules if rule.holds(trainer.max_epochs or sys.maxsize, sys.maxsize)]
        if any(isinstance(module, BATCH_NORM) for module in held):
            message = "StochasticWeightAveraging would replace the statistics of these frozen BatchNorm layers"
            hint = "EMAWeightAveraging leaves them as they are; or freeze with mode: train"
            return [Fault(message, rule.path, rule.origin, rule.select, hint=hint)]
    return []
