"""Times two sides by turns in one process, so that what slows the machine slows both.

The time is the processor's that the process takes: what others on the machine take is not in it.
"""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's `mallopt`."""
LARGEST_KEPT = 32 * 2**20
"""Bytes of a tensor whose memory is kept when it is freed; the most that `mallopt` takes."""

Side = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """How often a pair of sides is timed, and for how many seconds a side at a time."""

    pairs: int = 101
    seconds: float = 0.01
    full: bool = True
    """Whether networks are of their real sizes."""


SMOKE = Effort(pairs=2, seconds=0.0, full=False)
"""Just enough to see that a benchmark runs."""


@dataclass(frozen=True)
class Row:
    """One comparison: the times of a call of each side, pair by pair, and the bound on the ratio ours / theirs.

    Without a bound it says how far down the row before it could come here: `ours` does nothing but what it must.
    `control` holds, pair by pair, the time of their side once more: its ratio to theirs shows what noise there is.
    """

    what: str
    bound: float | None
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    control: tuple[float, ...] = ()
    unit: str = "ms"
    """Of what is shown beside the ratios. Times are in seconds and shown in ms; all else is shown as it is."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Our time by theirs, pair by pair."""
        return tuple(a / b for a, b in zip(self.ours, self.theirs, strict=True))

    @property
    def noise(self) -> tuple[float, ...]:
        """Their time by theirs again, pair by pair: 1, were there no noise."""
        return tuple(a / b for a, b in zip(self.control, self.theirs, strict=True)) if self.control else ()

    @property
    def median(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def best(self) -> float:
        """The ratio of the shortest times: what is left when nothing else runs."""
        return min(self.ours) / min(self.theirs)

    @property
    def holds(self) -> bool:
        """Whether the bound, if there is one, holds for the median of the ratios."""
        return self.bound is None or self.median <= self.bound


def keep_memory() -> None:
    """Let freed memory stay the process's: to get it again page by page takes as long as initial values do.

    Otherwise the side that happens to run after memory was given back pays for both. Nothing happens without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def compare(
    what: str,
    ours: Side,
    theirs: Side,
    *,
    bound: float,
    effort: Effort,
    control: bool = False,
    pairs: int | None = None,
) -> Row:
    """Time both sides by turns, each first in every other pair, after one call that isn't counted.

    `control` times their side once more in each pair; `pairs` stands for those of the effort where a call is long.
    """
    keep_memory()
    ours(), theirs()
    calls = _calls(theirs, effort.seconds)
    times: tuple[list[float], list[float], list[float]] = ([], [], [])
    sides = [(ours, times[0]), (theirs, times[1]), *([(theirs, times[2])] if control else [])]
    for index in range(min(effort.pairs, pairs or effort.pairs)):
        for side, taken in sides if index % 2 else reversed(sides):
            taken.append(_seconds(side, calls))
    return Row(what, bound, *map(tuple, times))


def _calls(side: Side, seconds: float) -> int:
    """How many calls take so long."""
    calls = 1
    while (taken := _seconds(side, calls) * calls) < seconds:
        calls = max(2 * calls, int(calls * seconds / max(taken, 1e-9)))
    return calls


def _seconds(side: Side, calls: int) -> float:
    """The time of a call, without what the garbage collector takes: it comes when it likes."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        for _ in range(calls):
            side()
        return (time.process_time() - start) / calls
    finally:
        gc.enable()
