"""The task: the model's inputs, the loss, the prediction, the metrics, and what is watched. Knows no Lightning."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from builder.catalog.component import Component
from builder.config.origin import Origins
from builder.errors import ConfigError, Path, nearest
from builder.registry import Registry
from builder.registry import metrics as registered_metrics
from builder.training.loss import Loss, Values, read_loss
from builder.training.made import complete, read_tensors
from builder.training.raised import told
from builder.training.terms import Expression, TaskReader

KEYS = ("tensors", "inputs", "loss", "prediction", "metrics", "monitor", "mode")
PHASES = ("train", "val", "test")


class DataFacts(Protocol):
    """What a task needs to know of the data: values for formulas, and the tensors of a batch by name."""

    @property
    def values(self) -> Mapping[str, Any]:
        """What formulas see as `data.<name>`."""

    @property
    def tensors(self) -> Mapping[str, Any]:
        """The tensors of a batch by name."""


@dataclass(frozen=True, slots=True)
class TaskMetric:
    """A metric of torchmetrics: how to make one, and what it is updated with (names and expressions)."""

    component: Component
    of: tuple[Expression, ...]

    def make(self) -> Any:
        """A new, empty metric."""
        return self.component.make()


@dataclass(frozen=True, slots=True)
class Task:
    """What a model is trained to do.

    `inputs` names the batch's tensor for each input of the model in `forward`'s order; None for an optional input that
    the batch doesn't have. `tensors` are made of the batch's and added to them. `monitor` is the metric that says which
    weights are best, `mode` whether `min` or `max` is.
    """

    inputs: tuple[str | None, ...]
    loss: Loss
    prediction: Expression | None
    metrics: Mapping[str, TaskMetric]
    monitor: str
    mode: str
    phases: tuple[str, ...] = PHASES
    tensors: Mapping[str, Expression] = field(default_factory=dict)

    def complete(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The batch with the tensors that are made of it."""
        return complete(batch, self.tensors)

    def arguments(self, batch: Mapping[str, Tensor]) -> list[Tensor | None]:
        """What the model is called with, in order; `batch` gets the tensors that are made of it."""
        batch = self.complete(batch)
        return [None if name is None else batch[name] for name in self.inputs]

    def names(self, batch: Mapping[str, Tensor], output: Any) -> dict[str, Any]:
        """What loss and metrics may name: the batch's tensors, `output` and `prediction`."""
        batch = self.complete(batch)
        names: dict[str, Any] = Values(batch, output=output) if self.loss.terms else {**batch, "output": output}
        names["prediction"] = output if self.prediction is None else self.prediction(names)
        return names

    def metric_names(self) -> list[str]:
        """The names of all values that training will report, e.g. `val/accuracy`."""
        return [f"{phase}/{name}" for phase in self.phases for name in (*self.losses(), *self.metrics)]

    def losses(self) -> list[str]:
        """The names of the loss and of its terms, e.g. `loss`, `loss_kl`."""
        return ["loss", *(f"loss_{name}" for name in self.loss.terms)]


def read_task(
    section: Mapping[str, Any],
    facts: DataFacts,
    model_inputs: Mapping[str, bool],
    origins: Origins,
    path: Path = ("task",),
    *,
    outputs: Collection[str] | None = None,
    metrics: Registry = registered_metrics,
) -> Task:
    """The task of the section `task:`.

    `model_inputs` are the model's inputs in `forward`'s order, each with whether it is required. `outputs` are the keys
    of the model's output: none for a tensor, None if it isn't known yet what the model gives. `metrics` is where
    metrics are looked up.

    Raises:
        ConfigError: the section is wrong; all faults at once.
    """
    known_outputs = None if outputs is None else tuple(outputs)
    reader = TaskReader(facts.values, tuple(facts.tensors), origins, known_outputs, metrics)
    for key in section:
        if key not in KEYS:
            reader.fault(f"unknown key {key!r}", (*path, key), nearest=nearest(key, KEYS))
    tensors = read_tensors(section.get("tensors") or {}, reader, (*path, "tensors"))
    inputs = _read_inputs(section.get("inputs") or {}, model_inputs, reader, (*path, "inputs"))
    prediction = _read_prediction(section.get("prediction", "output"), reader, (*path, "prediction"))
    loss = read_loss(section.get("loss"), ("output", "prediction", *reader.tensors), reader, (*path, "loss"))
    losses = ["loss", *_term_names(section.get("loss"))]
    read = _read_metrics(section.get("metrics") or {}, losses, reader, (*path, "metrics"))
    phases = tuple(phase for phase in PHASES if facts.values.get(f"num_{phase}", 1))
    names = dict.fromkeys([*losses, *(section.get("metrics") or {})])  # with the faulty ones, not to tell of them twice
    known = [f"{phase}/{name}" for phase in phases for name in names]
    monitor = _read_monitor(section, known, phases, reader, path)
    mode = _read_mode(section.get("mode"), monitor, read, reader, (*path, "mode"))
    if reader.faults or loss is None:
        raise ConfigError(*reader.faults)
    return Task(inputs, loss, prediction, read, monitor, mode, phases, tensors)


