"""Times two sides by turns in one process, so that what slows the machine slows both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One comparison: ratios of our time to the other's over the repeats, and the bound that their median must keep."""

    what: str
    ratios: tuple[float, ...]
    bound: float

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def holds(self) -> bool:
        return self.median <= self.bound


def compare(
    what: str, ours: Callable[[], object], theirs: Callable[[], object], *, bound: float, calls: int, repeats: int = 15
) -> Row:
    """Ratios of the time of `calls` calls, both sides by turns, after one round that isn't counted."""
    ratios = []
    for repeat in range(repeats + 1):
        first, second = (ours, theirs) if repeat % 2 else (theirs, ours)
        times = {id(side): _seconds(side, calls) for side in (first, second)}
        if repeat:
            ratios.append(times[id(ours)] / times[id(theirs)])
    return Row(what, tuple(ratios), bound)


def _seconds(side: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        side()
    return time.perf_counter() - start
