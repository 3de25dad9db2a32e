"""The straight line: the order in which a config becomes a trained model; its first half stands in `prepare.py`."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from builder.config.changes import fixed
from builder.config.compose import Composed
from builder.data.module import DataModule
from builder.errors import BuilderError, LayerError, Stopped, dotted
from builder.follower import Follower
from builder.model.build import construct
from builder.model.explain import explain
from builder.optim.optimizer import build_optimizer
from builder.optim.scheduler import Schedule, build_scheduler
from builder.prepare import Prepared, prepare
from builder.run_files import describe, follow, open_folder, write_page, write_predictions
from builder.runs import attempts
from builder.runs.command import command_line
from builder.runs.folder import Run, one_line
from builder.runs.status import now
from builder.seeding import reseed
from builder.training.fingerprint import CannotGoOn, Context
from builder.training.fit import FitResult, fit
from builder.training.freezing import Freezing
from builder.training.hooks.callback import Hooks
from builder.training.positions import Position
from builder.training.rates import GroupRates
from builder.training.sharding import Sharding, read_sharding
from builder.training.trainer import read_trainer
from builder.weights.digest import tensors_sha256
from builder.weights.init_report import InitReport, init_report
from builder.weights.initialise import Touched
from builder.weights.load import LoadReport
from builder.weights.load import load as load_weights

if TYPE_CHECKING:
    import pytorch_lightning as pl


@dataclass(frozen=True, slots=True)
class TrainReport:
    """How a training ended, and where its run lies."""

    run: Path
    state: str
    metrics: Mapping[str, float]
    epoch: int
    step: int
    seconds: float


class Followed(TrainReport):
    """The same in a process that follows the first one, which tells of it; `run` is of no use afterwards."""


def train(
    composed: Composed,
    *,
    quiet: bool = False,
    ready: Prepared | None = None,
    callbacks: Sequence[pl.Callback] = (),
    on_open: Callable[[Path], object] | None = None,
) -> TrainReport:
    """Check the config, train the model in a new run folder, and seal that folder however it ends.

    `ready` is what `prepare` made of the config, where that was done already. `callbacks` are called before those of
    the config, `on_open` with the run folder before training begins.

    Raises:
        Stopped: a callback ended training on purpose; the run is sealed as interrupted.
        ConfigError: something is wrong with the config; no run folder is made.
        LayerError: a layer raised; the run is sealed as failed.
        RunError: the run folder can't be written.
        KeyboardInterrupt: the user stopped it; the run is sealed as interrupted.
    """
    started = time.perf_counter()
    ready = prepare(composed, quiet=quiet) if ready is None else ready
    composed = ready.composed
    values = composed.values
    rank = read_trainer(values, ready.task, composed.origins).rank
    quiet = quiet or rank > 0
    sharding = read_sharding(values["trainer"], ready.found.model, composed.origins)
    model, initial, loaded = initialised(ready) if sharding is None or rank == 0 else _without_values(ready)
    if not quiet:
        for line in ready.lines(initial):
            print(line, file=sys.stderr)
        for note in loaded.notes:
            if note not in ready.plans.load.report().notes:  # what only the values tell
                print(f"note: {note}", file=sys.stderr)
    if sharding is not None:
        sharding = replace(sharding, values=model if rank == 0 else None)
        model = construct(ready.definition, {}, ready.data.facts.values, ready.found.sizes, torch.device("meta"))
    with open_folder(ready) if rank == 0 else follow() as run:
        if rank == 0:
            attempts.add(run.path, {"started": now(), "command": command_line(), "from": None})
        describe(run, ready, initial, loaded)
        if on_open is not None:
            on_open(run.path)
        return trained(run, ready, model, started, quiet=quiet, callbacks=callbacks, sharding=sharding)


def initialised(ready: Prepared) -> tuple[nn.Module, InitReport, LoadReport]:
    """The model with the weights that training begins with, and how it got them.

    Raises:
        ConfigError: weights can't be loaded.
    """
    values = ready.composed.values
    seed = values["seed"] if values["init_seed"] is None else values["init_seed"]
    reseed(seed, "init")
    touched = Touched()
    model = construct(ready.definition, {}, ready.data.facts.values, ready.found.sizes, touched=touched)
    initial = init_report(model, touched)
    return model, initial, load_weights(ready.plans.load, model)


def _without_values(ready: Prepared) -> tuple[nn.Module, InitReport, LoadReport]:
    """The model on the meta device, and what would be done for its weights: the first process makes them for all."""
    touched = Touched()
    facts, sizes = ready.data.facts.values, ready.found.sizes
    model = construct(ready.definition, {}, facts, sizes, torch.device("meta"), touched=touched)
    return model, init_report(model, touched), ready.plans.load.report()


def trained(
    run: Run | Follower,
    ready: Prepared,
    model: nn.Module,
    started: float,
    *,
    quiet: bool,
    context: Context | None = None,
    position: Position | None = None,
    callbacks: Sequence[pl.Callback] = (),
    sharding: Sharding | None = None,
) -> TrainReport:
    """Train a model in its run folder, from a position on if there is one, and seal the folder however it ends."""
    if ready.composed.values["report"]:
        run.afterwards(write_page)
    try:
        result = _fit(ready, model, run, quiet, context or context_of(ready), position, callbacks, sharding)
    except (KeyboardInterrupt, SystemExit, CannotGoOn):
        raise
    except Stopped as stop:
        run.seal("interrupted", reason=str(stop))
        raise
    except BaseException as error:
        told = _explained(error)
        told.add_note(f"run:      {run.path}")
        run.seal("failed", reason=one_line(told))
        if told is error:
            raise
        raise told from error
    seconds = time.perf_counter() - started
    if sharding is None:  # else each process has parts of them
        run.keep_hash("tested", tensors_sha256(model.state_dict()))
        if ready.composed.values["report"] and result.state == "finished" and isinstance(run, Run):
            write_predictions(run, ready, model)
    run.seal(
        result.state, reason=result.reason, epoch=result.epoch, step=result.step,
        metrics=result.metrics, seconds=seconds,
    )  # fmt: skip
    report = TrainReport if isinstance(run, Run) else Followed
    return report(run.path, result.state, result.metrics, result.epoch, result.step, seconds)


def context_of(ready: Prepared, **options: Any) -> Context:
    """What of a run has to stay the same for it to go on bit for bit."""
    config = hashlib.sha256(json.dumps(fixed(ready.composed.unresolved), sort_keys=True, default=str).encode())
    return Context(ready.data.fingerprint(), config.hexdigest()[:16], ready.composed.values["seed"], **options)


def _fit(
    ready: Prepared,
    model: nn.Module,
    run: Run | Follower,
    quiet: bool,
    context: Context,
    position: Position | None,
    others: Sequence[pl.Callback],
    sharding: Sharding | None,
) -> FitResult:
    values, origins = ready.composed.values, ready.composed.origins
    section, frozen = values["scheduler"] or None, ready.plans.frozen
    callbacks = [*([Freezing(frozen)] if frozen.rules else []), GroupRates(), *others]
    if ready.hooks:
        callbacks.append(Hooks(ready.hooks, values["seed"], run.path))

    def optimizer(module: nn.Module) -> Optimizer:
        with frozen.unfrozen(module):  # a selector may ask for what requires a gradient
            return build_optimizer(module, values["optimizer"], origins, trainable=frozen.ever_trainable)

    def scheduler(optimizer: Optimizer, steps: Mapping[str, int]) -> Schedule | None:
        return build_scheduler(optimizer, section, origins, steps=steps)

    return fit(
        model, ready.task, DataModule(ready.data),
        optimizer=optimizer,
        scheduler=scheduler if section else None,
        config=values, origins=origins, run_dir=run.path, seed=values["seed"], quiet=quiet, on_position=run.reach,
        callbacks=callbacks, context=context, position=position, sharding=sharding,
        on_lost=lambda reason: run.seal("failed", reason=reason),
    )  # fmt: skip


def _explained(error: BaseException) -> BaseException:
    """An exception of a layer as one that says the YAML line it came from; any other as it is."""
    told = explain(error)
    if isinstance(error, BuilderError) or not told.path:
        return error
    lines = [f"{told.origin}: {dotted(told.path)}: {type(error).__name__}: {error}"]
    if told.raised_at:
        lines.append(f"  raised at: {told.raised_at}")
    lines += [f"  {value}" for value in told.values]
    return LayerError("\n".join(lines))
