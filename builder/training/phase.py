"""What is gathered over one epoch of one phase (train, val, test): loss and metrics, as tensors until the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torchmetrics import Metric

from builder.training.raised import metric_raised
from builder.training.task import Task

FOLD = 256
"""Batches whose losses are kept before they are added up."""
PENDING = 1 << 18
"""Elements that a metric's pending updates may hold before they are given to it."""


class _Mean:
    """The mean of one number a batch, with the batches' sizes as weights."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._losses: list[Tensor] = []
        self._sizes: list[int] = []
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, loss: Tensor, size: int) -> None:
        """Take the number of a batch of `size` samples."""
        self._losses.append(loss)
        self._sizes.append(size)
        if len(self._losses) >= FOLD:
            self._fold()

    def value(self, device: torch.device) -> Tensor | None:
        """The mean over the batches of all processes; None without batches."""
        self._fold()
        if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
            return None if self._sum is None else self._sum / self._count
        both = torch.zeros(2, dtype=torch.float64, device=device)
        if self._sum is not None:
            both[0], both[1] = self._sum, self._count
        distributed.all_reduce(both)
        return (both[0] / both[1]).float() if both[1] else None

    def state(self) -> dict[str, Any]:
        """All that was taken, for a checkpoint. Nothing is added up for it: that would change the last bits."""
        losses = torch.stack(self._losses) if len({loss.dtype for loss in self._losses}) == 1 else list(self._losses)
        return {"losses": losses, "sizes": list(self._sizes), "sum": self._sum, "count": self._count}

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Be as `state` says, on a device."""
        self._losses = [loss.to(device) for loss in state["losses"]]
        self._sizes, self._count = list(state["sizes"]), state["count"]
        self._sum = None if state["sum"] is None else state["sum"].to(device)

    def _fold(self) -> None:
        if not self._losses:
            return
        losses = torch.stack(self._losses).float()
        total = (losses * torch.tensor(self._sizes, dtype=losses.dtype, device=losses.device)).sum()
        self._sum = total if self._sum is None else self._sum + total
        self._count += sum(self._sizes)
        self._losses, self._sizes = [], []


