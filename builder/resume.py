"""Goes on with a run: in its folder, with its saved config, from the newest of its checkpoints that is intact."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.config.changes import Change, changes, refused
from builder.config.compose import Composed, compose
from builder.config.saved import saved_yaml
from builder.errors import ConfigError, Fault, UsageError, dotted
from builder.follower import followed
from builder.model.build import construct
from builder.pipeline import TrainReport, context_of, trained
from builder.prepare import Prepared, prepare
from builder.run_files import follow
from builder.runs import attempts
from builder.runs.command import command_line
from builder.runs.folder import Run
from builder.runs.status import now
from builder.seeding import reseed
from builder.training import positions
from builder.training.fingerprint import CannotGoOn, Difference
from builder.training.positions import Position
from builder.training.sharding import NAME as SHARDED
from builder.training.trainer import read_trainer
from builder.weights.load import load as load_weights

if TYPE_CHECKING:
    import pytorch_lightning as pl

CONFIG = "config"
LIMITS = ("max_epochs", "max_steps", "max_time")
"""Arguments of the trainer by which a run that is finished can go on."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A run in which nothing is left to do, and how it can be trained on."""

    run: Path
    epoch: int | None
    step: int | None
    hint: str


def resume(
    run_dir: Path,
    overrides: Sequence[str] = (),
    *,
    config_dir: Path | None = None,
    inexact: bool = False,
    quiet: bool = False,
    callbacks: Sequence[pl.Callback] = (),
) -> TrainReport | Finished:
    """Go on with the run in a folder, under changes that a run can go on with, and seal it again.

    `callbacks` are called before those of the config.

    Raises:
        ConfigError: a change isn't one of these, or wrong.
        RunError: another process is in the folder; something else differs from before, unless `inexact`.
        UsageError: the folder holds no config, or its run was trained together with others.
    """
    started = time.perf_counter()
    if not (run_dir / f"{CONFIG}.yaml").is_file():
        raise UsageError(f"{run_dir} has no {CONFIG}.yaml to go on with")
    if attempts.trained_together(run_dir):
        raise UsageError(
            f"{run_dir} was trained together with other trials (executor vmap), and goes on with them alone\n"
            f"  hint:     builder sweep resume goes on with a sweep; to begin a new run with its weights: "
            f"load=run:{run_dir}@last"
        )
    before = compose(config_name=CONFIG, config_dir=config_dir, run_dir=run_dir)
    after = compose(overrides, config_name=CONFIG, config_dir=config_dir, run_dir=run_dir)
    found = list(changes(before.unresolved, after.unresolved))
    faults = refused(found, before.unresolved, after.unresolved, after.origins)
    if faults:
        raise ConfigError(*faults)
    if after.values["trainer"].get("strategy") == SHARDED:
        place = ("trainer", "strategy")
        hint = f"begin a new run with its weights: load=run:{run_dir.parent.name}/{run_dir.name}@last"
        raise ConfigError(Fault("a sharded run can't be gone on with", place, after.origins.of(place), hint=hint))
    if followed() is not None:
        return _followed(after, started)
    _refuse_launchers(run_dir)
    with Run(run_dir, command_line(), again=True) as run:
        assert run.before is not None
        if run.before.state == "finished" and not _more(found):
            run.restore()
            return _finished(run, before)
        position, damaged = positions.newest(run.path / "checkpoints" / positions.FOLDER)
        try:
            ready = prepare(after if position is None else _without_load(after), quiet=True)
            read_trainer(ready.composed.values, ready.task, ready.composed.origins)
            model = _model(ready, new=position is None)
            noted = _Noted(run, after, found, position, damaged, inexact, quiet)
            context = context_of(ready, inexact=inexact, on_begin=noted)
            return trained(
                run, ready, model, started, quiet=quiet, context=context, position=position, callbacks=callbacks
            )
        except (CannotGoOn, ConfigError):
            run.restore()
            raise


