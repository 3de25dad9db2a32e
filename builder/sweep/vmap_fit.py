"""Trains several models together, and leaves an ordinary run folder for each."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from builder.optim.optimizer import build_optimizer
from builder.pipeline import initialised
from builder.precision import settled_precision
from builder.run_files import open_folder
from builder.runs.command import command_line
from builder.runs.folder import Run, one_line
from builder.seeding import reseed
from builder.sweep.vmap_batches import Batches
from builder.sweep.vmap_group import Alone, Member, differing
from builder.sweep.vmap_model import Together
from builder.sweep.vmap_phase import Gathered
from builder.sweep.vmap_saved import Begun, Ended, place_of
from builder.sweep.vmap_trainee import Trainee, opened, reopened

TRIED = 3
"""Steps after which it is known how long one takes."""
REPAYS = 60.0
"""Seconds of stepping that are left, or spared, from which on compiling is worth its time."""

OnEpoch = Callable[[Trainee, int, Mapping[str, float]], str | None]
"""Told of each epoch of each model; a text says why it is to end here."""


class Fit:
    """The training of a group, of one key. `trainees` are all of them, `active` those that still train, by place."""

    def __init__(
        self, members: Sequence[Member], on_epoch: OnEpoch, *, compiles: bool | None, begun: Begun | None = None,
        after_epoch: Callable[[Fit, int], object] = lambda fit, epoch: None,
    ) -> None:  # fmt: skip
        """Make the models, and try a step.

        Args:
            members: the trainings.
            on_epoch: told of each epoch of each.
            compiles: whether the step is compiled; None: where that pays.
            begun: what they go on from.
            after_epoch: called after each epoch after which there is more to train: the place to write a checkpoint.

        Raises:
            Alone: they can't train together after all.
        """
        self.members, self.on_epoch, self.compiles = members, on_epoch, compiles
        self.begun, self.after_epoch = begun, after_epoch
        self.ended: Sequence[Ended] = () if begun is None else begun.ended
        self.task, self.trainer = members[0].ready.task, members[0].values["trainer"]
        self.seed, self.usual = members[0].values["seed"], members[0].ready.data.batch_size
        wide = str(settled_precision(self.trainer.get("precision"))).startswith("64")
        cuda = self.trainer.get("accelerator", "auto") != "cpu" and torch.cuda.is_available()
        self.dtype, self.device = torch.float64 if wide else torch.float32, torch.device("cuda" if cuda else "cpu")
        if self.task.loss.module is not None:
            self.task.loss.module.to(device=self.device, dtype=self.dtype)
        self.batches = Batches(members, self.trainer, self.device, self.dtype)
        self.made = [initialised(member.ready) for member in members]
        models = [model for model, _, _ in self.made]
        together = partial(self._together, dropouts=differing(models))
        gathers = self._gathers(models, together)
        self.together = together(models, gathers=gathers)
        tasks = [member.ready.task for member in members]
        self.phases = {name: Gathered(name, tasks, self.device) for name in self.task.phases}
        self.first, self.step = (0, 0) if begun is None else (begun.epoch, begun.step)
        self.epochs, self.seconds = self.trainer["max_epochs"], 0.0
        self.trainees: list[Trainee] = []
        self.active: list[Trainee] = []
        self.file = Path()

    def _together(self, models: Sequence[nn.Module], *, dropouts: Sequence[str], gathers: bool) -> Together:
        def optimizer(index: int, model: nn.Module) -> Optimizer:
            ready = self.members[index].ready
            return build_optimizer(model, ready.composed.values["optimizer"], ready.composed.origins)

        return Together(
            models, [member.ready.task for member in self.members], optimizer, dropouts=dropouts,
            apart=self.batches.apart, clip=self.trainer.get("gradient_clip_val"), gathers=gathers, device=self.device,
            dtype=self.dtype,
        )  # fmt: skip

    def _gathers(self, models: Sequence[nn.Module], together: Callable[..., Together]) -> bool:
        """Whether updates of metrics are made for all models at once, as it shows when a step of copies is tried.

        Raises:
            Alone: the step has no rule for several models, looks at its numbers, or changes buffers.
        """
        for gathers in (True, False):
            try:
                self._try(together([copy.deepcopy(model) for model in models], gathers=gathers))
            except Alone:
                raise
            except Exception as error:  # whatever torch.func raises; if it is of a metric alone, all is well without
                if not gathers:
                    raise Alone(_why(error)) from error
            else:
                break
        return gathers

    def _try(self, trial: Together) -> None:
        """A step of copies."""
        with torch.random.fork_rng(devices=[]):
            before = {name: value.clone() for name, value in trial.buffers.items()}
            batch, _ = next(self.batches.of("train", 0))
            trial.step(batch, compiled=False)
            trial.evaluate(batch, compiled=False)
        changed = [name for name, value in trial.buffers.items() if not torch.equal(before[name], value)]
        if changed:
            raise Alone(f"a step changes the buffer {changed[0]!r} in place")

    def run(self, on_open: Callable[[Sequence[Trainee]], object] = lambda trainees: None) -> list[Trainee]:
        """Train to the end, test, and seal the runs; `on_open` is told of them once their folders are there."""
        started = time.perf_counter()
        default = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            self._open()
            on_open(self.trainees)
            for epoch in range(self.first, self.epochs):
                self._epoch(epoch)
                if not self.active:
                    break
                self.after_epoch(self, epoch)
            self._finish(time.perf_counter() - started)
        except BaseException as error:
            for one in self.trainees:
                self._close(one.run, error)
            raise
        finally:
            torch.set_default_dtype(default)
        return self.trainees

    def _close(self, run: Run, error: BaseException) -> None:
        """Leave a run as it is when an error ends the group; one that was to go on, and hasn't yet, as it was."""
        if run.state != "running":
            return
        if self.begun is not None and not self.active:
            run.restore()
        else:
            run.__exit__(type(error), error, error.__traceback__)

    def _open(self) -> None:
        batches = self.batches.count("train")
        steps = {"total_steps": batches * self.epochs, "max_epochs": self.epochs, "steps_per_epoch": batches}
        pairs = zip(self.members, self.made, self.together.models, self.together.optimizers, strict=True)
        for index, (member, (_, initial, loaded), model, optimizer) in enumerate(pairs):
            begun = self.begun
            run = open_folder(member.ready) if begun is None else Run(begun.runs[index], command_line(), again=True)
            try:
                if index == 0:
                    self.file = place_of(run.path.resolve(), begun)
                if begun is None:
                    one = opened(run, member, model, (initial, loaded), optimizer, steps, self.file)
                else:
                    one = reopened(run, member, model, optimizer, steps, self.file, begun.known[index], begun.file)
            except BaseException as error:
                self._close(run, error)
                raise
            self.trainees.append(one)
        if self.begun is not None:  # after the schedules were made, which set the first rates
            self.begun.put_in(self.together)
        self.active = list(self.trainees)

    def _epoch(self, epoch: int) -> None:
        reseed(self.seed, "train", epoch)
        phase, apart, began = self.phases["train"], self.batches.apart, time.perf_counter()
        for number, (batch, size) in enumerate(self.batches.of("train", epoch)):
            phase.add(self.together.step(batch, compiled=self._compiled(size)), batch, size, apart=apart)
            self.step += 1
            self._schedules("step", epoch)
            if epoch == self.first and number + 1 == TRIED:
                self._consider((time.perf_counter() - began) / TRIED)
        self.seconds = (time.perf_counter() - began) / max(1, self.batches.count("train"))
        values = phase.values()
        if "val" in self.batches.splits:
            values = [{**one, **other} for one, other in zip(values, self._evaluated("val", epoch), strict=True)]
        for one, found in zip(self.active, values, strict=True):
            self._over(one, epoch, found)
        self._schedules("epoch", epoch)
        self._keep(epoch)

    def _compiled(self, size: int, *, once: bool = False) -> bool:
        """Whether to compile for batches of that size: the usual one, others if that is asked for, but not `once`."""
        return size == self.usual or (bool(self.compiles) and not once)

    def _left(self, epoch: int) -> int:
        """The steps from an epoch on."""
        return (self.epochs - epoch) * self.batches.count("train")

    def _consider(self, seconds: float) -> None:
        """Compile the step if what is left is long enough for that to pay, or if it is asked for."""
        pays = self.together.steps_at_once and (self._left(self.first) - TRIED) * seconds > REPAYS
        if self.compiles or (self.compiles is None and pays):
            self.together.compile()

    def _over(self, one: Trainee, epoch: int, values: Mapping[str, float]) -> None:
        """An epoch of one model is over: log it, and see whether it goes on."""
        if one.ended:  # it is still computed, in a compiled step
            return
        one.over(epoch, self.step, values)
        loss = values.get("train/loss", 0.0)
        if not math.isfinite(loss):
            one.end(f"train/loss is {loss} in epoch {epoch + 1}", self.step, failed=True)
        elif reason := self.on_epoch(one, epoch, values):
            one.end(reason, self.step, failed=False)

    def _keep(self, epoch: int) -> None:
        """Leave out the models that have ended, unless the step would have to be compiled anew for too little."""
        places = [place for place, one in enumerate(self.active) if not one.ended]
        dropped, compiled = len(self.active) - len(places), self.together.is_compiled
        spared = self._left(epoch + 1) * self.seconds * dropped / len(self.active)
        if not places:
            self.active = []
        if not places or not dropped or (compiled and spared < REPAYS):
            return
        self.together.keep(places)
        for one in self.trainees:
            one.point()
        self.batches.keep(places)
        for phase in self.phases.values():
            phase.keep(places)
        self.active = [self.active[place] for place in places]
        if compiled:
            self.together.compile()

    def _evaluated(self, split: str, epoch: int, params: dict[str, Tensor] | None = None) -> list[dict[str, float]]:
        reseed(self.seed, split, epoch)
        for batch, size in self.batches.of(split, 0):
            seen = self.together.evaluate(batch, params, compiled=self._compiled(size, once=split == "test"))
            self.phases[split].add(seen, batch, size, apart=self.batches.apart)
        return self.phases[split].values()

    def _schedules(self, interval: str, epoch: int) -> None:
        for one in self.active:
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
        left = [one for one in self.active if not one.ended]
        for one in left:
            one.save(self.step)
        if left and "test" in self.batches.splits:
            params = {name: value.clone() for name, value in self.together.params.items()}
            for index, one in enumerate(self.active):
                for name, value in params.items():
                    if one.best is not None:
                        value[index] = one.best[2][name]
            for one, values in zip(self.active, self._evaluated("test", self.epochs, params), strict=True):
                one.final = values
        for one in left:
            one.finish(self.step, seconds)


def _why(error: Exception) -> str:
    said = one_line(error)
    if "data-dependent" in str(error) or ".item()" in str(error):
        return f"its forward decides by numbers in tensors ({said})"
    return said
