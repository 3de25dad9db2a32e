"""As `loop`, against Lightning as its documentation shows it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bare import Work, bare, stock
from epochs import by_turns, paused
from measure import Effort, Row

TITLE = "an epoch of builder train / of stock Lightning with a default DataLoader, self.log, torchmetrics, rich's bar"
MLP = Work("mlp", {"hidden": 128}, (64,), 225)
CNN = Work("cnn", {"channels": 4}, (1, 8, 8), 100)


def rows(effort: Effort) -> Iterator[Row]:
    """An MLP, and a CNN of about 1 ms a step; and what a bare loop, which logs and keeps nothing, takes of theirs."""
    for what, work, bound in (("MLP", MLP, 0.25), ("CNN of about 1 ms a step", CNN, 0.5)):
        work = work if effort.full else Work(work.model, work.args, work.shape, 2)
        with paused(partial(stock, work)) as side:
            sides = (side, side, bare(work))
            ours, theirs, again, least = by_turns(
                [*work.overrides(), "optimizer.fused=null"], *sides, epochs=8 if effort.full else 1
            )
        yield Row(what, bound, ours, theirs, again)
        yield Row(f"{what}: a bare loop by theirs", None, least, theirs)