class Phase:
    """Gathers losses and metric updates of one phase; a plain object, since setting attributes of a module is slow.

    Losses are averaged with the batches' sizes as weights. Updates of a metric are joined along the batch dimension,
    so that its cost is paid once for many small batches.
    """

    def __init__(self, name: str, task: Task) -> None:
        self.name = name
        self.metrics = {key: metric.make() for key, metric in task.metrics.items()}
        self._task = task
        self._terms = {key: metric.of for key, metric in task.metrics.items()}
        self._means = {"loss": _Mean()} | {f"loss_{term}": _Mean() for term in task.loss.terms}
        self._device = torch.device("cpu")
        self._pending: dict[str, list[tuple[Tensor, ...]]] = {key: [] for key in self.metrics}
        self._elements = dict.fromkeys(self.metrics, 0)

    def to(self, device: torch.device) -> None:
        """Move the metrics to the device, if they aren't there."""
        if device != self._device:
            self._device = device
            for metric in self.metrics.values():
                metric.to(device)

    def add(self, loss: Tensor, values: Mapping[str, Any], size: int) -> None:
        """Take one batch of `size` samples: its loss, and what metrics may name. Nothing is copied or synchronised."""
        self._means["loss"].add(loss.detach(), size)
        for term in self._task.loss.terms:
            self._means[f"loss_{term}"].add(values.terms[term], size)  # type: ignore[attr-defined]
        for key, terms in self._terms.items():
            arguments, elements = [], 0
            for evaluate in terms:
                argument = evaluate(values)
                if isinstance(argument, Tensor):
                    argument, elements = argument.detach(), elements + argument.numel()
                arguments.append(argument)
            self._pending[key].append(tuple(arguments))
            self._elements[key] += elements
            if self._elements[key] >= PENDING:
                self._update(key)

    def compute(self) -> dict[str, Tensor]:
        """The mean loss and the metrics since the last reset by name, e.g. `val/loss`; empty without batches."""
        means = {key: mean.value(self._device) for key, mean in self._means.items()}
        values = {f"{self.name}/{key}": mean for key, mean in means.items() if mean is not None}
        return {**values, **self.measured()} if values else {}

    def take(self, key: str, updates: Sequence[tuple[Any, ...]]) -> None:
        """Give a metric what its terms said of some batches."""
        self._pending[key].extend(updates)
        self._update(key)

    def measured(self) -> dict[str, Tensor]:
        """The metrics since the last reset by name, e.g. `val/accuracy`."""
        values: dict[str, Tensor] = {}
        for key in self.metrics:
            self._update(key)
            values |= _scalars(f"{self.name}/{key}", self._call(key, "compute"))
        return values

    def reset(self) -> None:
        """Forget everything gathered."""
        for mean in self._means.values():
            mean.reset()
        for key, metric in self.metrics.items():
            self._pending[key], self._elements[key] = [], 0
            metric.reset()

    def state(self) -> dict[str, Any]:
        """All that was gathered, for a checkpoint."""
        return {
            "means": {key: mean.state() for key, mean in self._means.items()},
            "metrics": {key: metric_state(metric) for key, metric in self.metrics.items()},
            "pending": {key: _packed(pending) for key, pending in self._pending.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on gathering where `state` was saved."""
        for key, mean in self._means.items():
            mean.load_state(state["means"][key], self._device)
        for key, metric in self.metrics.items():
            load_metric_state(metric, state["metrics"][key], self._device)
            self._pending[key] = _unpacked(state["pending"][key], self._device)
            tensors = (one for row in self._pending[key] for one in row if isinstance(one, Tensor))
            self._elements[key] = sum(tensor.numel() for tensor in tensors)

    def _update(self, key: str) -> None:
        pending, self._pending[key], self._elements[key] = self._pending[key], [], 0
        if not pending:
            return
        if len(pending) > 1 and can_join(pending, type(self.metrics[key])):
            self._call(key, "update", *(torch.cat(column) for column in zip(*pending, strict=True)))
        else:
            for arguments in pending:
                self._call(key, "update", *arguments)

    def _call(self, key: str, method: str, *arguments: Any) -> Any:
        """Call a metric; what it raises says where in the config it stands."""
        try:
            return getattr(self.metrics[key], method)(*arguments)
        except Exception as error:  # whatever torchmetrics raises
            raise metric_raised(error, self._task.metrics[key].component, arguments) from error


def metric_state(metric: Any) -> dict[str, Any]:
    """The state of a metric of torchmetrics and of those inside of it, and how often each was updated."""
    parts = {name: part for name, part in metric.named_modules() if isinstance(part, Metric)}
    return {
        name: {"updates": part._update_count, "state": {key: _copy(getattr(part, key)) for key in part._defaults}}
        for name, part in parts.items()
    }


def load_metric_state(metric: Any, state: Mapping[str, Any], device: torch.device) -> None:
    """Put the state that `metric_state` gave into an equal metric."""
    parts = dict(metric.named_modules())
    for name, saved in state.items():
        for key, value in saved["state"].items():
            setattr(parts[name], key, _copy(value, device))
        parts[name]._update_count, parts[name]._computed = saved["updates"], None


def _copy(value: Any, device: torch.device | None = None) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_copy(item, device) for item in value)
    if not isinstance(value, Tensor):
        return value
    return value.detach().clone() if device is None else value.to(device)


def _packed(pending: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Updates for a file: tensors of all batches as one for each argument, since thousands of small ones take long."""
    if pending and can_join(pending, Metric) and all(map(_even, pending)) and _one_dtype(pending):
        return {
            "sizes": [len(arguments[0]) for arguments in pending],
            "joined": [torch.cat(column) for column in zip(*pending, strict=True)],
        }
    return {"sizes": None, "rows": [list(arguments) for arguments in pending]}


def _even(arguments: tuple[Tensor, ...]) -> bool:
    return len({len(argument) for argument in arguments}) == 1


def _one_dtype(pending: list[tuple[Tensor, ...]]) -> bool:
    return all(len({argument.dtype for argument in column}) == 1 for column in zip(*pending, strict=True))


def _unpacked(packed: Mapping[str, Any], device: torch.device) -> list[tuple[Any, ...]]:
    if packed["sizes"] is not None:
        columns = [column.to(device).split(packed["sizes"]) for column in packed["joined"]]
        return list(zip(*columns, strict=True))
    return [tuple(one.to(device) if isinstance(one, Tensor) else one for one in row) for row in packed["rows"]]


def can_join(pending: list[tuple[Any, ...]], metric: type) -> bool:
    """Whether updates differ at most in the length of their first dimension, and the metric doesn't count updates."""
    if "wrappers" in metric.__module__ or metric.__module__.endswith("aggregation"):
        return False
    first = pending[0]
    return all(
        isinstance(argument, Tensor) and argument.dim() and argument.shape[1:] == like.shape[1:]
        for arguments in pending
        for argument, like in zip(arguments, first, strict=True)
    )


def _scalars(name: str, value: Any) -> dict[str, Tensor]:
    """The numbers in what a metric computed, each under a name: `name`, `name/key` or `name/0`, `name/1`, …."""
    if isinstance(value, Mapping):
        return {k: v for key, item in value.items() for k, v in _scalars(f"{name}/{key}", item).items()}
    if isinstance(value, list | tuple):
        return {k: v for index, item in enumerate(value) for k, v in _scalars(f"{name}/{index}", item).items()}
    value = torch.as_tensor(value)
    if value.numel() == 1:
        return {name: value.reshape(())}
    return {f"{name}/{index}": item for index, item in enumerate(value.flatten())}
