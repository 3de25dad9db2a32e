"""`check`: everything up to the first training step. Loads Lightning and torchmetrics only where they have to judge."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from builder import registry
from builder.catalog.known import NotKnown, require_fine, require_versions
from builder.config.compose import Composed
from builder.errors import ConfigError
from builder.explored import Explored
from builder.model.build import construct
from builder.prepare import Prepared, begun, planned
from builder.training.known_metrics import KnownMetrics
from builder.training.known_trainer import require_fine as require_trainer
from builder.training.places import PROVIDED
from builder.weights.init_report import InitReport, init_report
from builder.weights.initialise import Touched


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found; that it exists means that nothing is wrong."""

    name: str
    model: str
    parameters: int
    trainable: int
    layers: int
    train: int
    val: int
    test: int
    steps_per_epoch: int
    reports: Mapping[str, Any]
    plans: Sequence[str] = ()

    def __str__(self) -> str:
        head = (
            f"{self.name}: fine. {self.model} with {self.parameters:,} parameters ({self.trainable:,} trainable) in "
            f"{self.layers} layers; {self.train} / {self.val} / {self.test} samples to train / validate / test, "
            f"{self.steps_per_epoch} steps an epoch"
        )
        return "\n".join([head, *self.plans])


def check(composed: Composed) -> CheckReport:
    """Everything up to the first training step, without training.

    Raises:
        ConfigError: something is wrong with the config; all faults of a station at once.
    """
    explored = begun(composed)
    ready = _surely_fine(explored) or _judged(explored)
    for note in ready.notes:
        print(f"note: {note}", file=sys.stderr)
    model, data, initial = ready.found.model, ready.data, _planned(ready)
    named, trainable = dict(model.named_parameters()), set(ready.plans.frozen.ever_trainable)
    sizes = {split: len(next(iter(data.splits[split].values()))) if split in data.splits else 0
             for split in ("train", "val", "test")}  # fmt: skip
    return CheckReport(
        name=ready.composed.values["name"],
        model=ready.definition.name,
        parameters=sum(parameter.numel() for parameter in named.values()),
        trainable=sum(parameter.numel() for name, parameter in named.items() if name in trainable),
        layers=sum(1 for module in model.modules() if not list(module.children())),
        steps_per_epoch=len(data.loader("train")),
        reports={"init": initial.to_json(), **ready.plans.to_json()},
        plans=ready.lines(initial),
        **sizes,
    )


def _surely_fine(explored: Explored) -> Prepared | None:
    """The rest of a config of which it is known that it is fine, without importing Lightning and torchmetrics.

    None if there may be something wrong with it: these libraries have to tell, and they say what.
    """
    values = explored.composed.values
    if "pytorch_lightning" in sys.modules or values["hooks"]:  # nothing would be saved
        return None
    try:
        require_versions()
        require_trainer(values["trainer"])
        ready = planned(explored, KnownMetrics())
        names = ready.task.metric_names()
        require_fine(registry.callbacks, values["callbacks"], names, PROVIDED["callbacks"])
        require_fine(registry.loggers, values["logger"], names, PROVIDED["logger"])
    except (NotKnown, ConfigError):
        return None
    return ready


def _judged(explored: Explored) -> Prepared:
    """The rest of any config, as Lightning and torchmetrics see it.

    Raises:
        ConfigError: something is wrong with it.
    """
    from builder.training.sharding import read_sharding
    from builder.training.trainer import read_trainer

    ready = planned(explored)
    composed = ready.composed
    read_trainer(composed.values, ready.task, composed.origins)
    read_sharding(composed.values["trainer"], ready.found.model, composed.origins)
    return ready


def _planned(ready: Prepared) -> InitReport:
    """Which rule fills which parameter, without any values."""
    touched = Touched()
    model = construct(
        ready.definition, {}, ready.data.facts.values, ready.found.sizes, torch.device("meta"), touched=touched
    )
    return init_report(model, touched)
