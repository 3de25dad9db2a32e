"""An epoch of `builder train`, with metrics, bar, table of metrics and a checkpoint, against a bare loop."""

from __future__ import annotations

from collections.abc import Iterator

from bare import Work, bare
from epochs import by_turns
from measure import Effort, Row

TITLE = "an epoch of builder train / of a bare PyTorch loop that logs and keeps nothing"
EPOCHS = {29: 60, 225: 20}


def rows(effort: Effort) -> Iterator[Row]:
    """A digits-like MLP with short and with long epochs, with PyTorch's choice of optimiser kernels and fused.

    Last the short epoch with larger batches: what a step costs beside its tensors doesn't grow with them.
    """
    for steps, bound in ((29, 1.25), (225, 1.10)):
        work = Work("mlp", {"hidden": 128}, (64,), steps if effort.full else 2)
        side, epochs = bare(work), EPOCHS[steps] if effort.full else 1
        for what, kernels, most in ((f"{steps} steps", "null", bound), (f"{steps} steps, fused", "true", 1.0)):
            taken = by_turns([*work.overrides(), f"optimizer.fused={kernels}"], side, side, epochs=epochs)
            yield Row(what, most, *taken)
    work = Work("mlp", {"hidden": 128}, (64,), 29 if effort.full else 2, 1024)
    side = bare(work)
    taken = by_turns([*work.overrides(), "optimizer.fused=null"], side, side, epochs=20 if effort.full else 1)
    yield Row("29 steps of 1,024 samples", 1.25, *taken)
