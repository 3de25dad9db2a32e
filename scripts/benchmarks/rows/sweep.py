"""16 trials of the digits MLP: together in one compiled step, against a bare loop for each, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from measure import Effort, Row, compare
from torch import Tensor, nn
from torch.nn import functional
from trials import DigitsTask, Mlp

from builder.sweep.vmap_model import Together

TITLE = "16 trials of the digits MLP trained together / a bare loop for each"
TRIALS, BATCH, BATCHES = 16, 64, 20
RATES = [10 ** (-1 - 3 * index / TRIALS) for index in range(TRIALS)]


def rows(effort: Effort) -> Iterator[Row]:
    """An epoch of all trials: compiled, and as it is. The bound is on our time by theirs: a quarter."""
    hidden = 128 if effort.full else 8
    batches = [{"x": torch.rand(BATCH, 64), "target": torch.randint(10, (BATCH,))} for _ in range(BATCHES)]
    theirs = _bare(hidden, batches)
    if effort.full:
        yield compare("compiled", _together(hidden, batches, True), theirs, bound=0.25, effort=effort, pairs=15)
    yield compare("not compiled", _together(hidden, batches, False), theirs, bound=1.0, effort=effort, pairs=15)


def _models(hidden: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [Mlp(hidden) for _ in range(TRIALS)]


def _bare(hidden: int, batches: list[dict[str, Tensor]]) -> Callable[[], None]:
    models = _models(hidden)
    optimizers = [torch.optim.AdamW(model.parameters(), lr) for model, lr in zip(models, RATES, strict=True)]

    def epoch() -> None:
        for model, optimizer in zip(models, optimizers, strict=True):
            for batch in batches:
                optimizer.zero_grad()
                functional.cross_entropy(model(batch["x"]), batch["target"]).backward()
                optimizer.step()

    return epoch


def _together(hidden: int, batches: list[dict[str, Tensor]], compiled: bool) -> Callable[[], None]:
    trials = Together(
        _models(hidden), [DigitsTask()] * TRIALS,
        lambda index, model: torch.optim.AdamW(model.parameters(), RATES[index]),
        device=torch.device("cpu"), dtype=torch.float32,
    )  # fmt: skip
    if compiled:
        trials.compile()

    def epoch() -> None:
        for batch in batches:
            trials.step(batch, whole=True)

    return epoch
