"""The steps of the trimmed epoch loop. Private parts of Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from pytorch_lightning.loops.optimization.automatic import Closure, ClosureResult
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.trainer import call
from pytorch_lightning.utilities.combined_loader import CombinedLoader, _MaxSizeCycle
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from builder.training.loop_rule import STEP_HOOKS, listeners, takes_outputs
from builder.training.unwrapped import Unwrapped


class Steps:
    """The steps of one epoch; what they need is looked up once."""

    def __init__(self, loop: _TrainingEpochLoop, fetcher: Any) -> None:
        trainer: Any = loop.trainer
        self.loop, self.fetcher, self.trainer = loop, fetcher, trainer
        self.cycle = _single(fetcher.iterator)
        self.module = trainer.lightning_module
        self.state = vars(self.module)  # an assignment to a module's attribute takes its time
        self.optimizer = trainer.optimizers[0]
        self.unwrapped = Unwrapped(self.optimizer)
        self.results, self.connector = loop._results, trainer._logger_connector
        self.hooks = {hook: listeners(trainer, hook) for hook in STEP_HOOKS}
        self.outputs_taken = any(map(takes_outputs, self.hooks["on_train_batch_end"]))
        self.batches, self.device = trainer.num_training_batches, trainer.strategy.root_device
        self.schedules = [each for each in trainer.lr_scheduler_configs if each.interval == "step"]
        self.plateau = any(each.reduce_on_plateau for each in self.schedules)
        self.validates = loop._should_check_val_epoch()
        self.precision = trainer.precision_plugin
        self.converts = type(self.precision).convert_input is not Precision.convert_input
        plain = type(self.precision).forward_context is Precision.forward_context
        self.context = nullcontext if plain else self.precision.train_step_context
        self.direct = _is_direct(self.precision)
        self.batch: Any = None
        self.index = 0
        self.around: str | None = None
        self.loss: Tensor | None = None
        self.extra: Mapping[str, Any] = {}

    def take(self) -> None:
        """Take steps until the loop has to look whether it is done.

        Raises:
            StopIteration: there is no further batch.
        """
        loop, trainer = self.loop, self.trainer
        progress, steps = loop.batch_progress, loop.automatic_optimization.optim_progress.optimizer.step.total
        loop.val_loop.restarting = False
        while True:
            self._advance()
            self._end()
            if trainer.should_stop or progress.is_last_batch or progress.current.ready == self.batches:
                return
            if 0 <= loop.max_steps <= steps.completed:
                return

    def _advance(self) -> None:
        """`_TrainingEpochLoop.advance`."""
        loop, progress, results = self.loop, self.loop.batch_progress, self.results
        batch = self._fetched()
        progress.is_last_batch = self.fetcher.done
        self.batch = batch = self._placed(batch)
        self.index = index = progress.current.ready
        progress.increment_ready()
        self.connector._first_loop_iter = self.connector._first_loop_iter is None
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None
        self._call("on_train_batch_start", batch, index)
        progress.increment_started()
        output = self._optimise()
        progress.increment_processed()
        if self.schedules:
            loop.update_lr_schedulers("step", update_plateau_schedulers=False)
        if loop._num_ready_batches_reached():
            loop.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        self._call("on_train_batch_end", output, batch, index)
        logged = self._logged()
        if logged:
            self.connector.on_batch_end()
        results.batch, results.batch_size = None, None
        progress.increment_completed()
        if logged:
            self.connector.update_train_step_metrics()

    def _fetched(self) -> Any:
        """The next batch; of a single loader without the walks through a collection of loaders."""
        fetcher, cycle = self.fetcher, self.cycle
        if cycle is None:
            return next(fetcher)[0]
        try:
            batch = next(cycle.iterators[0])
        except StopIteration:
            cycle._consumed[0] = fetcher.done = True
            raise
        cycle._idx += 1
        fetcher.fetched += 1
        fetcher.done = fetcher.fetched >= fetcher.length
        return batch

    def _logged(self) -> bool:
        """Whether anything was logged in this epoch; what was in others is still there, but reset."""
        for value in self.results.values():
            if not value.has_reset:
                return True
        return False

    def _end(self) -> None:
        """`_TrainingEpochLoop.on_advance_end`, which is called itself where there may be something to do."""
        loop = self.loop
        if self.plateau or (self.validates and self._may_validate()):
            loop.on_advance_end(self.fetcher)
            return
        if not self._accumulates():
            loop._batches_that_stepped += 1
        if self.trainer.should_stop:
            loop._save_loggers_on_train_batch_end()
        if self.trainer.received_sigterm and not loop._is_training_done:
            raise SIGTERMException

    def _may_validate(self) -> bool:
        """Whether validation may be due after this batch."""
        trainer, progress = self.trainer, self.loop.batch_progress
        every = trainer.val_check_batch
        if trainer.should_stop or not isinstance(every, int):
            return True
        counted = progress.total if trainer.check_val_every_n_epoch is None else progress.current
        return counted.ready % every == 0

    def _placed(self, batch: Any) -> Any:
        """The batch as the model takes it, on its device."""
        if self.converts:
            batch = self.precision.convert_input(batch)
        if type(batch) is dict:
            for value in batch.values():
                if not isinstance(value, Tensor) or value.device != self.device:
                    break
            else:
                return batch
        return self.trainer.strategy.batch_to_device(batch, dataloader_idx=0)

    def _accumulates(self) -> bool:
        """Whether gradients of this batch are only added to those of others."""
        progress = self.loop.batch_progress
        ready, every = progress.current.ready, self.trainer.accumulate_grad_batches
        return ready % every != 0 and not progress.is_last_batch and ready != self.batches

    def _optimise(self) -> dict[str, Any]:
        """`_AutomaticOptimization.run`: what the hooks at the end of the step get."""
        if self._accumulates():
            self.around = None
            self._closure()
        else:
            step = self.loop.automatic_optimization.optim_progress.optimizer.step
            step.increment_ready()
            self.around = self.state["_current_fx_name"] = "optimizer_step"
            if self.direct:
                self.unwrapped.step(self._step_closure)
            else:
                self.precision.optimizer_step(self.optimizer, model=self.module, closure=self._closure)
            step.increment_completed()
        self.state["_current_fx_name"] = None
        if not self.outputs_taken or self.loss is None:
            return {}
        return {"loss": self.loss.clone(), **self.extra}

    def _closure(self) -> Tensor | None:
        """Forward and backward, as `Closure` has them; it may be called several times a step."""
        if torch.is_grad_enabled():  # PyTorch's optimisers see to it themselves
            return self._forward_backward()
        with torch.enable_grad():
            return self._forward_backward()

    def _forward_backward(self) -> Tensor | None:
        state = self.state
        state["_current_fx_name"] = "training_step"
        with self.context():
            output = self.module.training_step(self.batch, self.index)
        state["_current_fx_name"] = self.around
        loss = self._loss(output)
        if self.index % self.trainer.accumulate_grad_batches == 0:
            self._zero_grad()
        if loss is not None and self.direct:
            self._call("on_before_backward", loss)
            state["_current_fx_name"] = "backward"
            loss.backward()
            state["_current_fx_name"] = self.around
            self._call("on_after_backward")
        elif loss is not None:
            call._call_strategy_hook(self.trainer, "backward", loss, self.optimizer)
        return self.loss

    def _step_closure(self) -> Tensor | None:
        """`Precision._wrap_closure`: what precedes the optimiser's own work."""
        loss = self._closure()
        self._call("on_before_optimizer_step", self.optimizer)
        clip = self.trainer.gradient_clip_val
        if clip:
            algorithm = self.trainer.gradient_clip_algorithm
            self.module.clip_gradients(self.optimizer, gradient_clip_val=clip, gradient_clip_algorithm=algorithm)
        return loss

    def _loss(self, output: Any) -> Tensor | None:
        """The loss to go back from, of what a step gave."""
        normalize = self.trainer.accumulate_grad_batches
        if type(output) is Tensor and normalize == 1:
            self.loss, self.extra = output.detach(), {}
            return output
        result = ClosureResult.from_training_step_output(output, normalize)
        self.loss, self.extra = result.loss, result.extra
        if result.closure_loss is None:
            Closure.warning_cache.warn(
                "`training_step` returned `None`. If this was on purpose, ignore this warning..."
            )
        return result.closure_loss

    def _zero_grad(self) -> None:
        progress = self.loop.automatic_optimization.optim_progress.optimizer.zero_grad
        progress.increment_ready()
        self._call("on_before_zero_grad", self.optimizer)
        progress.increment_started()
        self.unwrapped.zero_grad()
        progress.increment_completed()

    def _call(self, name: str, *arguments: Any) -> None:
        """Call those who listen to a hook; `self.log` looks up in which one it is."""
        if hooks := self.hooks[name]:
            state = self.state
            before, state["_current_fx_name"] = state["_current_fx_name"], name
            for hook in hooks:
                hook(*arguments)
            state["_current_fx_name"] = before


def _single(loader: CombinedLoader) -> _MaxSizeCycle | None:
    """The iterator over a single loader that isn't in a collection; None if it is another."""
    cycle = loader._iterator
    alone = loader.iterables is loader.flattened[0]
    return cycle if type(cycle) is _MaxSizeCycle and len(cycle.iterators) == 1 and alone else None


def _is_direct(precision: Any) -> bool:
    """Whether a plugin does nothing but what is done here: 32-true, and bf16-mixed, which needs no scaling."""
    own = type(precision)
    if own is MixedPrecision:
        return bool(precision.scaler is None)
    steps = ("pre_backward", "backward", "post_backward", "optimizer_step", "_wrap_closure", "_after_closure")
    clips = ("_clip_gradients", "clip_gradients")
    return all(getattr(own, name) is getattr(Precision, name) for name in (*steps, *clips))