def _read_inputs(
    mapping: Mapping[str, str], model_inputs: Mapping[str, bool], reader: TaskReader, path: Path
) -> tuple[str | None, ...]:
    for name in mapping:
        if name not in model_inputs:
            expected, near = " | ".join(model_inputs), nearest(name, model_inputs)
            reader.fault(f"the model has no input {name!r}", (*path, name), expected=expected, nearest=near)
    tensors: list[str | None] = []
    for name, required in model_inputs.items():
        tensor = mapping.get(name, name)
        if tensor not in reader.tensors:
            if name in mapping:
                _no_tensor(f"a batch has no tensor {tensor!r}", tensor, reader, (*path, name))
            elif required:
                _no_tensor(f"the model needs {name!r}, and a batch has no tensor of that name", name, reader, path)
        tensors.append(tensor if tensor in reader.tensors else None)
    while tensors and tensors[-1] is None:  # optional inputs at the end are left to forward's own default
        tensors.pop()
    return tuple(tensors)


def _no_tensor(message: str, name: str, reader: TaskReader, path: Path) -> None:
    hint = f"say which tensor it takes: task.inputs.{name}: {reader.tensors[0]}" if path[-1] == "inputs" else None
    expected = f"one of the batch's tensors: {', '.join(reader.tensors)}"
    reader.fault(message, path, expected=expected, nearest=nearest(name, reader.tensors), hint=hint)


def _read_prediction(text: Any, reader: TaskReader, path: Path) -> Expression | None:
    if text == "output":
        return None
    expression = reader.expression(text, ("output", *reader.tensors), path)
    return None if expression is None else told(expression, path, reader.origins.of(path))


def _term_names(section: Any) -> list[str]:
    """The names under which the terms of a loss are reported, the faulty ones too."""
    return [f"loss_{name}" for name in section] if isinstance(section, Mapping) and "type" not in section else []


def _read_metrics(
    section: Mapping[str, Any], losses: Collection[str], reader: TaskReader, path: Path
) -> dict[str, TaskMetric]:
    names = ("output", "prediction", *reader.tensors)
    metrics = {}
    for name, part in section.items():
        place = (*path, name)
        if name in losses:
            what = "the loss itself" if name == "loss" else "a term of the loss"
            reader.fault(f"a metric can't be called {name!r}: {what} is reported so", place)
        of = reader.terms(part, ("prediction", "target"), names, place)
        component = reader.metric(part, place)
        if component is not None and of is not None:
            metrics[name] = TaskMetric(component, tuple(told(term, place, reader.origins.of(place)) for term in of))
    return metrics


def _read_monitor(
    section: Mapping[str, Any], known: list[str], phases: tuple[str, ...], reader: TaskReader, path: Path
) -> str:
    default = "val/loss" if "val" in phases else "train/loss"
    monitor = section.get("monitor") or default
    if monitor not in known:
        place = (*path, "monitor")
        expected, near = " | ".join(known), nearest(monitor, known)
        reader.fault(f"there will be no metric {monitor!r}", place, expected=expected, nearest=near)
    elif monitor.startswith("test/"):
        reader.fault(
            "the test split decides nothing", (*path, "monitor"), found=monitor, expected="a metric of train or val"
        )
    return monitor


def _read_mode(mode: Any, monitor: str, metrics: Mapping[str, TaskMetric], reader: TaskReader, path: Path) -> str:
    if mode in ("min", "max"):
        return mode
    if mode is not None:
        reader.fault("unknown mode", path, found=mode, expected="min | max")
        return "min"
    name = monitor.partition("/")[2]
    if name not in metrics:
        return "min"
    higher_is_better = getattr(metrics[name].component.target, "higher_is_better", None)
    if higher_is_better is None:
        reader.fault(f"it isn't known whether {name!r} should rise or fall", path, expected="mode: min | max")
    return "max" if higher_is_better else "min"