def _refuse_launchers(run_dir: Path) -> None:
    """Refuse to be one of several processes that somebody else started: none of them could say which one leads.

    Raises:
        UsageError: it is.
    """
    for launcher, rank, size, alone in (
        ("torchrun", "RANK", "WORLD_SIZE", ""),
        ("SLURM", "SLURM_PROCID", "SLURM_NTASKS", "env -u SLURM_NTASKS "),
    ):
        count = os.environ.get(size, "")
        if rank in os.environ and count.isdigit() and int(count) > 1:
            raise UsageError(
                f"{launcher} starts {count} processes, and a run is gone on with by one, "
                f"which starts the others itself: {alone}builder resume {run_dir}"
            )


def _followed(composed: Composed, started: float) -> TrainReport:
    """Go on in a process that another one leads, which has looked at everything before."""
    with follow() as run:
        position, _ = positions.newest(run.path / "checkpoints" / positions.FOLDER)
        ready = prepare(composed if position is None else _without_load(composed), quiet=True)
        model = _model(ready, new=position is None)
        context = context_of(ready, inexact=True)
        return trained(run, ready, model, started, quiet=True, context=context, position=position)


def _more(found: Sequence[Change]) -> bool:
    """Whether a change lets a finished run go on."""
    return any(change.path[0] == "trainer" and change.path[1] in LIMITS for change in found)


def _finished(run: Run, composed: Composed) -> Finished:
    assert run.before is not None
    limits = composed.values["trainer"]
    key = "max_steps" if (limits.get("max_steps") or -1) > 0 else "max_epochs"
    more = 2 * (limits.get(key) or 1)
    hint = f"to train on: builder resume {run.path} trainer.{key}={more}"
    return Finished(run.path, run.before.epoch, run.before.step, hint)


@dataclass(frozen=True, slots=True)
class _Noted:
    """Tells and keeps how a run goes on, once it is known that it can."""

    run: Run
    composed: Composed
    changes: Sequence[Change]
    position: Position | None
    damaged: Sequence[str]
    inexact: bool
    quiet: bool

    def __call__(self, differences: Sequence[Difference]) -> None:
        warnings = [*self.damaged, *map(str, differences)]
        told = [] if self.quiet else [*_where(self.run, self.position), *(f"change:   {each}" for each in self.changes)]
        for line in [*(f"warning:  {warning}" for warning in warnings), *told]:
            print(line, file=sys.stderr)
        attempts.add(self.run.path, self._record(differences))
        if self.changes:
            self.run.write_text(f"{CONFIG}.yaml", saved_yaml(self.composed))

    def _record(self, differences: Sequence[Difference]) -> dict[str, Any]:
        changed = [{"key": dotted(each.path), "then": each.then, "now": each.now} for each in self.changes]
        position = self.position
        return {
            "started": now(), "command": command_line(), "from": None if position is None else position.path.name,
            "epoch": 0 if position is None else position.epoch, "step": 0 if position is None else position.step,
            "changes": changed, "differences": [asdict(each) for each in differences], "inexact": self.inexact,
            "damaged": list(self.damaged), "before": _told(self.run),
        }  # fmt: skip


def _where(run: Run, position: Position | None) -> list[str]:
    assert run.before is not None
    head = f"resume:   {run.path}, {run.before.state}"
    if position is None:
        return [f"{head} before its first checkpoint: it begins anew"]
    at = f"step {position.step}" if position.state["at"] != "end" else f"step {position.step}, where training had ended"
    return [f"{head}; goes on from epoch {position.epoch + (position.state['at'] != 'end')}, {at}"]


def _told(run: Run) -> dict[str, Any]:
    """How the attempt before ended."""
    assert run.before is not None
    kept = ("state", "ended", "seconds", "reason", "epoch", "step")
    return {key: value for key, value in asdict(run.before).items() if key in kept}


def _without_load(composed: Composed) -> Composed:
    """The config without the section `load`: the weights are in the checkpoint, and the files may be gone."""
    return replace(composed, values={**composed.values, "load": None})


def _model(ready: Prepared, *, new: bool) -> Any:
    """The model as it was made when the run began, with the weights that it then loaded only if it begins anew."""
    values = ready.composed.values
    reseed(values["seed"] if values["init_seed"] is None else values["init_seed"], "init")
    model = construct(ready.definition, {}, ready.data.facts.values, ready.found.sizes)
    if new:
        load_weights(ready.plans.load, model)
    return model
