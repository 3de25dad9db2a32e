"""The learning-rate scheduler that the section `scheduler:` describes."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CyclicLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from builder.catalog.arguments import parameters_of
from builder.catalog.component import Component, read_component
from builder.config.formulas import evaluate_formulas
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Path, nearest
from builder.optim.planned import LENGTHS, Planned
from builder.optim.rate_formula import FUNCTIONS, read_rate_formula
from builder.registry import schedulers

RESERVED = ("interval", "frequency", "monitor")
"""Keys of `scheduler:` that aren't arguments of its `type`."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A scheduler, and when it steps: after every `frequency`-th epoch or step; `monitor` is what a plateau watches.

    `notes` say what of the section has no effect.
    """

    scheduler: LRScheduler
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None
    notes: tuple[Fault, ...] = ()


@dataclass(slots=True)
class _Reader:
    """Reads a scheduler and those within it; `numbers` are what formulas may use."""

    optimizer: Optimizer
    origins: Origins
    numbers: Mapping[str, int]
    unit: str
    """`step` or `epoch`: what a formula counts in."""
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)

    def read(self, section: Any, path: Path, length: int | None) -> Planned | None:
        """The scheduler of a section, for `length` of its steps where that is known; None with faults."""
        own = dict(section) if isinstance(section, Mapping) else section
        functions = {key: own.pop(key) for key in FUNCTIONS if isinstance(own, dict) and key in own}
        inner = own.pop("schedulers", None) if isinstance(own, dict) else None
        values, faults = evaluate_formulas(own, self.numbers, path, self.origins)
        without_value = {fault.path for fault in faults}
        self.faults += faults
        if isinstance(values, dict):
            values = {key: self._per_group(key, value, (*path, key)) for key, value in values.items()}
            values |= {key: self._function(key, value, (*path, key)) for key, value in functions.items()}
            values |= {"schedulers": inner} if inner is not None else {}
        values, filled = self._filled(values, length), ("max_lr",) if _type(values) is OneCycleLR else ()
        component, more = read_component(
            schedulers, values, path, self.origins.of, withheld=("optimizer",), provided=filled
        )
        self.faults += [_explained(fault, length) for fault in more if fault.path not in without_value]
        if component is None:
            return None
        self.faults += _cycles_nothing(component, self.optimizer, self.origins)
        given = section if isinstance(section, Mapping) else {}
        return Planned(component, self._within(component, inner, length), given, length)

    def _filled(self, values: Any, length: int | None) -> Any:
        """The arguments with the length of the schedule, where it has one that is left out."""
        target = _type(values)
        parameters = parameters_of(target) if target is not None else None
        if parameters is None or length is None or any(key in values for key in ("epochs", "steps_per_epoch")):
            return values
        return values | {key: length for key in LENGTHS if key in parameters.accepts and key not in values}

    def _per_group(self, key: str, value: Any, path: Path) -> Any:
        """A list with a value for each group, of a mapping by their names; any other value as it is.

        The name of a group that is split (`head`) stands for its parts (`head/no_decay`) too.
        """
        if not isinstance(value, Mapping):
            return value
        groups = [_ways(group.get("name", "default")) for group in self.optimizer.param_groups]
        names = list(dict.fromkeys(name for group in groups for part in group for name in reversed(part)))
        for name in value:
            if name not in names:
                place = (*path, name)
                message, expected = f"there is no group {name!r}", " | ".join(names)
                self.faults.append(
                    Fault(message, place, self.origins.of(place), expected=expected, nearest=nearest(name, names))
                )
        found = [_said_of(group, value) for group in groups]
        missing = [group[0][0] for group, said in zip(groups, found, strict=True) if not said]
        if missing:
            message = f"{key!r} has no value for {', '.join(map(repr, missing))}"
            self.faults.append(Fault(message, path, self.origins.of(path), expected="a value for each group"))
        return [said[0] if said else next(iter(value.values()), None) for said in found]

    def _function(self, key: str, raw: Any, path: Path) -> Any:
        """The function, or list of functions, that a formula or several stand for."""
        if isinstance(raw, Mapping):
            raw = self._per_group(key, raw, path)
        if isinstance(raw, list | tuple):
            return [self._function(key, item, (*path, index)) for index, item in enumerate(raw)]
        formula, faults = read_rate_formula(raw, FUNCTIONS[key] or self.unit, self.numbers, path, self.origins.of(path))
        self.faults += faults
        return formula

    def _within(self, component: Component, inner: Any, length: int | None) -> list[Planned]:
        """The schedulers that one of several is made of."""
        if not issubclass(component.target, SequentialLR | ChainedScheduler) or inner is None:
            return []
        path = (*component.path, "schedulers")
        if not isinstance(inner, list | tuple) or not inner:
            self.faults.append(
                Fault("schedulers are a list", path, self.origins.of(path), inner, "sections with a `type`")
            )
            return []
        lengths = self._lengths(component, len(inner), length)
        read = [self.read(item, (*path, index), lengths[index]) for index, item in enumerate(inner)]
        found = [each for each in read if each is not None]
        for each in found:
            if issubclass(each.component.target, ReduceLROnPlateau):
                message = "ReduceLROnPlateau can't be one of several: it steps by a metric"
                self.faults.append(Fault(message, each.component.path, each.component.origin))
        return found

    def _lengths(self, component: Component, count: int, length: int | None) -> Sequence[int | None]:
        """The lengths of schedulers one after the other, or of those that run all the time."""
        milestones = component.arguments.get("milestones")
        if not issubclass(component.target, SequentialLR):
            return [length] * count
        if not isinstance(milestones, list) or not all(type(each) is int for each in milestones):
            return [1] * count
        fault = _check_milestones(milestones, count, self.unit)
        place = (*component.path, "milestones")
        if fault is not None:
            self.faults.append(replace(fault, path=place, origin=self.origins.of(place), found=milestones))
            return [1] * count
        late = [each for each in milestones if length is not None and each >= length]
        if late:
            message = f"what comes from milestone {late[0]} on is never reached: it steps {length} times"
            self.notes.append(Fault(message, place, self.origins.of(place), milestones))
        ends = [*milestones, length]
        starts = [0, *milestones]
        return [None if end is None else max(1, end - start) for start, end in zip(starts, ends, strict=True)]


def build_scheduler(
    optimizer: Optimizer,
    section: Mapping[str, Any] | None,
    origins: Origins,
    path: Path = ("scheduler",),
    *,
    steps: Mapping[str, int] | None = None,
    metrics: Collection[str] | None = None,
) -> Schedule | None:
    """The scheduler of the section, None if there is no section.

    `steps` are the numbers that formulas may use where they are known: `total_steps`, `steps_per_epoch`, `max_epochs`;
    from them `total_steps` and `T_max` follow where an argument of that name is left out.
    `metrics` are the names that `monitor` may have; None leaves it unchecked.

    Raises:
        ConfigError: the section is wrong.
    """
    if section is None:
        return None
    when, faults = evaluate_formulas(
        {key: section[key] for key in RESERVED if key in section}, steps or {}, path, origins
    )
    interval, frequency, monitor = when.get("interval", "epoch"), when.get("frequency", 1), when.get("monitor")
    timing = faults or _check_timing(interval, frequency, origins, path)
    reader = _Reader(optimizer, origins, steps or {}, "step" if interval == "step" else "epoch")
    length = None if timing else _length(interval, frequency, steps or {})
    planned = reader.read({key: value for key, value in section.items() if key not in RESERVED}, path, length)
    faults = reader.faults + timing
    if planned is not None:
        faults += _check_monitor(planned.component, monitor, metrics, origins)
    faults = faults or (planned.trial(optimizer, origins, reader.unit) if planned is not None else [])
    if planned is None or faults:
        raise ConfigError(*faults)
    return Schedule(planned.make(optimizer), interval, frequency, monitor, tuple(reader.notes))


def _ways(group: str) -> list[list[str]]:
    """For each of the groups that one was merged of: the names by which a mapping may call it, the longest first."""
    ways = []
    for part in group.split(" + "):
        words = part.split("/")
        shorter = ["/".join(words[:count]) for count in range(len(words), 0, -1)]
        ways.append(list(dict.fromkeys([group, *shorter])))
    return ways


def _said_of(group: Sequence[Sequence[str]], values: Mapping[str, Any]) -> list[Any]:
    """What a mapping says of a group, by the longest name for which it has a value; nothing where its parts differ."""
    found = [next((values[name] for name in part if name in values), None) for part in group]
    return found[:1] if found[0] is not None and all(each == found[0] for each in found) else []


def _type(values: Any) -> Any:
    """The registered scheduler that a section names; None if it names none."""
    name = values.get("type") if isinstance(values, Mapping) else values
    return schedulers.get(name) if isinstance(name, str) and name in schedulers else None


def _length(interval: str, frequency: int, steps: Mapping[str, int]) -> int | None:
    """How often the scheduler will step, where that is known."""
    all_of_them = steps.get("total_steps" if interval == "step" else "max_epochs")
    return None if all_of_them is None else max(1, all_of_them // frequency)


def _explained(fault: Fault, length: int | None) -> Fault:
    """The fault of a missing length, with why it isn't filled in."""
    if length is None and any(fault.message.endswith(f"needs the argument {key!r}") for key in LENGTHS):
        return replace(fault, hint="how many steps there will be isn't known here, so that it can't be filled in")
    return fault


