"""The `pytorch_lightning.Trainer` of the sections `trainer:`, `callbacks:` and `logger:`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as Folder
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.callbacks import ProgressBar as LightningBar
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from builder.catalog.arguments import check_arguments
from builder.catalog.component import Component
from builder.config.origin import Origins
from builder.config.trainer_arguments import OURS
from builder.errors import ConfigError, Fault, Path
from builder.precision import settled_precision
from builder.training.callbacks import make_callback, read_callbacks
from builder.training.checkpoint import CheckpointFile
from builder.training.compiled import Compile
from builder.training.exact import ExactResume
from builder.training.loggers import make_logger, read_loggers
from builder.training.loop import trim
from builder.training.metric_log import MetricLog
from builder.training.profile import profiler
from builder.training.progress import ProgressBar
from builder.training.quiet import quiet_lightning
from builder.training.sharding import NAME as SHARDED
from builder.training.sharding import strategy
from builder.training.sync_norm import SyncedNorms
from builder.training.task import Task

WITHHELD = ("callbacks", "logger", "plugins", "default_root_dir")
"""Arguments of the Trainer that don't come from `trainer:`."""


@dataclass(frozen=True, slots=True)
class TrainerParts:
    """What a Trainer is made of, read from the config and checked."""

    arguments: Mapping[str, Any]
    callbacks: list[Component]
    loggers: list[Component]
    compile: bool = False
    """Whether `trainer.compile` asks for it."""
    rank: int = 0
    """The number of this process among those that train together, as Lightning counts."""
    on_cpu: bool = False


def read_trainer(config: Mapping[str, Any], task: Task, origins: Origins) -> TrainerParts:
    """The parts that the sections `trainer`, `callbacks` and `logger` of `config` name.

    A Trainer is made of the arguments, to see that Lightning takes them on this machine.

    Raises:
        ConfigError: the sections are wrong; all faults at once.
    """
    path: Path = ("trainer",)
    arguments = settled(config.get("trainer") or {})
    faults = check_arguments(
        "trainer", "Trainer", pl.Trainer, arguments,
        path=path, origin_of=lambda key: origins.of((*path, key)), withheld=WITHHELD,
    )  # fmt: skip
    made, refused = (None, []) if faults else _tried(arguments, origins, path)
    faults += refused
    callbacks, more = read_callbacks(config.get("callbacks"), task.metric_names(), origins)
    faults += more
    loggers, more = read_loggers(config.get("logger"), origins)
    faults += more
    if faults:
        raise ConfigError(*faults)
    assert made is not None
    compiled = bool((config.get("trainer") or {}).get("compile"))
    return TrainerParts(arguments, callbacks, loggers, compiled, made.global_rank, _on_cpu(made))


def _on_cpu(trainer: pl.Trainer) -> bool:
    return isinstance(trainer.accelerator, CPUAccelerator)


def settled(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as Lightning takes them on this machine: without those of ours and with `auto` decided."""
    found = {key: value for key, value in arguments.items() if key not in OURS}
    if "precision" in found:
        found["precision"] = settled_precision(found["precision"], found.get("accelerator", "auto"))
    return found


def _tried(arguments: Mapping[str, Any], origins: Origins, path: Path) -> tuple[pl.Trainer | None, list[Fault]]:
    """A Trainer of the arguments, or what Lightning says against them, at the one that it objects to."""
    if arguments.get("precision") == "16-mixed":
        other = _made({**arguments, "precision": "32-true"})
        if isinstance(other, pl.Trainer) and _on_cpu(other):  # Lightning would take bf16-mixed instead
            place = (*path, "precision")
            fault = Fault("CPUs have no 16-mixed", place, origins.of(place), expected="bf16-mixed, 32-true or auto")
            return None, [fault]
    made = _made(arguments)
    if not isinstance(made, Exception):
        return made, []
    rest = ((name, {key: value for key, value in arguments.items() if key != name}) for name in arguments)
    place = next(((*path, name) for name, others in rest if isinstance(_made(others), pl.Trainer)), path)
    return None, [Fault(f"Lightning refuses the trainer: {made}", place, origins.of(place))]


def _made(arguments: Mapping[str, Any]) -> pl.Trainer | Exception:
    """A Trainer of the arguments, or what Lightning says against them."""
    without = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    try:
        with quiet_lightning():
            return pl.Trainer(**_as_objects({**arguments, **without}))
    except (MisconfigurationException, ModuleNotFoundError, TypeError, ValueError) as error:
        return error


def _as_objects(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with an object for the strategy that Lightning has no name for."""
    ours = {"strategy": strategy()} if arguments.get("strategy") == SHARDED else {}
    return {**arguments, **ours}


def _exact(configured: Sequence[pl.Callback]) -> ExactResume:
    """The callback of the config that writes checkpoints to go on from; without one, one that writes none."""
    found = next((callback for callback in configured if isinstance(callback, ExactResume)), None)
    if found is None:
        found = ExactResume()
        found.writes = False
    return found


def _configured(parts: TrainerParts, task: Task, run_dir: Folder, bar: bool) -> list[pl.Callback]:
    """The callbacks of the config; bars only with `bar`."""
    bars = (LightningBar, ProgressBar)
    chosen = [component for component in parts.callbacks if bar or not issubclass(component.target, bars)]
    found = [make_callback(component, run_dir, task.monitor, task.mode) for component in chosen]
    if parts.compile and not any(isinstance(callback, Compile) for callback in found):
        found.append(Compile())
    return found


def make_trainer(
    parts: TrainerParts,
    task: Task,
    run_dir: Folder,
    origins: Origins,
    *,
    quiet: bool = False,
    callbacks: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    """The Trainer, with its callbacks and loggers; all files go into `run_dir`.

    `quiet` leaves progress bars out; `callbacks` come before those of the config.

    Raises:
        ConfigError: Lightning refuses an argument.
    """
    arguments = dict(parts.arguments)
    bar = arguments.pop("enable_progress_bar", True) and not quiet
    configured = _configured(parts, task, run_dir, bar)
    exact = _exact(configured)
    callbacks = [exact, *callbacks]  # before all others, so that these have done nothing for the batch yet
    configured = [callback for callback in configured if callback is not exact]
    log = MetricLog(run_dir)
    loggers = {str(component.path[-1]): make_logger(component, run_dir) for component in parts.loggers}
    exact.metric_log, exact.loggers = log, loggers
    if not any(isinstance(callback, Checkpoint) for callback in (*callbacks, *configured)):
        arguments.setdefault("enable_checkpointing", False)  # or Lightning adds a checkpoint of its own
    arguments.setdefault("enable_model_summary", False)
    if arguments.get("profiler") is not None:
        arguments["profiler"] = profiler(arguments["profiler"], run_dir)
    plugins: list[Any] = [CheckpointFile()]
    sharded = arguments.get("strategy") == SHARDED
    if arguments.get("sync_batchnorm") and (parts.on_cpu or sharded):
        arguments["sync_batchnorm"] = False  # PyTorch's own is for GPUs, and Lightning has none for this strategy
        plugins += [] if sharded else [SyncedNorms()]
    try:
        trainer = pl.Trainer(
            **_as_objects(arguments),
            enable_progress_bar=any(isinstance(callback, LightningBar) for callback in (*callbacks, *configured)),
            callbacks=[*callbacks, *configured],
            logger=[*loggers.values(), log],
            plugins=plugins,
            default_root_dir=run_dir,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        place = ("trainer",)
        raise ConfigError(Fault(f"Lightning refuses the trainer: {error}", place, origins.of(place))) from error
    trim(trainer)
    return trainer
