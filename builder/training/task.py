"""The task: the model's inputs, the loss, the prediction, the metrics, and what is watched. Knows no Lightning."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from builder.catalog.component import Component
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Path, nearest
from builder.training.raised import TermError, told
from builder.training.terms import Expression, TaskReader

KEYS = ("inputs", "loss", "prediction", "metrics", "monitor", "mode")
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
class Loss:
    """A loss as a function of the named values; `module` holds what has to move to the device with it, if anything."""

    function: Callable[[Mapping[str, Any]], Tensor]
    module: nn.Module | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """What a model is trained to do.

    `inputs` names the batch's tensor for each input of the model in `forward`'s order; None for an optional input that
    the batch doesn't have. `monitor` is the metric that says which weights are best, `mode` whether `min` or `max` is.
    """

    inputs: tuple[str | None, ...]
    loss: Loss
    prediction: Expression | None
    metrics: Mapping[str, TaskMetric]
    monitor: str
    mode: str
    phases: tuple[str, ...] = PHASES

    def arguments(self, batch: Mapping[str, Tensor]) -> list[Tensor | None]:
        """What the model is called with, in order."""
        return [None if name is None else batch[name] for name in self.inputs]

    def names(self, batch: Mapping[str, Tensor], output: Any) -> dict[str, Any]:
        """What loss and metrics may name: the batch's tensors, `output` and `prediction`."""
        names = {**batch, "output": output}
        names["prediction"] = output if self.prediction is None else self.prediction(names)
        return names

    def metric_names(self) -> list[str]:
        """The names of all values that training will report, e.g. `val/accuracy`."""
        return [f"{phase}/{name}" for phase in self.phases for name in ("loss", *self.metrics)]


def read_task(
    section: Mapping[str, Any],
    facts: DataFacts,
    model_inputs: Mapping[str, bool],
    origins: Origins,
    path: Path = ("task",),
    *,
    outputs: Collection[str] | None = None,
) -> Task:
    """The task of the section `task:`.

    `model_inputs` are the model's inputs in `forward`'s order, each with whether it is required. `outputs` are the keys
    of the model's output: none for a tensor, None if it isn't known yet what the model gives.

    Raises:
        ConfigError: the section is wrong; all faults at once.
    """
    known_outputs = None if outputs is None else tuple(outputs)
    reader = TaskReader(facts.values, tuple(facts.tensors), origins, known_outputs)
    for key in section:
        if key not in KEYS:
            reader.fault(f"unknown key {key!r}", (*path, key), nearest=nearest(key, KEYS))
    inputs = _read_inputs(section.get("inputs") or {}, model_inputs, reader, (*path, "inputs"))
    prediction = _read_prediction(section.get("prediction", "output"), reader, (*path, "prediction"))
    loss = _read_loss(section.get("loss"), reader, (*path, "loss"))
    metrics = _read_metrics(section.get("metrics") or {}, reader, (*path, "metrics"))
    phases = tuple(phase for phase in PHASES if facts.values.get(f"num_{phase}", 1))
    names = dict.fromkeys(
        ["loss", *(section.get("metrics") or {})]
    )  # with the faulty ones, so as not to tell of them twice
    known = [f"{phase}/{name}" for phase in phases for name in names]
    monitor = _read_monitor(section, known, phases, reader, path)
    mode = _read_mode(section.get("mode"), monitor, metrics, reader, (*path, "mode"))
    if reader.faults or loss is None:
        raise ConfigError(*reader.faults)
    return Task(inputs, loss, prediction, metrics, monitor, mode, phases)


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


def _read_loss(section: Any, reader: TaskReader, path: Path) -> Loss | None:
    names = ("output", "prediction", *reader.tensors)
    if isinstance(section, str):
        expression = reader.expression(section, names, path)
        return None if expression is None else Loss(_scalar(expression, path, reader))
    if section is None:
        reader.fault("a task needs a loss", path, expected="an expression, e.g. cross_entropy(output, target)")
        return None
    of = reader.terms(section, ("output", "target"), names, path)
    module = reader.loss(section, path)
    if module is None or of is None:
        return None
    return Loss(_scalar(lambda values: module(*(term(values) for term in of)), path, reader), module)


def _scalar(term: Expression, path: Path, reader: TaskReader) -> Expression:
    """A loss whose exceptions say where it is written, and which is refused if it isn't a single number."""
    origin = reader.origins.of(path)
    loss_of = told(term, path, origin)

    def loss(values: Mapping[str, Any]) -> Tensor:
        value = loss_of(values)
        if not isinstance(value, Tensor) or value.dim():
            found = f"of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise TermError(Fault(f"the loss has to be a tensor without dimensions; it is {found}", path, origin))
        return value

    return loss


def _read_metrics(section: Mapping[str, Any], reader: TaskReader, path: Path) -> dict[str, TaskMetric]:
    names = ("output", "prediction", *reader.tensors)
    metrics = {}
    for name, part in section.items():
        place = (*path, name)
        if name == "loss":
            reader.fault("a metric can't be called 'loss': the loss itself is reported so", place)
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
