"""Runs killed with SIGKILL anywhere and resumed, against the same runs that were never stopped: how many end alike."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from measure import Effort, Row

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests"))

TITLE = "scenarios of kills and resumes / those that end with the same bits"


def rows(effort: Effort) -> Iterator[Row]:
    """A row for each config: one kill at a place of each kind, some at random, some in chains of three."""
    from torture_runs import ROWS, tortured

    for number, name in enumerate(ROWS if effort.full else list(ROWS)[:1]):
        # In a process of its own, which has no other threads when it forks.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            counts = pool.submit(tortured, name, number, effort.full).result()
        scenarios, kills, identical, wrong = counts
        for line in wrong:
            print(f"{name}: {line}", file=sys.stderr)
        what = f"{name}: {kills} kills in {scenarios} scenarios, {identical} identical"
        print(what, file=sys.stderr, flush=True)
        yield Row(what, 1.0, (float(scenarios),), (float(max(identical, 0.1)),), unit="scenarios")