def _check_milestones(milestones: Sequence[int], count: int, unit: str) -> Fault | None:
    if len(milestones) != count - 1:
        message = f"the number of milestones is {len(milestones)}, that of schedulers {count}"
        return Fault(message, expected=f"{count - 1}: where one scheduler ends and the next begins")
    if any(later <= earlier for earlier, later in itertools.pairwise([0, *milestones])):
        return Fault("milestones must rise", expected=f"{unit}s from 1 on, each later than the one before")
    return None


def _cycles_nothing(component: Component, optimizer: Optimizer, origins: Origins) -> list[Fault]:
    """The fault of a scheduler that would cycle a momentum which the optimiser hasn't got."""
    cycles = component.target in (CyclicLR, OneCycleLR) and component.arguments.get("cycle_momentum", True)
    if not cycles or "momentum" in optimizer.defaults or "betas" in optimizer.defaults:
        return []
    place = (*component.path, "cycle_momentum")
    types = " and ".join(dict.fromkeys(group.get("type", type(optimizer).__name__) for group in optimizer.param_groups))
    without = "haven't in common" if " and " in types else "hasn't got"
    message = f"{component.name} cycles the momentum, which {types} {without}"
    return [Fault(message, place, origins.of(place), expected="cycle_momentum: false")]


def _check_timing(interval: object, frequency: object, origins: Origins, path: Path) -> list[Fault]:
    faults = []
    if interval not in ("epoch", "step"):
        place = (*path, "interval")
        faults.append(Fault("unknown interval", place, origins.of(place), interval, "epoch | step"))
    if not isinstance(frequency, int) or isinstance(frequency, bool) or frequency < 1:
        place = (*path, "frequency")
        faults.append(Fault("frequency can't be used", place, origins.of(place), frequency, "a whole number from 1"))
    return faults


def _check_monitor(
    component: Component, monitor: Any, metrics: Collection[str] | None, origins: Origins
) -> list[Fault]:
    place = (*component.path, "monitor")
    if not issubclass(component.target, ReduceLROnPlateau):
        if monitor is None:
            return []
        return [Fault(f"{component.name} watches no metric", place, origins.of(place), monitor, "no monitor")]
    if monitor is None:
        message = f"{component.name} needs a metric to watch"
        return [Fault(message, component.path, component.origin, expected="monitor: val/loss")]
    if metrics is not None and monitor not in metrics:
        near, expected = nearest(monitor, metrics), " | ".join(metrics)
        return [Fault(f"there will be no metric {monitor!r}", place, origins.of(place), None, expected, near)]
    return []
