"""Learning rates that a config gives, kept with a run: one that was changed since is applied when the run goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer

IN_GROUP = ("initial_lr", "max_lr", "min_lr")
"""Where schedulers keep rates in a group."""
IN_SCHEDULER = ("base_lrs", "_last_lr")
"""Where they keep rates of all groups, in their order."""


def first_rates(optimizer: Optimizer) -> dict[str, float]:
    """The rate that each group begins with, by its name, once the scheduler is made."""
    groups = enumerate(optimizer.param_groups)
    return {str(g.get("name", i)): float(g.get("initial_lr", g["lr"])) for i, g in groups if "lr" in g}


def put_base_rates(trainer: pl.Trainer, then: Mapping[str, float], now: Mapping[str, float]) -> None:
    """Multiply each group's rate, as restored, by what its first one was changed by since; the scheduler's too."""
    changes = {name: (then[name], rate) for name, rate in now.items() if name in then and then[name] != rate}
    for optimizer in trainer.optimizers if changes else ():
        found = [changes.get(str(group.get("name", i))) for i, group in enumerate(optimizer.param_groups)]
        for group, change in zip(optimizer.param_groups, found, strict=True):
            for name in ("lr", *IN_GROUP):
                if change is not None and name in group:
                    group[name] = _scaled(group[name], *change)
        for config in trainer.lr_scheduler_configs:
            for scheduler in _all(config.scheduler):
                _rescale(scheduler, found)


def _rescale(scheduler: Any, factors: list[tuple[float, float] | None]) -> None:
    for name in IN_SCHEDULER:
        values = getattr(scheduler, name, None)
        if values is not None:
            scaled = [
                value if change is None else _scaled(value, *change)
                for value, change in zip(values, factors, strict=True)
            ]
            setattr(scheduler, name, scaled)


def _scaled(value: Any, then: float, now: float) -> Any:
    """A rate as it would be had `now` been given for `then`; a tensor is changed in place."""
    scaled = now if float(value) == then else float(value) * (now / then) if then else now
    return value.fill_(scaled) if hasattr(value, "fill_") else scaled


def _all(scheduler: Any) -> Iterator[Any]:
    """A scheduler and those that it is made of."""
    yield scheduler
    for inner in getattr(scheduler, "_schedulers", ()):
        yield from _all(inner)
