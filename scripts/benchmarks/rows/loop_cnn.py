"""As `loop`, with CNNs whose steps take longer."""

from __future__ import annotations

from collections.abc import Iterator

from bare import Work, bare
from epochs import by_turns
from measure import Effort, Row

TITLE = "an epoch of builder train / of a bare PyTorch loop that logs and keeps nothing"
SMALL = Work("cnn", {"channels": 4}, (1, 8, 8), 100)
LARGE = Work("cnn", {"channels": 32}, (1, 16, 16), 20)


def rows(effort: Effort) -> Iterator[Row]:
    """Steps of about 1 ms and of about 20 ms."""
    for what, work, bound, epochs in (("about 1 ms a step", SMALL, 1.10, 15), ("about 20 ms a step", LARGE, 1.03, 7)):
        work = work if effort.full else Work("cnn", {"channels": 2}, (1, 4, 4), 2)
        side = bare(work)
        taken = by_turns([*work.overrides(), "optimizer.fused=null"], side, side, epochs=epochs if effort.full else 1)
        yield Row(what, bound, *taken)
