"""The stations before training: from a config to data, the model's tree and sizes, task, and plans for its weights.

Loads no Lightning unless there are hooks.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from builder.config.compose import Composed
from builder.data.load import Data
from builder.errors import ConfigError
from builder.explored import Explored, explored
from builder.model.infer import Exploration
from builder.optim.optimizer import build_optimizer
from builder.optim.scheduler import build_scheduler
from builder.plans import Plans, length, make_plans
from builder.registry import Registry
from builder.registry import metrics as registered_metrics
from builder.runs.folder import check_name
from builder.training.task import Task, read_task
from builder.training.try_out import try_out
from builder.weights.init_report import InitReport
from builder.weights.init_report import lines as init_lines

if TYPE_CHECKING:
    from builder.training.hooks.plan import PlannedHook


@dataclass(frozen=True, slots=True)
class Prepared(Explored):
    """What stands before training: the data, the model's tree and sizes, the task, and the plans for the weights."""

    task: Task
    plans: Plans
    hooks: tuple[PlannedHook, ...] = ()

    notes: tuple[object, ...] = ()
    """What in the config says nothing, though it is no error."""

    def lines(self, initial: InitReport) -> list[str]:
        """How the weights begin, if there are rules for it, and the plans for them, for people."""
        return [*(["", *init_lines(initial)] if self.definition.rules else []), *self.plans.lines()]


def prepare(composed: Composed, *, quiet: bool = False) -> Prepared:
    """All stations before training, up to the task and the optimiser of the model on the meta device.

    Unless `quiet`, what in the config says nothing, though it is no error, is noted on standard error.

    Raises:
        ConfigError: something is wrong with the config.
    """
    ready = planned(begun(composed))
    for note in () if quiet else ready.notes:
        print(f"note: {note}", file=sys.stderr)
    return ready


def begun(composed: Composed) -> Explored:
    """The stations up to the model.

    Raises:
        ConfigError: something is wrong with the config.
    """
    check_name(composed.values["name"], composed.origins.of(("name",)))
    return explored(composed)


def planned(ready: Explored, metrics: Registry = registered_metrics) -> Prepared:
    """The stations from the model on; `metrics` is where metrics are looked up.

    Raises:
        ConfigError: something is wrong with the config.
    """
    composed, data, definition, found = ready.composed, ready.data, ready.definition, ready.found
    values, origins = composed.values, composed.origins
    inputs = {item.name: not item.optional for item in definition.inputs}
    task = read_task(values["task"], data.facts, inputs, origins, outputs=_outputs(found), metrics=metrics)
    _try_out(task, data, found)
    plans = make_plans(found.model, values, origins, length(values["trainer"], len(data.loader("train"))))
    schedule = build_scheduler(
        build_optimizer(found.model, values["optimizer"], origins, trainable=plans.frozen.ever_trainable, planned=True),
        values["scheduler"] or None, origins, metrics=task.metric_names(), steps=_steps(values["trainer"], plans.steps),
    )  # fmt: skip
    unused = _unused(data, task, values["task"])
    notes = (*data.notes, *ready.chosen, *unused, *plans.notes(), *(schedule.notes if schedule else ()))
    return Prepared(composed, data, definition, found, ready.chosen, task, plans, _hooks(ready, plans), notes)


def _hooks(ready: Explored, plans: Plans) -> tuple[PlannedHook, ...]:
    """The hooks of the config, laid beside its model."""
    found, values = ready.found, ready.composed.values
    if not values["hooks"]:
        return ()
    from builder.training.hooks.plan import plan_hooks  # which imports Lightning

    sizes = [len(value) for value in found.inputs.values() if isinstance(value, torch.Tensor) and value.dim()]
    return plan_hooks(
        values, ready.composed.origins, found.model,
        given={call.path: call.outputs for call in found.calls} if found.ran else None,
        trainable=plans.frozen.ever_trainable, growth=ready.data.batch_size / max(sizes, default=1),
    )  # fmt: skip


def _unused(data: Data, task: Task, section: Mapping[str, Any]) -> list[str]:
    """Tensors of the data that neither the model nor the task takes, each as a note."""
    named = {"target", *task.inputs, *re.findall(r"\w+", repr(section))}
    named |= {name for name, fact in data.facts.tensors.items() if 0 in fact.shape}  # which hold nothing
    return [f"data: neither the model nor the task takes {name!r}" for name in data.facts.tensors if name not in named]


def _steps(trainer: Mapping[str, Any], known: Mapping[str, int]) -> dict[str, int]:
    """The numbers that a scheduler's formulas may use: of those that are known, what Lightning tells when it trains."""
    epochs = trainer.get("max_epochs")
    withheld = {"steps_per_epoch"} if trainer.get("max_steps", -1) >= 0 else set()
    withheld |= {"max_epochs"} if withheld and (epochs or -1) < 0 else set()
    return {name: number for name, number in known.items() if name not in withheld}


def _outputs(found: Exploration) -> tuple[str, ...] | None:
    """The keys of the model's output, none for one that isn't a mapping; None where the model wasn't run."""
    if not found.ran:
        return None
    return tuple(map(str, found.outputs)) if isinstance(found.outputs, dict) else ()


def _try_out(task: Task, data: Data, found: Exploration) -> None:
    """Compute loss and metrics once, for the first samples and an output of the shapes that the model gives.

    Raises:
        ConfigError: they can't be computed.
    """
    sizes = {len(value) for value in found.inputs.values() if isinstance(value, torch.Tensor) and value.dim()}
    samples = {name: tensor[: max(sizes)] for name, tensor in data.splits["train"].items()} if found.ran else {}
    if len(sizes) == 1 and {len(tensor) for tensor in samples.values()} == sizes and _is_plain(found.outputs):
        fault = try_out(task, samples, _stand_in(found.outputs))
        if fault is not None:
            raise ConfigError(fault)


def _is_plain(value: Any) -> bool:
    """Whether a value is made of tensors, mappings, lists and tuples."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    return isinstance(value, torch.Tensor) or (type(value) in (list, tuple) and all(map(_is_plain, value)))


def _stand_in(value: Any) -> Any:
    """An output with numbers in it, of the shapes and dtypes of one on the meta device."""
    if isinstance(value, torch.Tensor):
        made = torch.zeros(value.shape, dtype=value.dtype)
        return made.uniform_(generator=torch.Generator().manual_seed(0)) if made.is_floating_point() else made
    if isinstance(value, Mapping):
        return {key: _stand_in(item) for key, item in value.items()}
    return type(value)(map(_stand_in, value))
