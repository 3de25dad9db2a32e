"""Trains several models together, and leaves an ordinary run folder for each."""

from __future__ import annotations

import copy
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from builder.optim.optimizer import build_optimizer
from builder.optim.scheduler import build_scheduler
from builder.pipeline import initialised
from builder.precision import settled_precision
from builder.report.run import write_report
from builder.run_files import describe, open_folder
from builder.runs import attempts
from builder.runs.folder import Run, one_line
from builder.runs.status import now
from builder.seeding import reseed
from builder.sweep.vmap_group import Alone, Member, differing
from builder.sweep.vmap_model import Batch, Together, part
from builder.training.checkpoint import CheckpointFile
from builder.training.loggers import make_logger
from builder.training.phase import Phase

TRIED = 3
"""Steps after which it is known how long one takes."""
REPAYS = 60.0
"""Seconds of stepping that are left from which on compiling is worth its time."""


@dataclass(eq=False)
class Trainee:
    """One of the models: where it is logged to, and what is known of it."""

    member: Member
    model: nn.Module
    run: Run
    loggers: list[Any]
    optimizer: Optimizer
    schedule: Any
    phases: dict[str, Phase]
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    best: tuple[float, int, dict[str, Tensor]] | None = None
    ended: str | None = None
    """Why it is looked at no more, once it isn't."""
    failed: bool = False
    final: dict[str, float] = field(default_factory=dict)


OnEpoch = Callable[[Trainee, int, Mapping[str, float]], str | None]
"""Told of each epoch of each model; a text says why it is to end here."""


