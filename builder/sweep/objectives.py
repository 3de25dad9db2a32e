"""What a sweep seeks: values of a trial's run, each to be small or large."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from builder.config.origin import Origins
from builder.errors import Fault, nearest

OF_THE_RUN = ("params", "seconds")
"""Objectives that aren't metrics: the model's parameters, and the seconds that the run took."""
MODES = ("min", "max")


@dataclass(frozen=True, slots=True)
class Objective:
    """A value that is sought: its name, and whether it should be small or large; empty: what the task monitors."""

    name: str = ""
    mode: Literal["min", "max"] = "min"

    def __str__(self) -> str:
        return f"{self.name} {self.mode}"


def read_objectives(given: Any, origins: Origins, faults: list[Fault]) -> tuple[Objective, ...]:
    """The objectives of `sweep.objectives`; none where the task says it."""
    place = ("sweep", "objectives")
    found: list[Objective] = []
    for index, item in enumerate([given] if isinstance(given, str) else given or ()):
        path = place if isinstance(given, str) else (*place, index)
        name, _, mode = str(item).strip().rpartition(" ")
        if not isinstance(item, str) or not name or mode not in MODES:
            near = [f"{name} {one}" for one in nearest(mode, MODES)] if name else []
            faults.append(Fault("no objective", path, origins.of(place), item, "'NAME min' or 'NAME max'", near))
        elif name.strip() in [one.name for one in found]:
            faults.append(Fault("said twice", path, origins.of(place), item))
        else:
            found.append(Objective(name.strip(), mode))  # type: ignore[arg-type]
    return tuple(found)


def settled(
    objectives: Sequence[Objective], monitor: str, mode: str, known: Sequence[str], origins: Origins
) -> tuple[tuple[Objective, ...], list[Fault]]:
    """The objectives with what the task monitors where none is given, and those that no run reports, as faults."""
    if not objectives:
        return (Objective(monitor, mode),), []  # type: ignore[arg-type]
    names = [*known, *OF_THE_RUN]
    place = ("sweep", "objectives")
    faults = [
        Fault(f"there will be no value {one.name!r}", place, origins.of(place), expected=" | ".join(names),
              nearest=nearest(one.name, names))
        for one in objectives
        if one.name not in names
    ]  # fmt: skip
    return tuple(objectives), faults


def best_epoch(history: Mapping[int, Mapping[str, float]], monitor: str, mode: str) -> int | None:
    """The first epoch at which the monitored value is best; None if it was never seen."""
    sign = 1 if mode == "min" else -1
    seen = {epoch: sign * row[monitor] for epoch, row in history.items() if not math.isnan(row.get(monitor, math.nan))}
    return min(seen, key=lambda epoch: (seen[epoch], epoch)) if seen else None


def values_of(
    objectives: Sequence[Objective],
    history: Mapping[int, Mapping[str, float]],
    final: Mapping[str, Any],
    monitor: str,
    mode: str,
) -> list[float]:
    """The value of each objective: metrics of train and val at the epoch whose weights are best, others as they are.

    `history` are metrics by epoch, `final` those of the test, `params` and `seconds`. What is missing is NaN.
    """
    epoch = best_epoch(history, monitor, mode)
    at_best = {} if epoch is None else history[epoch]
    return [float(at_best.get(one.name, final.get(one.name, math.nan))) for one in objectives]
