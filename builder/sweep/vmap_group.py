"""Which trials can train together: those that differ in numbers alone that change no shape, each kind in a group."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from builder.catalog.component import Component
from builder.model.classes import DefinedModule
from builder.precision import settled_precision
from builder.prepare import Prepared
from builder.sweep.jobs import TrialJob
from builder.training.trainer import TrainerParts

NUMBERS = ("optimizer", "scheduler")
"""Sections whose numbers may differ."""
TRAINER = {
    "accelerator": ("auto", "cpu", "gpu", "cuda"),
    "devices": ("auto", 1, "1", -1),
    "precision": (32, "32", "32-true", 64, "64", "64-true"),
    "accumulate_grad_batches": (1,),
    "gradient_clip_algorithm": (None, "norm"),
    "max_steps": (-1,),
    "min_epochs": (None,),
    "check_val_every_n_epoch": (1,),
    "val_check_interval": (None, 1.0),
    "strategy": ("auto",),
    "compile": (False,),
    "num_nodes": (1,),
}
"""What arguments of the trainer may be here."""
FREE = (
    "max_epochs", "deterministic", "gradient_clip_val", "log_every_n_steps", "num_sanity_val_steps", "benchmark",
    "limit_train_batches", "limit_val_batches", "limit_test_batches", "enable_progress_bar", "enable_model_summary",
    "enable_checkpointing", "logger",
)  # fmt: skip
"""Arguments of the trainer that may be anything: they are done as it does them, or mean nothing here."""
CALLBACKS = ("ModelCheckpoint", "ExactResume", "ProgressBar")
"""Callbacks whose work is done here, or isn't needed."""


class Alone(Exception):
    """Why a trial trains by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One training of a trial, ready to begin."""

    job: TrialJob
    index: int
    ready: Prepared
    parts: TrainerParts

    @property
    def values(self) -> Mapping[str, Any]:
        """The config."""
        return self.ready.composed.values


def key(member: Member) -> str:
    """What trainings have in common that can train together.

    Raises:
        Alone: it can't train with others.
    """
    _check(member)
    values = member.values
    rest = {name: value for name, value in values.items() if name not in ("model", "seed", "init_seed", *NUMBERS)}
    loss = values["task"]["loss"]
    if member.ready.task.loss.parts:
        rest["task"] = {**values["task"], "loss": {name: _weightless(part) for name, part in loss.items()}}
    for name in NUMBERS:
        rest[name] = _without_numbers(values[name])
    model = member.ready.found.model
    shapes = [(name, list(tensor.shape), str(tensor.dtype)) for name, tensor in model.state_dict().items()]
    layers = [(name, type(module).__name__) for name, module in model.named_modules()]
    sizes = {split: len(next(iter(samples.values()))) for split, samples in member.ready.data.splits.items()}
    return json.dumps([rest, shapes, layers, sizes], sort_keys=True, default=str)


def _weightless(part: Any) -> Any:
    return {**part, "weight": None} if isinstance(part, dict) and "weight" in part else part


def _without_numbers(value: Any) -> Any:
    """A section with every number as a mark."""
    if isinstance(value, dict):
        return {name: _without_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_numbers(item) for item in value]
    return "a number" if isinstance(value, int | float) and not isinstance(value, bool) else value


def _check(member: Member) -> None:
    ready, trainer = member.ready, member.values["trainer"]
    for name, module in ready.found.model.named_modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            raise Alone(f"{type(module).__name__} {name!r} keeps running statistics, which each step changes in place")
        if isinstance(module, nn.RNNBase):
            raise Alone(f"{type(module).__name__} {name!r} has no rule for several models at once")
    if ready.plans.frozen.rules:
        raise Alone("a part of the model is frozen")
    if ready.hooks:
        raise Alone("hooks look into one model")
    accelerator = trainer.get("accelerator", "auto")
    for name, said in trainer.items():
        value = settled_precision(said, accelerator) if name == "precision" else said
        if name not in FREE and (name not in TRAINER or value not in TRAINER[name]) and value is not None:
            raise Alone(f"trainer.{name}: {value}")
    if not isinstance(trainer.get("max_epochs"), int) or trainer["max_epochs"] < 1:
        raise Alone("trainer.max_epochs isn't a number of epochs")
    for component in member.parts.callbacks:
        _check_callback(component, ready)
    for name in ready.task.phases:
        if ready.data.loader(name).source.size < 1:
            raise Alone(f"no samples to {name}")


def _check_callback(component: Component, ready: Prepared) -> None:
    if component.name not in CALLBACKS:
        raise Alone(f"callback {component.name} works on one model")
    watched = component.arguments.get("monitor")
    if component.name == "ModelCheckpoint" and watched not in (None, ready.task.monitor):
        raise Alone(f"a checkpoint watches {watched}")


def differing(models: Sequence[nn.Module]) -> list[str]:
    """The dropouts whose probability isn't the same in all models.

    Raises:
        Alone: the models differ in something else that their forward uses.
    """
    found = []
    first, *others = [dict(model.named_modules()) for model in models]
    for name, module in first.items():
        for attribute, value in vars(module).items():
            if attribute.startswith("_") or attribute == "training":
                continue
            if all(_same(vars(other[name]).get(attribute), value) for other in others):
                continue
            if type(module) is nn.Dropout and attribute == "p":
                found.append(name)
            elif not isinstance(module, DefinedModule) or attribute in type(module).forward.__code__.co_names:
                raise Alone(f"{name or 'the model'}: {attribute} isn't the same in all trials")
    return found


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one is other or bool(one == other))
