"""16 trials of the digits MLP in one run: trained together, and in two processes, against one after the other."""

from __future__ import annotations

from collections.abc import Iterator

from measure import Effort, Row, keep_memory
from trials import TRIALS, emptied, jobs, run_all, together

from builder.sweep.jobs import Executor
from builder.sweep.local import Local
from builder.sweep.serial import Serial

TITLE = "16 trials of the digits MLP, in one step or in two processes / one after the other"
WORKERS = 2


def rows(effort: Effort) -> Iterator[Row]:
    """Epochs of trials that train together, by epochs of a loop by hand for each; two workers, by one process.

    The bounds: a quarter; and the time of one process by 1.7, which takes both cores idle. What the processor spends
    is told beside it: at most 2 / 1.7 of one process's, whatever else runs. A row without a bound says what the matrix
    products take, of which there are as many in the loops by hand.
    """
    keep_memory()
    hidden, epochs = (128, 24) if effort.full else (8, 1)
    for what, compiles, bound in (("together, compiled", True, 0.25), ("together, not compiled", False, 1.0)):
        if effort.full or not compiles:
            with emptied() as folder:
                ours, theirs, least = together(folder, hidden, epochs, compiles)
            yield Row(what, bound, ours, theirs)
            if compiles or not effort.full:
                yield Row("the matrix products of that alone", None, least, theirs)
    yield from _workers(effort)


def _workers(effort: Effort) -> Iterator[Row]:
    """Whole trials, with all that belongs to one, by two workers and by one process in turns."""
    count, hidden, epochs = (TRIALS, 128, 10) if effort.full else (2, 8, 1)
    pairs = 2 if effort.full else 1
    local = Local(workers=WORKERS, threads=1)
    executors: tuple[Executor, ...] = (local, Serial())
    passed: tuple[list[float], list[float]] = ([], [])
    spent: tuple[list[float], list[float]] = ([], [])
    try:
        for executor in executors:  # what is done once in a process
            with emptied() as folder:
                run_all(executor, jobs(folder, WORKERS, hidden, 1))
        for _ in range(pairs):
            for side, executor in enumerate(executors):
                with emptied() as folder:
                    wall, processor = run_all(executor, jobs(folder, count, hidden, epochs))
                passed[side].append(wall)
                spent[side].append(processor)
    finally:
        local.cancel()
    yield Row("2 workers, idle cores", 1 / 1.7, tuple(passed[0]), tuple(passed[1]))
    yield Row("2 workers, processor's time", WORKERS / 1.7, tuple(spent[0]), tuple(spent[1]))
