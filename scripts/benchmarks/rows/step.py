"""Forward, backward and an optimiser step, on tiny tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from measure import Effort, Row, compare
from tiny import TINY
from torch import nn

TITLE = "a training step of the built model / of the hand-written class"


def rows(effort: Effort) -> Iterator[Row]:
    """One comparison a model."""
    for tiny in TINY:
        x = tiny.inputs()
        sides = [_step(model().train(), x) for model in (tiny.ours, tiny.theirs)]
        yield compare(tiny.name, *sides, bound=1.02, effort=effort, control=True)


def _step(model: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    batch = torch.cat([x, x])  # batch norms need more than one value

    def run() -> None:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()

    return run
