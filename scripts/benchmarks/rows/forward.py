"""A forward call in eager mode without gradients, on tiny tensors, where every Python instruction shows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from measure import Effort, Row, compare
from tiny import TINY

TITLE = "a call of the built model / of the hand-written class"


def rows(effort: Effort) -> Iterator[Row]:
    """One comparison a model."""
    for tiny in TINY:
        ours, theirs, x = tiny.ours().eval(), tiny.theirs().eval(), tiny.inputs()
        with torch.inference_mode():
            yield compare(tiny.name, lambda m=ours, x=x: m(x), lambda m=theirs, x=x: m(x),
                          bound=1.02, effort=effort, control=True)  # fmt: skip
