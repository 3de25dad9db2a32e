"""What is settled about a model's weights before it is made: what is loaded, what is frozen when, how it is grouped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from torch import nn
from torch.optim import Optimizer

from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Path
from builder.optim.optimizer import build_optimizer
from builder.optim.report import GroupReport, group_report
from builder.runs.find import find_run
from builder.weights.freeze import read_freeze, resolve
from builder.weights.freeze_plan import FrozenPlan
from builder.weights.freeze_report import phases_table, rules_table
from builder.weights.load import LoadPlan, plan, read_load
from builder.weights.load_section import resolved

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plans:
    """The plans for one model; `steps` are the numbers of steps and epochs that are known, as formulas name them.

    `runs` are the runs that are loaded, by their places in the config, in words that mean the same run for ever.
    """

    load: LoadPlan
    frozen: FrozenPlan
    groups: GroupReport
    steps: Mapping[str, int]
    runs: tuple[tuple[Path, str], ...] = ()

    def lines(self) -> list[str]:
        """The plans for people, each with an empty line before it; none where nothing was asked for."""
        said = [self.load.report().lines(brief=True), self._frozen(), self._groups()]
        return [line for part in said if part for line in ("", *part)]

    def _frozen(self) -> list[str]:
        rules = rules_table(self.frozen)
        return [*rules, "", *phases_table(self.frozen, self.steps.get("steps_per_epoch"))] if rules else []

    def _groups(self) -> list[str]:
        return self.groups.lines() if len(self.groups.rows) > 1 else []

    def notes(self) -> list[Fault]:
        """What says nothing, and is no error."""
        return [*self.frozen.notes(self.steps.get("max_epochs"), self.steps.get("total_steps")), *self.groups.notes]

    def to_json(self) -> dict[str, Any]:
        """The plans as plain values, one by one."""
        reports = {
            "load": self.load.report().to_json() if self.load.reports else None,
            "freeze": self.frozen.to_json() if self.frozen.rules else None,
            "groups": self.groups.to_json(),
        }
        return {name: report for name, report in reports.items() if report is not None}


def make_plans(model: nn.Module, values: Mapping[str, Any], origins: Origins, steps: Mapping[str, int]) -> Plans:
    """The plans that a config's sections `load`, `freeze` and `optimizer` come to for a model on the meta device.

    Of files that are loaded only the headers are read.

    Raises:
        ConfigError: sections are wrong, or don't fit the model; the faults of all of them.
    """
    faults: list[Fault] = []
    find = partial(find_run, output_dir=values["output_dir"])
    sources = _told(faults, lambda: read_load(values["load"], origins, find_run=find))
    loaded = None if sources is None else _told(faults, partial(plan, sources, model))
    frozen = _told(faults, lambda: resolve(read_freeze(values["freeze"], origins), model))
    trainable = None if frozen is None else frozen.ever_trainable
    optimizer = _told(faults, lambda: _planned(model, values, origins, trainable))
    if sources is None or loaded is None or frozen is None or optimizer is None:
        raise ConfigError(*faults)
    return Plans(loaded, frozen, group_report(optimizer, model), steps, tuple(resolved(sources)))


def _planned(
    model: nn.Module, values: Mapping[str, Any], origins: Origins, trainable: Collection[str] | None
) -> Optimizer:
    return build_optimizer(model, values["optimizer"], origins, trainable=trainable, planned=True)


def _told(faults: list[Fault], make: Callable[[], T]) -> T | None:
    """What `make` gives; None if it finds faults, which are collected."""
    try:
        return make()
    except ConfigError as error:
        faults.extend(error.faults)
        return None


def length(trainer: Mapping[str, Any], batches: int) -> dict[str, int]:
    """How long training lasts, as far as it follows from the config; `batches` are those of an epoch.

    Args:
        trainer: Lightning's arguments; its defaults stand for those that are missing.
        batches: of an epoch, unless the arguments limit them.
    """
    epochs, last = trainer.get("max_epochs"), trainer.get("max_steps", -1)
    epochs = 1000 if epochs is None and last == -1 else epochs or -1  # Lightning's default
    for key in ("limit_train_batches", "overfit_batches", "fast_dev_run"):
        limit = trainer.get(key)
        if limit:
            batches = int(batches * limit) if isinstance(limit, float) else min(batches, int(limit))
    epochs = 1 if trainer.get("fast_dev_run") else epochs
    steps = -(-batches // (trainer.get("accumulate_grad_batches") or 1))
    ends = [*([epochs * steps] if epochs > 0 else []), *([last] if last >= 0 else [])]
    known = {"steps_per_epoch": steps} | ({"total_steps": min(ends)} if ends else {})
    if ends and steps:
        known["max_epochs"] = -(-min(ends) // steps)
    return known
