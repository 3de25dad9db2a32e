"""When the trimmed epoch loop stands in for Lightning's own, and who listens to a step. Private parts of Lightning."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loops.fetchers import _PrefetchDataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.utilities.model_helpers import is_overridden
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch.optim import Optimizer

KNOWN = ("2.6.6",)
"""The versions of Lightning whose epoch loop the trimmed one was held against."""

STEP_HOOKS = (
    "on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_train_batch_end",
)  # fmt: skip
"""Hooks of a step, of callbacks and of the module; each is called where it is overridden."""
DATA_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
MODULE_HOOKS = (
    "backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping", "lr_scheduler_step",
    *DATA_HOOKS,
)  # fmt: skip
"""Hooks of the module that do a part of the step; where one is overridden, Lightning's own loop calls it."""

Hook = Callable[..., Any]
Method = TypeVar("Method", bound=Hook)


def without_outputs(hook: Method) -> Method:
    """Say of an `on_train_batch_end` that it doesn't look at the step's outputs: a copy is made for those that do."""
    hook.without_outputs = True  # type: ignore[attr-defined]
    return hook


def takes_outputs(hook: Hook) -> bool:
    """Whether one of the hooks that `listeners` finds may look at the step's outputs."""
    return not getattr(getattr(hook, "func", hook), "without_outputs", False)


def why_stock(loop: _TrainingEpochLoop, fetcher: Any) -> str | None:
    """Why this epoch needs Lightning's own loop; None if the trimmed one does the same.

    This is the whole rule, and it is looked at before each epoch.
    """
    trainer: Any = loop.trainer
    module: Any = trainer.lightning_module
    strategy: Any = trainer.strategy
    wrapped = strategy.model is not module
    if pl.__version__ not in KNOWN:
        return f"Lightning {pl.__version__} isn't known to it, only {', '.join(KNOWN)}"
    if type(strategy) is not SingleDeviceStrategy or wrapped:
        return f"{type(strategy).__name__}: it knows one device only"
    if type(trainer.profiler) is not PassThroughProfiler:
        return f"{type(trainer.profiler).__name__} times all that is called"
    if not module.automatic_optimization or loop.automatic_optimization._skip_backward:
        return "there is no automatic optimisation"
    if len(trainer.optimizers) != 1 or not isinstance(trainer.optimizers[0], Optimizer):
        return "there is not one optimiser"
    if type(fetcher) is not _PrefetchDataFetcher or fetcher.length is None:
        return "the number of batches isn't known"
    if not is_param_in_hook_signature(module.training_step, "batch_idx", min_args=2):
        return "training_step takes no batch_idx"
    for hook in MODULE_HOOKS:
        if is_overridden(hook, module):
            return f"{type(module).__name__} overrides {hook}"
    if is_overridden("on_train_batch_start", module):
        return f"{type(module).__name__} overrides on_train_batch_start, which may end the epoch"
    for hook in DATA_HOOKS if trainer.datamodule is not None else ():
        if is_overridden(hook, trainer.datamodule):
            return f"{type(trainer.datamodule).__name__} overrides {hook}"
    return None


def listeners(trainer: pl.Trainer, hook: str) -> tuple[Hook, ...]:
    """What overrides a hook of a step, in Lightning's order: callbacks as they stand, the module last."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if hook == "on_train_batch_end":
        callbacks = [callback for callback in callbacks if not _is_idle(callback)]
    base, bound = getattr(pl.Callback, hook), [getattr(callback, hook) for callback in callbacks]
    heard = [_with(trainer, each) for each in bound if getattr(each, "__func__", each) is not base]
    module = trainer.lightning_module
    return (*heard, getattr(module, hook)) if is_overridden(hook, module) else tuple(heard)


def _with(trainer: pl.Trainer, hook: Hook) -> Hook:
    """A callback's hook with what it gets first."""
    return partial(hook, trainer, trainer.lightning_module)


def _is_idle(callback: pl.Callback) -> bool:
    """Whether it is a checkpoint callback that does nothing at the end of a step."""
    return (
        isinstance(callback, ModelCheckpoint)
        and type(callback).on_train_batch_end is ModelCheckpoint.on_train_batch_end
        and callback._every_n_train_steps < 1
        and callback._train_time_interval is None
    )
