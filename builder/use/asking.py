"""What a trained model is asked with: which tensors it takes, on which device, in which numbers; what it predicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from builder.config.origin import Origins
from builder.errors import ConfigError, Path, UsageError
from builder.model.spec import Definition
from builder.precision import settled_precision
from builder.training.made import complete, read_tensors
from builder.training.terms import Expression, TaskReader

PRECISIONS = {
    "32": torch.float32, "32-true": torch.float32, "64": torch.float64, "64-true": torch.float64,
    "16-true": torch.float16, "bf16-true": torch.bfloat16,
}  # fmt: skip
"""Precisions of the trainer in which all numbers are of one kind."""
MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16, "16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Ask:
    """The tensors that a model takes, in order (None: an optional one that isn't there), and what it predicts.

    `tensors` are made of a batch's; `prediction` is an expression over them and `output`, None for the output itself.
    """

    inputs: tuple[str | None, ...]
    required: tuple[str, ...]
    tensors: Mapping[str, Expression]
    prediction: Expression | None

    def arguments(self, batch: dict[str, Tensor]) -> list[Tensor | None]:
        """What the model is called with.

        Raises:
            UsageError: it takes tensors that a batch doesn't have, and that can't be made of it.
        """
        if any(name not in batch for name in self.required):
            self._complete(batch)
        found = [batch.get(name) if name is not None else None for name in self.inputs]
        while found and found[-1] is None:
            found.pop()
        return found

    def _complete(self, batch: dict[str, Tensor]) -> None:
        try:
            complete(batch, self.tensors)
        except (KeyError, ConfigError) as error:
            missing = [name for name in self.required if name not in batch]
            hint = f"give them themselves, as .npz or JSON lines with {', '.join(missing)}"
            message = f"the model takes {', '.join(missing)}, which the task makes of more than is given"
            raise UsageError(f"{message}\n  hint:     {hint}") from error

    def predicted(self, batch: Mapping[str, Tensor], output: Any) -> Any:
        """What metrics see as `prediction`."""
        return output if self.prediction is None else self.prediction({**batch, "output": output})


def read_ask(
    section: Mapping[str, Any], definition: Definition, known: tuple[str, ...], facts: Mapping[str, Any]
) -> Ask:
    """The part of a config's section `task` that says how a model is asked.

    Args:
        section: the section.
        definition: the model's.
        known: names of tensors that a batch may have.
        facts: of the data.

    Raises:
        ConfigError: an expression is wrong.
    """
    mapping = section.get("inputs") or {}
    inputs = tuple(str(mapping.get(item.name, item.name)) for item in definition.inputs)
    required = tuple(name for name, item in zip(inputs, definition.inputs, strict=True) if not item.optional)
    path: Path = ("task",)
    reader = TaskReader(facts, tuple(dict.fromkeys([*known, *inputs, "target"])), Origins())
    made = section.get("tensors") or {}
    reader.tensors = tuple(name for name in reader.tensors if name not in made)
    tensors = read_tensors(made, reader, (*path, "tensors"))
    text = section.get("prediction", "output")
    names = ("output", *reader.tensors)
    prediction = None if text == "output" else reader.expression(text, names, (*path, "prediction"))
    if reader.faults:
        raise ConfigError(*reader.faults)
    return Ask(inputs, required, tensors, prediction)


@dataclass(frozen=True, slots=True)
class Runner:
    """A model on its device, called as in a test: without gradients, in the numbers that it was trained with."""

    model: nn.Module
    device: torch.device
    precision: str

    def __call__(self, arguments: list[Tensor | None]) -> Any:
        """The model's output for these tensors, on its device."""
        moved = [None if value is None else self.moved(value) for value in arguments]
        with self.calling():
            return self.model(*moved)

    def moved(self, value: Tensor) -> Tensor:
        """A tensor on the device, in the model's numbers."""
        value, dtype = value.to(self.device), PRECISIONS.get(self.precision, torch.float32)
        return value.to(dtype) if value.is_floating_point() and dtype != torch.float32 else value

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Within it the model may be called: no gradients, numbers as the precision has them."""
        with torch.inference_mode():
            if self.precision not in MIXED:
                yield
                return
            with torch.autocast(self.device.type, MIXED[self.precision]):
                yield


def make_runner(model: nn.Module, trainer: Mapping[str, Any], device: str | torch.device | None) -> Runner:
    """A model where it is to run: on `device`, or where the section `trainer` would have it on this machine.

    Raises:
        UsageError: there is no such device, or the precision is one of the trainer's alone.
    """
    chosen = torch.device(_usual(trainer)) if device is None else _device(device)
    precision = str(settled_precision(trainer.get("precision"), chosen.type))
    if precision not in PRECISIONS and precision not in MIXED:
        raise UsageError(f"a model trained with precision {precision} is asked by Lightning's trainer alone")
    model = model.to(chosen)
    if precision in PRECISIONS and PRECISIONS[precision] != torch.float32:
        model = model.to(PRECISIONS[precision])
    return Runner(model, chosen, precision)


def _device(device: str | torch.device) -> torch.device:
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"no device {device!s} here: {said}") from error
    return chosen


def _usual(trainer: Mapping[str, Any]) -> str:
    accelerator = str(trainer.get("accelerator", "auto"))
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"