class Fit:
    """The training of a group, of one key."""

    def __init__(self, members: Sequence[Member], on_epoch: OnEpoch, *, compiles: bool | None) -> None:
        """Make the models, and try a step.

        Raises:
            Alone: they can't train together after all.
        """
        self.members, self.on_epoch, self.compiles = members, on_epoch, compiles
        first = members[0]
        self.task, trainer = first.ready.task, first.values["trainer"]
        self.trainer = trainer
        self.dtype = (
            torch.float64 if str(settled_precision(trainer.get("precision"))).startswith("64") else torch.float32
        )
        accelerator = trainer.get("accelerator", "auto")
        cuda = accelerator != "cpu" and torch.cuda.is_available()
        self.device = torch.device("cuda" if cuda else "cpu")
        self.made = [initialised(member.ready) for member in members]
        models = [model for model, _, _ in self.made]
        dropouts = differing(models)
        seeds = [member.values["seed"] for member in members]
        self.apart = len(set(seeds)) > 1
        if self.task.loss.module is not None:
            self.task.loss.module.to(device=self.device, dtype=self.dtype)
        self.loaders = {split: self._loaders(split, seeds) for split in first.ready.data.splits}
        self._try(models, dropouts)
        self.steps = len(self.loaders["train"][0])
        self.together = self._together(models, dropouts)
        self.epochs = trainer["max_epochs"]
        self.step = 0
        self.trainees: list[Trainee] = []

    def _together(self, models: Sequence[nn.Module], dropouts: Sequence[str]) -> Together:
        def optimizer(index: int, model: nn.Module) -> Optimizer:
            ready = self.members[index].ready
            return build_optimizer(model, ready.composed.values["optimizer"], ready.composed.origins)

        clip = self.trainer.get("gradient_clip_val")
        tasks = [member.ready.task for member in self.members]
        return Together(models, tasks, optimizer, dropouts=dropouts, apart=self.apart, clip=clip,
                        device=self.device, dtype=self.dtype)  # fmt: skip

    def _loaders(self, split: str, seeds: Sequence[int]) -> list[Any]:
        """A loader for each model, the same one where seeds are."""
        by_seed = {seed: member.ready.data.loader(split) for seed, member in zip(seeds, self.members, strict=True)}
        return [by_seed[seed] for seed in seeds] if self.apart else [by_seed[seeds[0]]]

    def _try(self, models: Sequence[nn.Module], dropouts: Sequence[str]) -> None:
        """One step of copies: what has no rule for several models, or looks at its numbers, is seen here."""
        with torch.random.fork_rng(devices=[]):
            trial = self._together([copy.deepcopy(model) for model in models], dropouts)
            before = {name: value.clone() for name, value in trial.buffers.items()}
            try:
                trial.step(next(self._batches("train", 0)), whole=False)
                trial.evaluate(next(self._batches("train", 0)))
            except Exception as error:  # whatever torch.func raises
                raise Alone(_why(error)) from error
        changed = [name for name, value in trial.buffers.items() if not torch.equal(before[name], value)]
        if changed:
            raise Alone(f"a step changes the buffer {changed[0]!r} in place")

    def _batches(self, split: str, epoch: int) -> Iterator[Batch]:
        loaders = self.loaders[split]
        unique = list({id(loader): loader for loader in loaders}.values())
        for loader in unique:
            loader.set_epoch(epoch)
        places = [next(i for i, one in enumerate(unique) if one is loader) for loader in loaders]
        limit = self.trainer.get(f"limit_{split}_batches")
        for number, batches in enumerate(zip(*unique, strict=True)):
            if isinstance(limit, int) and not isinstance(limit, bool) and number >= limit:
                return
            if isinstance(limit, float) and number >= int(limit * len(loaders[0])):
                return
            yield self._placed(batches, places)

    def _placed(self, batches: Sequence[Batch], places: Sequence[int]) -> Batch:
        def put(tensor: Tensor) -> Tensor:
            return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)

        if not self.apart:
            return {name: put(tensor) for name, tensor in batches[0].items()}
        return {name: torch.stack([put(batches[place][name]) for place in places]) for name in batches[0]}

    def run(self) -> list[Trainee]:
        """Train to the end, test, and seal the runs."""
        started = time.perf_counter()
        default = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            self._open()
            for epoch in range(self.epochs):
                self._epoch(epoch)
                if all(one.ended for one in self.trainees):
                    break
            self._finish(time.perf_counter() - started)
        except BaseException as error:
            for one in self.trainees:
                if one.run.state == "running":
                    one.run.__exit__(type(error), error, error.__traceback__)
            raise
        finally:
            torch.set_default_dtype(default)
        return self.trainees

    def _open(self) -> None:
        limit = self.trainer.get("limit_train_batches")
        batches = min(limit, self.steps) if isinstance(limit, int) else self.steps
        steps = {"total_steps": batches * self.epochs, "max_epochs": self.epochs, "steps_per_epoch": batches}
        pairs = zip(self.members, self.made, self.together.models, self.together.optimizers, strict=True)
        for member, (_, initial, loaded), model, optimizer in pairs:
            ready = member.ready
            run = open_folder(ready)
            attempts.add(run.path, {"started": now(), "command": sys.argv, "from": None})
            describe(run, ready, initial, loaded)
            section = member.values["scheduler"]
            schedule = build_scheduler(optimizer, section, ready.composed.origins, steps=steps) if section else None
            phases = {name: Phase(name, ready.task) for name in ready.task.phases}
            for phase in phases.values():
                phase.to(self.device)
            loggers = [make_logger(component, run.path) for component in member.parts.loggers]
            self.trainees.append(Trainee(member, model, run, loggers, optimizer, schedule, phases))

    def _epoch(self, epoch: int) -> None:
        seed = self.members[0].values["seed"]
        reseed(seed, "train", epoch)
        usual = self.members[0].ready.data.batch_size
        began = time.perf_counter()
        for number, batch in enumerate(self._batches("train", epoch)):
            size = _size(batch, self.apart)
            seen = self.together.step(batch, whole=size == usual)
            self._note("train", batch, seen, size)
            self.step += 1
            self._schedules("step", epoch)
            if epoch == 0 and number + 1 == TRIED:
                self._consider((time.perf_counter() - began) / TRIED)
        values = self._values("train")
        if "val" in self.loaders:
            values = [{**one, **other} for one, other in zip(values, self._evaluated("val", epoch), strict=True)]
        for one, found in zip(self.trainees, values, strict=True):
            self._over(one, epoch, found)
        self._schedules("epoch", epoch)

    def _consider(self, seconds: float) -> None:
        """Compile the step if what is left is long enough for that to pay, or if it is asked for."""
        left = (self.epochs * self.steps - TRIED) * seconds
        if self.compiles or (self.compiles is None and self.together.steps_at_once and left > REPAYS):
            self.together.compile()

    def _note(self, phase: str, batch: Batch, seen: tuple[Tensor, Any, dict[str, Tensor]], size: int) -> None:
        losses, outputs, terms = seen
        for index, one in enumerate(self.trainees):
            if one.ended:
                continue
            task = one.member.ready.task
            names = task.names(part(batch, index) if self.apart else batch, part(outputs, index))
            if terms:
                names.terms = part(terms, index)  # type: ignore[attr-defined]
            one.phases[phase].add(losses[index], names, size)

    def _values(self, phase: str) -> list[dict[str, float]]:
        found = []
        for one in self.trainees:
            values = {} if one.ended else one.phases[phase].compute()
            one.phases[phase].reset()
            found.append({name: float(value) for name, value in values.items()})
        return found

    def _evaluated(self, phase: str, epoch: int, params: Any = None) -> list[dict[str, float]]:
        reseed(self.members[0].values["seed"], phase, epoch)
        for batch in self._batches(phase, 0):
            self._note(phase, batch, self.together.evaluate(batch, params), _size(batch, self.apart))
        return self._values(phase)

    def _over(self, one: Trainee, epoch: int, values: Mapping[str, float]) -> None:
        """An epoch of one model is over: log it, keep its weights if they are best, and see whether it goes on."""
        if one.ended:
            return
        one.history[epoch] = dict(values)
        for logger in one.loggers:
            logger.log_metrics({**values, "epoch": epoch}, step=self.step - 1)
        one.run.reach(epoch + 1, self.step)
        value = values.get(self.task.monitor, math.nan)
        signed = value if self.task.mode == "min" else -value
        if not math.isnan(signed) and (one.best is None or signed < one.best[0]):
            weights = {name: tensor.clone() for name, tensor in one.model.state_dict().items()}
            one.best = (signed, epoch, weights)
        loss = values.get("train/loss", 0.0)
        if not math.isfinite(loss):
            one.ended, one.failed = f"train/loss is {loss} in epoch {epoch + 1}", True
        else:
            one.ended = self.on_epoch(one, epoch, values)
        if one.ended:
            _seal(one, "failed" if one.failed else "interrupted", one.ended, epoch + 1, self.step)

    def _schedules(self, interval: str, epoch: int) -> None:
        for one in self.trainees:
            schedule = one.schedule
            if schedule is None or one.ended or schedule.interval != interval:
                continue
            done = self.step if interval == "step" else epoch + 1
            if done % schedule.frequency:
                continue
            with warnings.catch_warnings():  # the optimiser does step, in a whole that the schedule can't see
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
                if schedule.monitor is None:
                    schedule.scheduler.step()
                else:
                    schedule.scheduler.step(one.history[epoch][schedule.monitor])

    def _finish(self, seconds: float) -> None:
        left = [one for one in self.trainees if not one.ended]
        for one in left:
            self._save(one)
        if left and "test" in self.loaders:
            params = {name: value.clone() for name, value in self.together.params.items()}
            for index, one in enumerate(self.trainees):
                for name, value in params.items():
                    if one.best is not None:
                        value[index] = one.best[2][name]
            tested = self._evaluated("test", self.epochs, params)
            for one, values in zip(self.trainees, tested, strict=True):
                one.final = values
        for one in left:
            for logger in one.loggers:
                if one.final:
                    logger.log_metrics({**one.final, "epoch": self.epochs}, step=self.step)
            metrics = {**one.history[self.epochs - 1], **one.final}
            _seal(one, "finished", None, self.epochs, self.step, metrics, seconds)

    def _save(self, one: Trainee) -> None:
        """Its checkpoints: weights alone, since a part of a whole has no state to go on from."""
        file, folder = CheckpointFile(), one.run.path / "checkpoints"
        last = {"last.ckpt": (self.epochs - 1, dict(one.model.state_dict()))}
        best = {} if one.best is None else {"best.ckpt": (one.best[1], one.best[2])}
        for name, (epoch, weights) in {**last, **best}.items():
            state = {f"model.{key}": value.clone() for key, value in weights.items()}
            head = {"epoch": epoch, "global_step": (epoch + 1) * self.step // self.epochs}
            whole = {**head, "pytorch-lightning_version": pl.__version__, "state_dict": state}
            file.save_checkpoint(whole, folder / name)


def _seal(
    one: Trainee, state: Any, reason: str | None, epoch: int, step: int,
    metrics: Mapping[str, float] | None = None, seconds: float | None = None,
) -> None:  # fmt: skip
    for logger in one.loggers:
        logger.finalize("success")
        if close := getattr(logger, "close", None):
            close()
    if one.member.values.get("report") and state == "finished":
        one.run.afterwards(_write_page)
    one.run.seal(state, reason=reason, epoch=epoch, step=step, metrics=metrics, seconds=seconds)


def _write_page(run: Path) -> None:
    write_report(run)


def _size(batch: Batch, apart: bool) -> int:
    return next(iter(batch.values())).shape[1 if apart else 0]


def _why(error: Exception) -> str:
    said = one_line(error)
    if "data-dependent" in str(error) or ".item()" in str(error):
        return f"its forward decides by numbers in tensors ({said})"
    return said
