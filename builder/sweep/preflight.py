"""Before the first trial, every point of a grid or a sample of an infinite space is checked as by `builder check`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from builder.errors import ConfigError, Fault, Origin
from builder.sweep.objectives import Objective, settled
from builder.sweep.settings import Settings
from builder.sweep.space import corners, is_finite, overrides_of, points

MOST = 200
"""The most points that are checked; of a larger grid, these hold every value of every axis, and others at random."""
SAMPLE = 12
"""Points of an infinite space that are checked besides its corners."""
TOLD = 10
"""The most bad corners that are told."""

Point = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found: how many points of how many were checked, and what the trials are judged by."""

    checked: int
    total: int | None
    objectives: tuple[Objective, ...]
    monitor: str
    mode: str

    def __str__(self) -> str:
        of = "points of an infinite space" if self.total is None else f"of {self.total} points"
        sought = ", ".join(f"{one.name} {one.mode}" for one in self.objectives)
        return f"checked {self.checked} {of}; seeks {sought}"


def preflight(settings: Settings, on_point: Callable[[int, int], object] | None = None) -> Preflight:
    """Compose, check and shape-check the points.

    Raises:
        ConfigError: some can't be trained; each fault with the override that makes it.
    """
    chosen, total = _chosen(settings)
    bad: list[tuple[Point, ConfigError]] = []
    good: list[Point] = []
    found: set[tuple[tuple[Objective, ...], str, str]] = set()
    for index, point in enumerate(chosen):
        if on_point is not None:
            on_point(index, len(chosen))
        try:
            found.add(_check(settings, point))
            good.append(point)
        except ConfigError as error:
            bad.append((point, error))
    if bad:
        raise ConfigError(*_told(settings, bad, good))
    if len(found) > 1:
        monitors = " and ".join(sorted(f"{monitor} {mode}" for _, monitor, mode in found))
        hint = "say what all are judged by: 'sweep.objectives=[val/loss min]'"
        raise ConfigError(Fault(f"the trials don't watch one value: {monitors}", ("sweep", "objectives"), hint=hint))
    ((objectives, monitor, mode),) = found
    return Preflight(len(chosen), total, objectives, monitor, mode)


def _chosen(settings: Settings) -> tuple[list[Point], int | None]:
    axes = settings.axes
    if not is_finite(axes):
        return _distinct(corners(axes, SAMPLE, settings.section["seed"])), None
    # A grid may be far too large to list, as long as it isn't walked whole.
    first: list[Point] = list(itertools.islice(points(axes), settings.trials if settings.is_grid else MOST + 1))
    if len(first) <= MOST:
        return first, len(first)
    some = _distinct(corners(axes, MOST // 2, settings.section["seed"]))[:MOST]
    return some, sum(1 for _ in itertools.islice(points(axes), 1_000_000))


def _distinct(found: Iterator[dict[str, str]]) -> list[Point]:
    return list({tuple(point.items()): point for point in found}.values())


def _check(settings: Settings, point: Point) -> tuple[tuple[Objective, ...], str, str]:
    """What a point is judged by; raises a ConfigError where it can't be trained."""
    from builder.prepare import prepare
    from builder.training.trainer import read_trainer

    ready = prepare(settings.compose(point, settings.replicates[0]), quiet=True)
    read_trainer(ready.composed.values, ready.task, ready.composed.origins)
    task = ready.task
    objectives, faults = settled(settings.objectives, task.monitor, task.mode, task.metric_names(), settings.origins)
    if faults:
        raise ConfigError(*faults)
    if settings.pruner is not None and not task.monitor.startswith(("val/", "train/")):
        raise ConfigError(Fault("nothing is known before the end", ("task", "monitor")))
    # The monitored value is what the trial is pruned by, and its best epoch is where the others are read.
    return objectives, task.monitor, task.mode


def _told(settings: Settings, bad: Sequence[tuple[Point, ConfigError]], good: Sequence[Point]) -> list[Fault]:
    """The faults of the points, each once, with the overrides that make it."""
    by_text: dict[str, tuple[Fault, list[Point]]] = {}
    for point, error in bad:
        for fault in error.faults:
            # The same fault of two points may differ in the override that it names as its origin.
            key = f"{fault.path}{fault.message}{fault.found}{fault.expected}"
            by_text.setdefault(key, (fault, []))[1].append(point)
    told = []
    for fault, at in by_text.values():
        told.append(_blamed(settings, fault, at, [*good, *(p for p, _ in bad if p not in at)], len(bad) + len(good)))
    more = len(told) - TOLD
    return [*told[:TOLD], *([Fault(f"and {more} more of such kinds")] if more > 0 else [])]


def _blamed(settings: Settings, fault: Fault, at: Sequence[Point], others: Sequence[Point], total: int) -> Fault:
    """A fault with the overrides that all points with it have and no point without it, where there are such."""
    if len(at) == total:
        return fault  # all have it: it isn't one of the space
    common = [name for name in at[0] if all(point.get(name) == at[0][name] for point in at)]
    cause: tuple[str, ...] = ()
    for size in range(1, len(common) + 1):
        for names in itertools.combinations(common, size):
            if not any(all(point.get(name) == at[0][name] for name in names) for point in others):
                cause = names
                break
        if cause:
            break
    words = " ".join(overrides_of(settings.axes, {name: at[0][name] for name in cause or at[0]}))
    if fault.origin.override == words:
        return fault
    written = "" if fault.origin == Origin() else f" ({fault.origin})"
    return replace(fault, origin=Origin(override=words), message=fault.message + written)
