"""Computes loss, prediction and metrics of a task once, to see that they can be. Knows no Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from builder.catalog.known import NotKnown
from builder.errors import Fault
from builder.lang.guard import bounded
from builder.training.raised import TermError, metric_raised
from builder.training.task import Task, TaskMetric


def try_out(task: Task, batch: Mapping[str, Tensor], output: Any) -> Fault | None:
    """What is wrong with loss, prediction and metrics of a task, found by computing them for one batch.

    Args:
        task: the task.
        batch: tensors as the data set gives them.
        output: what the model gives for the batch, or tensors of the same shapes and dtypes.

    Raises:
        NotKnown: a metric is a stand-in that can't tell.
    """
    try:
        with bounded():
            values = task.names(batch, output)
            task.loss.function(values)
            given = [(metric, [_detached(term(values)) for term in metric.of]) for metric in task.metrics.values()]
            for metric, arguments in given:
                _update(metric, arguments)
    except TermError as error:
        # Whether a matrix can be decomposed depends on its values, which may be other ones here.
        return None if isinstance(error.__cause__, torch.linalg.LinAlgError) else error.fault
    return None


def _update(metric: TaskMetric, arguments: list[Any]) -> None:
    try:
        metric.make().update(*arguments)
    except NotKnown:
        raise
    except Exception as error:  # whatever torchmetrics raises
        raise metric_raised(error, metric.component, arguments) from error


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
