"""Lets the hooks of a config work while Lightning trains: registers them at the batches at which they are due."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path as Folder
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from builder.errors import ConfigError, Fault
from builder.training.hooks.files import save
from builder.training.hooks.functions import HookPlace
from builder.training.hooks.gradients import change_all, changed
from builder.training.hooks.listen import Listener, named_tensors
from builder.training.hooks.plan import PlannedHook
from builder.training.hooks.statistics import STATISTICS, Histogram, histogram
from builder.training.loop_rule import without_outputs
from builder.training.norms import log


class Hooks(pl.Callback):
    """Does what planned hooks say. Between the steps at which one is due nothing is registered anywhere.

    What is recorded or saved of a step is that of its first micro-batch, in the first process; changes of gradients
    and functions of users are called for all of them. Nothing is kept from one step to the next, so that a run that
    is resumed goes on as one that wasn't stopped.
    """

    def __init__(self, hooks: Sequence[PlannedHook], seed: int, run_dir: Folder) -> None:
        super().__init__()
        self.hooks, self.seed, self.run_dir = tuple(hooks), seed, run_dir
        self._listener = Listener()
        self._step: int | None = None
        self._batch = 0
        self._values: dict[str, float | Tensor] = {}
        self._histograms: dict[str, Histogram] = {}
        self._files: dict[str, dict[str, Tensor]] = {}
        self._before: dict[str, Tensor] = {}
        self._printed = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """See that hooks work with what the trainer was made of, and find the modules and parameters.

        Raises:
            ConfigError: the strategy takes parameters apart, or the model was compiled.
        """
        faults = list(_hindered(self.hooks, trainer, pl_module.model))
        if faults:
            raise ConfigError(*faults)
        self._modules = dict(pl_module.model.named_modules(remove_duplicate=False))
        self._parameters = dict(pl_module.model.named_parameters(remove_duplicate=False))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Register what is due at this step; what listens, for the first micro-batch only."""
        step = trainer.global_step
        first = step != self._step
        if first:
            self._clear()
            if self._printed and not any(hook.is_due(step) for hook in self.hooks):
                return
        self._step, self._batch = step, 0 if first else self._batch + 1
        for hook in self.hooks:
            if hook.about_modules:
                self._register(hook, trainer, first)
            elif hook.rule.of == "updates" and first and trainer.is_global_zero and hook.is_due(step):
                self._before |= {name: self._parameters[name].detach().clone() for name in hook.names}

    def _register(self, hook: PlannedHook, trainer: pl.Trainer, first: bool) -> None:
        assert self._step is not None
        rule = hook.rule
        once = rule.action in ("record", "save", "print")
        if once and not (first and trainer.is_global_zero):
            return
        if rule.action == "print":
            if not self._printed:
                self._each(hook, self._listener.shapes, _print_shapes)
            return
        if not hook.is_due(self._step):
            return
        if rule.action == "record":
            listen = self._listener.tensors if rule.of == "activations" else self._listener.gradients
            self._each(hook, listen, partial(self._record, rule.of, rule.value, _scale(trainer, rule.of)))
        elif rule.action == "save":
            listen = self._listener.tensors if rule.of == "activations" else self._listener.gradients
            self._each(
                hook, listen, partial(self._keep, self._files.setdefault(rule.name, {}), _scale(trainer, rule.of))
            )
        elif rule.action == "type" and rule.of == "activations":
            self._each(hook, self._listener.outputs, partial(self._call, hook, trainer))
        elif rule.action == "type":
            self._each(hook, self._listener.gradients, lambda name, _, value: self._call(hook, trainer, name, value))
        else:
            self._each(hook, self._listener.gradients, partial(self._changed, hook, trainer.global_rank))

    def _each(self, hook: PlannedHook, listen: Any, heard: Any) -> None:
        for name in hook.names:
            listen(name, self._modules[name], heard)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Record and change the gradients of parameters, in the order of the hooks."""
        for hook in self.hooks:
            if hook.rule.of != "weight_gradients" or self._step is None or not hook.is_due(self._step):
                continue
            held = {name: self._parameters[name] for name in hook.names}
            if hook.rule.action == "record":
                self._record_all(hook, trainer, {name: each.grad for name, each in held.items()})
            elif hook.rule.action == "type":
                self._call_all(hook, trainer, held)
            else:
                change_all(hook.rule, held, self.seed, self._step)

    @without_outputs
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:  # fmt: skip
        """Take the hooks away; if the optimiser has stepped, log what there is."""
        self._printed = True
        if self._step is None:
            return
        self._listener.stop()
        if trainer.global_step == self._step:
            return
        for hook in self.hooks:
            if hook.rule.of in ("weights", "updates") and hook.is_due(self._step):
                self._record_all(hook, trainer, self._moved(hook))
        self._write(trainer)
        self._clear()

    def _moved(self, hook: PlannedHook) -> Mapping[str, Tensor | None]:
        held = {name: self._parameters[name].detach() for name in hook.names}
        if hook.rule.of == "weights":
            return held
        return {name: value - self._before[name] for name, value in held.items() if name in self._before}

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Leave the model as it was."""
        self._listener.stop()
        self._clear()

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Leave the model as it was, and let go of it."""
        self._listener.stop()
        self._clear()
        self._modules, self._parameters = {}, {}

    def _clear(self) -> None:
        self._values, self._histograms, self._before, self._step = {}, {}, {}, None
        self._files = {}

    def _record(self, of: str, statistics: Sequence[str], scale: float, name: str, index: int, tensor: Tensor) -> None:
        key = f"{of}/{name or 'model'}" + (f"#{index + 1}" if index else "")
        tensor = tensor.detach()
        if tensor.is_sparse:
            tensor = tensor.to_dense()
        tensor = tensor if scale == 1.0 else tensor / scale
        for statistic in statistics:
            if statistic in STATISTICS:
                self._values[f"{key}/{statistic}"] = STATISTICS[statistic](tensor)
            elif (found := histogram(tensor)) is not None:
                self._histograms[key] = found

    def _record_all(self, hook: PlannedHook, trainer: pl.Trainer, tensors: Mapping[str, Tensor | None]) -> None:
        for name, tensor in tensors.items() if trainer.is_global_zero else ():
            if tensor is not None:
                self._record(hook.rule.of, hook.rule.value, 1.0, name, 0, tensor)

    def _keep(self, file: dict[str, Tensor], scale: float, name: str, index: int, tensor: Tensor) -> None:
        key = f"{name or 'model'}" + (f"#{index + 1}" if index else "")
        tensor = tensor.detach() if scale == 1.0 else tensor.detach() / scale
        file[key] = tensor.to("cpu", copy=True)  # what is changed in place later is as it was

    def _changed(self, hook: PlannedHook, rank: int, name: str, index: int, gradient: Tensor) -> Tensor:
        place = (self.seed, "hooks", hook.rule.name, self._step or 0, name, index, self._batch, rank)
        return changed(hook.rule, gradient, place)

    def _call(self, hook: PlannedHook, trainer: pl.Trainer, name: str, value: Any) -> Any:
        """Call a function of users."""
        assert self._step is not None and hook.rule.component is not None
        place = HookPlace(name, hook.rule.of, self._step, trainer.current_epoch, self._values.__setitem__)
        return hook.rule.component.target(value, place, **hook.rule.component.arguments)

    def _call_all(self, hook: PlannedHook, trainer: pl.Trainer, parameters: Mapping[str, nn.Parameter]) -> None:
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                other = self._call(hook, trainer, name, parameter.grad)
                if other is not None:
                    parameter.grad.copy_(other)

    def _write(self, trainer: pl.Trainer) -> None:
        """Give the loggers what was found in the step, and write the files of it."""
        assert self._step is not None
        log(trainer, _numbers(self._values), self._step)
        for logger in trainer.loggers if self._histograms else ():
            if isinstance(logger, TensorBoardLogger):
                for name, found in self._histograms.items():
                    _write_histogram(logger.experiment, name, found, self._step)
        rules = {hook.rule.name: hook.rule for hook in self.hooks}
        for name, tensors in self._files.items():
            if tensors:
                save(self.run_dir, rules[name], self._step, tensors)


def _hindered(hooks: Sequence[PlannedHook], trainer: pl.Trainer, model: nn.Module) -> list[Fault]:
    faults = []
    for hook in hooks:
        place = (hook.rule.path, hook.rule.origin)
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            name, expected = type(trainer.strategy).__name__, "trainer.strategy: ddp, or one device"
            faults.append(
                Fault(f"hooks can't work under {name}, which takes the model apart", *place, expected=expected)
            )
        elif hook.about_modules and getattr(model, "_compiled_call_impl", None) is not None:
            faults.append(Fault(f"{hook.rule.of} can't be had of a model that is compiled as a whole", *place))
    return faults


def _scale(trainer: pl.Trainer, of: str) -> float:
    """What the loss was multiplied by, in 16-bit precision."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return float(scaler.get_scale()) if scaler is not None and of == "gradients" else 1.0


