"""Trains a model under Lightning's Trainer, tests it, and says how it went."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from builder.config.origin import Origins
from builder.errors import ConfigError, Fault
from builder.training.exact import find
from builder.training.fingerprint import Context, begin
from builder.training.finite import FiniteGradients
from builder.training.loggers import rewind
from builder.training.module import MakeOptimizer, MakeSchedule, Plan, ShardedModule, TrainingModule
from builder.training.positions import Position
from builder.training.quiet import quiet_lightning
from builder.training.randomness import Randomness
from builder.training.ranks import ranks
from builder.training.sharding import Sharding
from builder.training.signals import Stop, Stopped
from builder.training.task import PHASES, Task
from builder.training.trainer import make_trainer, read_trainer


@dataclass(frozen=True, slots=True)
class FitResult:
    """How training ended.

    `state` is finished or interrupted, and `reason` says by what; `epoch` and `step` count what is done. `metrics` are
    the last values of train and val, and those of the test, which is made with the best weights (with the last ones
    where no best checkpoint was kept). `seconds` is wall time, test included.
    """

    state: Literal["finished", "interrupted"]
    reason: str | None
    epoch: int
    step: int
    metrics: Mapping[str, float]
    best_checkpoint: Path | None
    last_checkpoint: Path | None
    seconds: float


def fit(
    model: nn.Module,
    task: Task,
    data: pl.LightningDataModule,
    *,
    optimizer: MakeOptimizer,
    scheduler: MakeSchedule | None = None,
    config: Mapping[str, Any],
    origins: Origins,
    run_dir: Path,
    seed: int,
    quiet: bool = False,
    on_position: Callable[[int, int], None] | None = None,
    callbacks: Sequence[pl.Callback] = (),
    context: Context | None = None,
    position: Position | None = None,
    on_lost: Callable[[str], object] | None = None,
    sharding: Sharding | None = None,
) -> FitResult:
    """Train `model` as the sections `trainer`, `callbacks` and `logger` of `config` say, then test it.

    `callbacks` are called before those of the config. Afterwards `model` holds the weights that were tested.
    `on_position(epoch, step)` is called with what is done when training ends, also when it ends with an exception;
    those of the model's layers pass through unchanged. `position` is where a run goes on, and `context` what has to be
    the same there; what an earlier attempt logged after it is cut off. `on_lost` is called with the reason, from
    another thread, where another process is lost and this one can't be told in any other way; it ends then.

    Raises:
        ConfigError: a section is wrong, or Lightning refuses what it says.
        RunError: the run can't go on there.
        SystemExit: the process was asked to end.
    """
    start = time.monotonic()
    parts = read_trainer(config, task, origins)
    stop = Stop()
    with quiet_lightning(), stop.listening():
        callbacks = [Randomness(seed), FiniteGradients(), *callbacks]
        trainer = make_trainer(parts, task, run_dir, origins, quiet=quiet, callbacks=callbacks)
        _begin(trainer, stop, context or Context(seed=seed), position)
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        plan = Plan(task, optimizer, scheduler, seed, every, sharding)
        module = TrainingModule(model, plan) if sharding is None else ShardedModule(model, plan)
        module.train()  # Lightning trains in whatever mode the modules are
        path = None if position is None else position.path
        try:
            with ranks(trainer, run_dir, on_lost) as others:
                signum = _run(partial(trainer.fit, module, datamodule=data, ckpt_path=path, weights_only=True), origins)
                metrics, (best, last) = _floats(trainer), _checkpoints(trainer)
                if signum is None and "test" in task.phases:
                    test = partial(trainer.test, module, data, best, verbose=False, weights_only=True)
                    signum = _run(test, origins)
                    metrics |= _floats(trainer)
                others.stopped = signum is not None
        finally:
            epoch, step = trainer.current_epoch, trainer.global_step
            if on_position is not None:
                on_position(epoch, step)
            _close(trainer)
    if signum not in (None, signal.SIGINT):
        raise SystemExit(128 + signum)
    state: Literal["finished", "interrupted"] = "finished" if signum is None else "interrupted"
    reason = None if signum is None else "Ctrl-C"
    return FitResult(state, reason, epoch, step, metrics, best, last, time.monotonic() - start)


def _begin(trainer: pl.Trainer, stop: Stop, context: Context, position: Position | None) -> None:
    """See that a run may begin, or go on, and cut off what was logged after the position.

    Raises:
        RunError: it can't go on there.
    """
    exact = find(trainer.callbacks)  # type: ignore[attr-defined]
    exact.stop, exact.context = stop, context
    begin(context, {} if position is None else position.state["fingerprint"], trainer)
    assert exact.metric_log is not None
    rewind(exact.metric_log, exact.loggers, None if position is None else position.state["logged"])


def _run(call: Callable[[], Any], origins: Origins) -> int | None:
    """Call into Lightning; the number of the signal if one ended it."""
    try:
        call()
    except Stopped as error:
        return error.signum
    except SystemExit as error:  # Lightning ends the process after Ctrl-C, where no handler of ours could be set
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        return signal.SIGINT
    except MisconfigurationException as error:
        place = ("trainer",)
        raise ConfigError(Fault(f"Lightning refuses to train: {error}", place, origins.of(place))) from error
    return None


def _close(trainer: pl.Trainer) -> None:
    for logger in trainer.loggers:
        if close := getattr(logger, "close", None):
            close()


def _floats(trainer: pl.Trainer) -> dict[str, float]:
    """The values of train, val and test; what callbacks log besides (learning rates, …) is in the logs only."""
    items = trainer.callback_metrics.items()
    return {name: float(value) for name, value in items if name.partition("/")[0] in PHASES}


def _checkpoints(trainer: pl.Trainer) -> tuple[Path | None, Path | None]:
    """The checkpoint that is best by a metric, and the latest one."""
    kept = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    best = [callback.best_model_path for callback in kept if callback.monitor is not None]
    exact = find(trainer.callbacks)  # type: ignore[attr-defined]
    last = [str(exact.last)] if exact.last is not None else []
    last += [callback.last_model_path for callback in kept]
    last += [callback.best_model_path for callback in kept if callback.monitor is None]
    return _first(best), _first(last)


def _first(paths: list[str]) -> Path | None:
    return next((Path(path) for path in paths if path), None)
