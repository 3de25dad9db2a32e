"""The LightningModule around a model: batch → model → loss, and the metrics of each phase."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer

from builder.training.base_rates import first_rates
from builder.training.finite import is_guarded, refuse_loss
from builder.training.phase import Phase
from builder.training.sharding import Sharding
from builder.training.task import Task


class Schedule(Protocol):
    """A scheduler, when it steps, and the metric that it watches."""

    @property
    def scheduler(self) -> Any:
        """The scheduler itself."""

    @property
    def interval(self) -> str:
        """`epoch` or `step`."""

    @property
    def frequency(self) -> int:
        """After how many of them it steps."""

    @property
    def monitor(self) -> str | None:
        """The metric's name, for a plateau."""


MakeOptimizer = Callable[[nn.Module], Optimizer]
"""The optimiser for a model, once it is on its device."""
MakeSchedule = Callable[[Optimizer, Mapping[str, int]], Schedule | None]
"""The scheduler for an optimiser; the numbers are `total_steps`, `steps_per_epoch`, `max_epochs`, where known."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is trained: task, optimiser, scheduler, seed, and after how many steps one is logged (0: none)."""

    task: Task
    optimizer: MakeOptimizer
    scheduler: MakeSchedule | None
    seed: int
    log_every_n_steps: int = 50
    sharding: Sharding | None = None


class TrainingModule(pl.LightningModule):
    """Trains `model`, which is called with the batch's tensors by position as the task says.

    A step does no more than forward, loss, and noting tensors; loss and metrics are computed at the end of an epoch.
    What the generators draw in it is a function of its place: see `reseed_step`, which `Places` calls.
    """

    def __init__(self, model: nn.Module, plan: Plan) -> None:
        super().__init__()
        self.model = model
        self.criterion = plan.task.loss.module  # registered, so that its tensors move to the device
        self.plan, self.task = plan, plan.task
        self._loss = plan.task.loss.function
        self.keeps_not_finite = False
        self._every_loss = False
        self._looked_at_later = False
        self.unseen_losses: list[Tensor] = []
        self.first_rates: dict[str, float] = {}
        self._phases = {name: Phase(name, plan.task) for name in ("train", "val", "test")}

    def forward(self, *args: Any) -> Any:
        """The model's output."""
        return self.model(*args)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch.

        Raises:
            NotFinite: it isn't finite. A look makes a GPU wait: there `FiniteGradients` looks at it with the gradients.
        """
        loss = self._step(self._phases["train"], batch)
        every = self.plan.log_every_n_steps
        logged = every and not (batch_idx + 1) % every
        if logged or self._every_loss:
            value = loss.item()
            if not math.isfinite(value) and not is_guarded(self.trainer):
                refuse_loss(self, batch, batch_idx)
            if logged:
                self._log_step(value)
        elif self._looked_at_later:
            self.unseen_losses.append(loss.detach())
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Note the loss and the metrics of one batch."""
        self._step(self._phases["val"], batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Note the loss and the metrics of one batch."""
        self._step(self._phases["test"], batch)

    def _step(self, phase: Phase, batch: dict[str, Tensor]) -> Tensor:
        task = self.task
        values = task.names(batch, self.model(*task.arguments(batch)))
        loss = self._loss(values)
        phase.add(loss, values, len(next(iter(batch.values()))))
        return loss

    def _log_step(self, value: float) -> None:
        step = self.trainer.global_step
        for logger in self.trainer.loggers:
            logger.log_metrics({"train/loss_step": value, "epoch": self.current_epoch}, step=step)

    def on_train_start(self) -> None:
        """See where each loss is looked at: here, if a look takes nothing, or later, or nowhere."""
        self._every_loss = self.device.type == "cpu"
        self._looked_at_later = not self._every_loss and not is_guarded(self.trainer)

    def on_train_epoch_start(self) -> None:
        """Begin to gather."""
        self._begin("train")

    def on_validation_epoch_start(self) -> None:
        """Begin to gather."""
        self._begin("val")

    def on_test_epoch_start(self) -> None:
        """Begin to gather."""
        self._begin("test")

    def _begin(self, name: str) -> None:
        self._phases[name].to(self.device)
        self._phases[name].reset()

    def gathered(self) -> dict[str, Any]:
        """What the epoch of training gathered so far, for a checkpoint."""
        return self._phases["train"].state()

    def load_gathered(self, state: Mapping[str, Any]) -> None:
        """Go on in the epoch whose state that is."""
        self._phases["train"].to(self.device)
        self._phases["train"].load_state(state)

    def on_train_epoch_end(self) -> None:
        """Report the epoch's loss and metrics."""
        self._end("train")

    def on_validation_epoch_end(self) -> None:
        """Report the epoch's loss and metrics."""
        self._end("val")

    def on_test_epoch_end(self) -> None:
        """Report the epoch's loss and metrics."""
        self._end("test")

    def _end(self, name: str) -> None:
        self.log_dict(self._phases[name].compute())
        self._phases[name].reset()

    def configure_optimizers(self) -> Any:
        """The optimiser, and the scheduler if there is one, as Lightning takes them."""
        optimizer = self.plan.optimizer(self.model)
        schedule = self.plan.scheduler(optimizer, self._steps()) if self.plan.scheduler else None
        self.first_rates = first_rates(optimizer)
        if schedule is None:
            return optimizer
        config = {"scheduler": schedule.scheduler, "interval": schedule.interval, "frequency": schedule.frequency}
        if schedule.monitor is not None:
            config["monitor"] = schedule.monitor
        return {"optimizer": optimizer, "lr_scheduler": config}

    def _steps(self) -> dict[str, int]:
        """The numbers that a scheduler's formulas may use; those that aren't known are left out."""
        total, epochs = self.trainer.estimated_stepping_batches, self.trainer.max_epochs
        steps: dict[str, int] = {}
        if total != float("inf"):
            steps["total_steps"] = int(total)
        if epochs is not None and epochs > 0:
            steps["max_epochs"] = epochs
            if "total_steps" in steps and self.trainer.max_steps == -1:
                steps["steps_per_epoch"] = -(-steps["total_steps"] // epochs)
        return steps


class ShardedModule(TrainingModule):
    """One whose model is sharded over several devices before it trains."""

    def configure_model(self) -> None:
        """Shard the model, the first time that Lightning asks."""
        sharding = self.plan.sharding
        if sharding is not None and next(self.model.parameters()).is_meta:
            assert self.device_mesh is not None, "the strategy makes it before"
            sharding.shard(self.model, self.device_mesh["data_parallel"], self.device)
