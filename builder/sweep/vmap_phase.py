"""What is gathered over one epoch of one phase (train, val, test) of several models at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from builder.sweep.vmap_model import Batch, Seen, part, updates_of
from builder.training.phase import FOLD, PENDING, Phase, can_join
from builder.training.task import Task


class Gathered:
    """Losses and metric updates of T models; they are parted once for many batches."""

    def __init__(self, name: str, tasks: Sequence[Task], device: torch.device) -> None:
        self._name, self._tasks = name, list(tasks)
        self._phases = [Phase(name, task) for task in tasks]
        for phase in self._phases:
            phase.to(device)
        self._forget()

    def _forget(self) -> None:
        self._seen: list[tuple[Seen, int]] = []
        self._updates: list[list[dict[str, tuple[Any, ...]]]] = []
        self._elements, self._count = 0, 0
        self._sums: dict[str, Tensor] = {}

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the models at these places alone."""
        self._phases = [self._phases[place] for place in places]
        self._tasks = [self._tasks[place] for place in places]

    def add(self, seen: Seen, batch: Batch, size: int, *, apart: bool) -> None:
        """Take a batch of `size` samples; `apart` says that each model has its own, stacked [T, …]."""
        if seen.updates is None:
            made = [updates_of(task, task.names(part(batch, index) if apart else batch, part(seen.outputs, index)))
                    for index, task in enumerate(self._tasks)]  # fmt: skip
            self._updates.append(made)
            held: Sequence[Any] = [one for updates in made for values in updates.values() for one in values]
        else:
            held = [one for values in seen.updates.values() for one in values]
        self._seen.append((seen, size))
        self._elements += sum(one.numel() for one in held if isinstance(one, Tensor))
        if len(self._seen) >= FOLD or self._elements >= PENDING * len(self._phases):
            self._fold()

    def values(self) -> list[dict[str, float]]:
        """The mean losses and the metrics of each model by name, e.g. `val/loss`; then all is forgotten.

        Empty without batches.
        """
        self._fold()
        found = []
        means = {f"{self._name}/{name}": (total / self._count).tolist() for name, total in self._sums.items()}
        for index, phase in enumerate(self._phases):
            values = {name: mean[index] for name, mean in means.items()}
            if values:
                values |= {name: float(value) for name, value in phase.measured().items()}
            phase.reset()
            found.append(values)
        self._forget()
        return found

    def _fold(self) -> None:
        """Add the losses up, with the batches' sizes as weights, and give the metrics their updates."""
        if not self._seen:
            return
        first = self._seen[0][0]
        sizes = torch.tensor([[float(size)] for _, size in self._seen], device=first.losses.device)
        columns = {"loss": [seen.losses for seen, _ in self._seen]}
        columns |= {f"loss_{term}": [seen.terms[term] for seen, _ in self._seen] for term in first.terms}
        for name, column in columns.items():
            total = (torch.stack(column).float() * sizes).sum(dim=0)
            self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._count += sum(size for _, size in self._seen)
        for key in self._tasks[0].metrics:
            joined = self._joined(key)
            for index, phase in enumerate(self._phases):
                if joined is None:
                    phase.take(key, [self._update(number, key, index) for number in range(len(self._seen))])
                else:
                    phase.take(key, [tuple(column[index] for column in joined)])
        self._seen, self._updates, self._elements = [], [], 0

    def _joined(self, key: str) -> list[Tensor] | None:
        """The updates of a metric of all batches and models as one, each [T, samples, …]; None where they can't be so.

        Joined before they are parted, so that it is done once, and not for each model.
        """
        rows = [seen.updates[key] for seen, _ in self._seen if seen.updates is not None]
        metric = type(self._phases[0].metrics[key])
        if len(rows) < len(self._seen) or not can_join([tuple(one[0] for one in row) for row in rows], metric):
            return None
        return [torch.cat(column, dim=1) for column in zip(*rows, strict=True)]

    def _update(self, number: int, key: str, index: int) -> tuple[Any, ...]:
        """What a batch says of a metric of a model."""
        updates = self._seen[number][0].updates
        if updates is None:
            return self._updates[number][index][key]
        return tuple(value[index] for value in updates[key])
