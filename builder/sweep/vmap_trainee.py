"""One of the models that train together: its run folder, its log, its best weights, as of a training of its own."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer

from builder.optim.scheduler import build_scheduler
from builder.report.run import write_report
from builder.run_files import describe
from builder.runs import attempts
from builder.runs.command import command_line
from builder.runs.folder import Run
from builder.runs.status import Ending, now
from builder.sweep.vmap_group import Member
from builder.training.checkpoint import CheckpointFile
from builder.training.csv_logger import CSVLogger
from builder.training.loggers import TensorBoardLogger, make_logger


@dataclass(eq=False)
class Trainee:
    """One of the models: where it is logged to, and what is known of it."""

    member: Member
    model: nn.Module
    run: Run
    loggers: Sequence[Any]
    schedule: Any
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """The model's, as they are at any time: parts of the whole."""
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    best: tuple[float, int, dict[str, Tensor]] | None = None
    """The best value (the smaller the better), its epoch, and the weights by then."""
    ended: str | None = None
    """Why it is looked at no more, once it isn't."""
    failed: bool = False
    final: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    """Its share of the time."""

    def __post_init__(self) -> None:
        self.point()

    def point(self) -> None:
        """Find the weights again, which lie elsewhere now."""
        self.weights = dict(self.model.state_dict())

    def over(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """An epoch is over: log it, and keep the weights if they are best."""
        task = self.member.ready.task
        self.history[epoch] = dict(values)
        for logger in self.loggers:
            logger.log_metrics({**values, "epoch": epoch}, step=step - 1)
        self.run.reach(epoch + 1, step)
        value = values.get(task.monitor, math.nan)
        signed = value if task.mode == "min" else -value
        if not math.isnan(signed) and (self.best is None or signed < self.best[0]):
            self.best = (signed, epoch, self._kept())

    def _kept(self) -> dict[str, Tensor]:
        """The weights as they are now, in the memory of the best ones so far."""
        if self.best is None:
            return {name: tensor.clone() for name, tensor in self.weights.items()}
        for name, tensor in self.best[2].items():
            tensor.copy_(self.weights[name])
        return self.best[2]

    def end(self, reason: str, step: int, *, failed: bool) -> None:
        """It goes on no more, before the others: failed, or pruned."""
        self.ended, self.failed = reason, failed
        self.save(step)
        self._seal("failed" if failed else "interrupted", step, reason)

    def finish(self, step: int, seconds: float) -> None:
        """It has trained to its end, and been tested."""
        epochs = len(self.history)
        for logger in self.loggers:
            if self.final:
                logger.log_metrics({**self.final, "epoch": epochs}, step=step)
        self._seal("finished", step, None, {**self.history[epochs - 1], **self.final}, seconds)

    def save(self, step: int) -> None:
        """Write its checkpoints: weights alone, since a part of a whole has no state to go on from."""
        file, folder, epochs = CheckpointFile(), self.run.path / "checkpoints", len(self.history)
        last = {"last.ckpt": (epochs - 1, self.weights)}
        best = {} if self.best is None else {"best.ckpt": (self.best[1], self.best[2])}
        for name, (epoch, weights) in {**last, **best}.items():
            state = {f"model.{key}": value.clone() for key, value in weights.items()}
            head = {"epoch": epoch, "global_step": (epoch + 1) * step // epochs}
            whole = {**head, "pytorch-lightning_version": pl.__version__, "state_dict": state}
            file.save_checkpoint(whole, folder / name)

    def _seal(
        self, state: Ending, step: int, reason: str | None, metrics: Mapping[str, float] | None = None,
        seconds: float | None = None,
    ) -> None:  # fmt: skip
        for logger in self.loggers:
            logger.finalize("success")
            if close := getattr(logger, "close", None):
                close()
        if self.member.values.get("report") and state == "finished":
            self.run.afterwards(_write_page)
        self.run.seal(state, reason=reason, epoch=len(self.history), step=step, metrics=metrics, seconds=seconds)


def opened(
    run: Run, member: Member, model: nn.Module, reports: tuple[Any, Any], optimizer: Optimizer,
    steps: Mapping[str, int], file: Path,
) -> Trainee:  # fmt: skip
    """A model with its new run folder, which says how its weights began (`reports`).

    `steps` is for its schedule, `file` where the checkpoint of all will be.
    """
    _attempt(run, file, None, 0)
    describe(run, member.ready, *reports)
    return _trainee(member, model, run, optimizer, steps)


def reopened(
    run: Run, member: Member, model: nn.Module, optimizer: Optimizer, steps: Mapping[str, int], file: Path,
    known: Mapping[str, Any], begun: Path,
) -> Trainee:  # fmt: skip
    """A model that goes on in its run folder, from what is `known` of it by the checkpoint `begun`."""
    one = _trainee(member, model, run, optimizer, steps)
    one.history = {int(epoch): dict(values) for epoch, values in known["history"].items()}
    if known["best"] is not None:
        device = next(iter(one.weights.values())).device
        weights = {name: tensor.to(device) for name, tensor in known["best"]["weights"].items()}
        one.best = (known["best"]["value"], known["best"]["epoch"], weights)
    if one.schedule is not None:
        one.schedule.scheduler.load_state_dict(known["schedule"])
    _attempt(run, file, begun, len(one.history))
    for logger in one.loggers:
        if isinstance(logger, CSVLogger | TensorBoardLogger):
            logger.rewind(() if isinstance(logger, CSVLogger) else {})  # type: ignore[arg-type]
            for epoch, values in one.history.items():
                logger.log_metrics({**values, "epoch": epoch}, step=(epoch + 1) * steps["steps_per_epoch"] - 1)
    run.reach(len(one.history), len(one.history) * steps["steps_per_epoch"])
    return one


def _attempt(run: Run, file: Path, begun: Path | None, epoch: int) -> None:
    """Note that a run is trained together with others, where their checkpoint will be, and from which they go on."""
    within = run.path.resolve()
    note: dict[str, Any] = {"started": now(), "command": command_line(), "from": None}
    note["together"] = os.path.relpath(file, within)
    if begun is not None:
        note |= {"from": os.path.relpath(begun, within), "epoch": epoch}
    attempts.add(run.path, note)


def _trainee(member: Member, model: nn.Module, run: Run, optimizer: Optimizer, steps: Mapping[str, int]) -> Trainee:
    section = member.values["scheduler"]
    origins = member.ready.composed.origins
    schedule = build_scheduler(optimizer, section, origins, steps=steps) if section else None
    return Trainee(
        member, model, run, [make_logger(component, run.path) for component in member.parts.loggers], schedule
    )


def _write_page(run: Path) -> None:
    write_report(run)
