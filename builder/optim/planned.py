"""A scheduler that was read from a config, and a trial of it on groups without weights."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    LambdaLR,
    LRScheduler,
    MultiplicativeLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from builder.catalog.component import Component
from builder.catalog.warmup import Warmup
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault
from builder.optim.blame import culprit
from builder.optim.schedule_state import by_group

LENGTHS = ("total_steps", "T_max")
"""Arguments that say how many steps a schedule has: where they are left out, all that there are."""
WALKED = 300
"""Steps that a trial takes one by one."""
LEAPS = 50
"""Later steps that a trial looks at, where a rate follows from the step alone."""
UNKNOWN = 100
"""Steps that a trial takes where it isn't known how many there will be."""
DIRECT = (LambdaLR, OneCycleLR, Warmup)
"""Schedulers whose rate follows from the step alone."""
ENDING = (LambdaLR, MultiplicativeLR, OneCycleLR, SequentialLR, ChainedScheduler)
"""Schedulers that may be made for a certain number of steps, and fail after it."""
NOT_TRIED = ("params", "param_names", "param_shapes", "initial_lr")
"""Keys of a group that a trial doesn't take over."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A scheduler that was read, and those that it is made of.

    `given` are the arguments as the config writes them, `length` is how often it will step, where that is known.
    """

    component: Component
    within: Sequence[Planned]
    given: Mapping[str, Any]
    length: int | None

    def make(self, optimizer: Optimizer) -> LRScheduler:
        """The scheduler, after those within it.

        Raises:
            ConfigError: it refuses its arguments.
        """
        arguments = dict(self.component.arguments)
        if self.within:
            arguments["schedulers"] = [each.make(optimizer) for each in self.within]
        if self.component.target is OneCycleLR and "max_lr" not in arguments:
            arguments["max_lr"] = [group["lr"] for group in optimizer.param_groups]
        named = replace(self.component, target=by_group(self.component.target), arguments=arguments)
        made: LRScheduler = named.make(optimizer=optimizer)
        return made

    def trial(self, optimizer: Optimizer, origins: Origins, unit: str) -> list[Fault]:
        """What goes wrong when the scheduler steps as it will in training, which `optimizer` is left out of.

        Refusals, failures, and rates below 0 or without value are told at the argument that brings them about.
        """
        faults = [fault for each in self.within for fault in each.trial(optimizer, origins, unit)]
        fault = None if faults else self._trouble(optimizer, unit)
        if fault is None:
            return faults
        if fault.path != self.component.path:
            return [fault]

        def works(arguments: Mapping[str, Any]) -> bool:
            other = replace(self, component=replace(self.component, arguments=arguments))
            return other._trouble(optimizer, unit) is None

        lengths = {} if self.length is None else dict.fromkeys(LENGTHS, self.length)
        given = [key for key in self.given if key not in ("type", "schedulers")]
        key = culprit(self.component, given, fault.message, works, lengths)
        if key is None:
            return [fault]
        place = (*fault.path, key)
        return [replace(fault, path=place, origin=origins.of(place), found=self.given[key])]

    def _trouble(self, optimizer: Optimizer, unit: str) -> Fault | None:
        """The first thing that goes wrong in a trial."""
        trial, name = _Weightless(optimizer), self.component.name
        path, origin = self.component.path, self.component.origin
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                scheduler = self.make(trial)
            except ConfigError as error:
                return error.faults[0]
            if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < (self.length or 0):
                message = f"{name} is over after {scheduler.total_steps} steps, but there will be {self.length}"
                return Fault(message, path, origin)
            if isinstance(scheduler, ReduceLROnPlateau) and scheduler.factor < 0:
                return Fault(f"{name} multiplies learning rates by a negative factor", path, origin)
            for at, move in _moves(scheduler, self.length):
                fault = _bad_rate(trial, name, unit, at) if at != self.length else None
                if fault is not None:
                    return replace(fault, path=path, origin=origin)
                try:
                    move()
                except ConfigError as error:
                    return error.faults[0]
                except Exception as error:  # whatever a scheduler raises, a user's among them
                    said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                    return Fault(f"{name} fails after {unit} {at}: {said}", path, origin)
        return None


class _Weightless(Optimizer):
    """The groups of another optimiser with their hyperparameters, without its weights."""

    def __init__(self, optimizer: Optimizer) -> None:
        groups = [
            {key: value for key, value in group.items() if key not in NOT_TRIED}
            | {"params": [nn.Parameter(torch.empty(0))]}
            for group in optimizer.param_groups
        ]
        super().__init__(groups, dict(optimizer.defaults))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Nothing: there are no weights."""


def _moves(scheduler: LRScheduler, length: int | None) -> Iterator[tuple[int, Callable[[], None]]]:
    """The steps at which a trial looks, counted from 0, and how the scheduler comes from each to the next."""
    known = length if length is not None else 1 if isinstance(scheduler, ENDING) else UNKNOWN
    walked = min(known, WALKED)
    for at in range(walked):
        yield at, functools.partial(_step, scheduler)
    if walked < known and isinstance(scheduler, DIRECT):
        stops = [walked + (known - walked) * leap // LEAPS for leap in range(LEAPS + 1)]
        for at, then in itertools.pairwise(dict.fromkeys(stops)):
            yield at, functools.partial(_leap, scheduler, then)
    yield known, lambda: None


def _step(scheduler: Any) -> None:
    scheduler.step(*([0.0] if isinstance(scheduler, ReduceLROnPlateau) else []))


def _leap(scheduler: LRScheduler, at: int) -> None:
    """Step to `at` from anywhere."""
    scheduler.last_epoch = at - 1
    scheduler.step()


def _bad_rate(optimizer: Optimizer, name: str, unit: str, at: int) -> Fault | None:
    """The fault of a rate that no optimiser can step with; what is below 0 by rounding only is none."""
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        if not math.isfinite(rate) or rate < -1e-9 * abs(float(group.get("initial_lr", 0))):
            message = f"{name} gives the group {group['name']!r} the learning rate {rate:.4g} at {unit} {at}"
            return Fault(message, expected="learning rates from 0 on")
    return None