def _numbers(values: Mapping[str, float | Tensor]) -> dict[str, float]:
    """Values as numbers; those of one dtype and device are fetched together."""
    kinds: dict[tuple[torch.dtype, torch.device], dict[str, Tensor]] = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            kinds.setdefault((value.dtype, value.device), {})[name] = value.detach().reshape(())
    fetched: dict[str, float] = {}
    for tensors in kinds.values():
        fetched.update(zip(tensors, torch.stack(list(tensors.values())).tolist(), strict=True))
    return {name: float(fetched[name] if name in fetched else value) for name, value in values.items()}


def _write_histogram(writer: Any, name: str, found: Histogram, step: int) -> None:
    counts, edges = found.counts.tolist(), found.edges
    writer.add_histogram_raw(
        name, min=found.least, max=found.largest, num=int(sum(counts)), sum=found.sum,
        sum_squares=found.sum_of_squares, bucket_limits=edges[1:], bucket_counts=counts, global_step=step,
    )  # fmt: skip


def _print_shapes(name: str, given: Any, output: Any) -> None:
    ins, outs = (
        ", ".join(str(list(tensor.shape)) for _, tensor in named_tensors(value, "")) for value in (given, output)
    )
    print(f"{name or 'model'}: {ins} → {outs}", file=sys.stderr)
