"""From a module to a file in YAML, and back again to see whether it is the same."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from builder.errors import ConfigError, UsageError
from builder.importer.blocks import factored
from builder.importer.describe import MARK, Describer
from builder.importer.text import yaml_text
from builder.importer.trace import UNKNOWN, Call
from builder.model.build import build


@dataclass(frozen=True, slots=True)
class Imported:
    """The text of a definition. `marks` are the places that can't be said, with the reason; `notes` what else is known.

    `difference` is the largest absolute difference of the outputs for an example, None where there was none, or where
    the definition can't be built.
    """

    text: str
    marks: Mapping[str, str]
    notes: tuple[str, ...]
    difference: float | None
    parameters: int

    def __str__(self) -> str:
        lines = self.text.count("\n")
        return f"{lines} lines, {self.parameters:,} parameters"


def imported(model: nn.Module, examples: Mapping[str, Tensor], source: str) -> Imported:
    """A module as a definition; with `examples` of its inputs, shapes that its `forward` asks for are known.

    Raises:
        UsageError: an example is for an input that it hasn't.
    """
    names = _inputs(model, examples)
    call = Call({name: examples.get(name, UNKNOWN) for name in names})
    expected, keys = _outputs(model, examples, names), list(model.state_dict())
    traced = copy.deepcopy(model)
    describer = Describer(traced)
    found = describer.definition(traced, "", call)
    raw = factored(found)
    if examples:
        said = zip(raw.get("inputs", ["x"]), names, strict=True)
        shapes = {name: _input(examples[old]) if old in examples else None for name, old in said}
        raw = {"name": raw.pop("name"), "inputs": shapes, **_without(raw)}
    ties = _ties(model)
    raw |= {"tie": ties} if ties else {}
    marks, notes = dict(describer.marks), list(dict.fromkeys(describer.notes))
    difference = None
    if not marks:
        difference = _checked(raw, model, examples, names, expected, keys, marks)
    comments = [f"Imported from {source}.", *(f"CAN'T BE SAID: {path}: {why}" for path, why in marks.items())]
    comments += [f"Note: {note}" for note in notes]
    if marks:
        comments.append(f"Until the marks ({MARK}) are replaced, this is refused.")
    return Imported(yaml_text(raw, comments), marks, tuple(notes), difference,
                    sum(parameter.numel() for parameter in model.parameters()))  # fmt: skip


def _without(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key != "inputs"}


def _inputs(model: nn.Module, examples: Mapping[str, Tensor]) -> list[str]:
    """The inputs of the whole: what has no default, and what there is an example of."""
    parameters = list(inspect.signature(type(model).forward).parameters.values())[1:]
    plain = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    for name in examples:
        if name not in [one.name for one in plain]:
            raise UsageError(f"forward takes no {name!r}: it takes {', '.join(one.name for one in plain)}")
    return [one.name for one in plain if one.default is one.empty or one.name in examples]


def _input(example: Tensor) -> Any:
    shape = ["B", *example.shape[1:]]
    dtype = str(example.dtype).removeprefix("torch.")
    return shape if dtype == "float32" else {"shape": shape, "dtype": dtype}


def _outputs(model: nn.Module, examples: Mapping[str, Tensor], names: list[str]) -> Any:
    if not examples or any(name not in examples for name in names):
        return None
    training = model.training
    with torch.inference_mode():
        found = model.eval()(**{name: examples[name] for name in names})
    model.train(training)
    return found


def _ties(model: nn.Module) -> dict[str, str]:
    """Parameters that are one: later name → first name."""
    first: dict[int, str] = {}
    ties = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            ties[name] = first[id(parameter)]
        first.setdefault(id(parameter), name)
    return ties


def _checked(
    raw: dict[str, Any], model: nn.Module, examples: Mapping[str, Tensor], names: list[str], expected: Any,
    keys: list[str], marks: dict[str, str],
) -> float | None:  # fmt: skip
    """Build what was written, give it the model's weights, and compare; a fault becomes a mark."""
    try:
        again = build(copy.deepcopy(raw))
    except ConfigError as error:
        marks["the model"] = "what was written can't be built: " + " ".join(str(error.faults[0]).split())[:300]
        return None
    if list(again.state_dict()) != keys:
        odd = sorted(set(again.state_dict()) ^ set(keys))[:3]
        marks["the model"] = f"the keys are others: {', '.join(odd) or 'in another order'}"
        return None
    again.load_state_dict(model.state_dict())
    if expected is None:
        return None
    with torch.inference_mode():
        found = again.eval()(*(examples[name] for name in names))
    left, right = list(_tensors(expected)), list(_tensors(found))
    if [one.shape for one in left] != [one.shape for one in right]:
        marks["the model"] = "the outputs have other shapes"
        return None
    return max((float((a.double() - b.double()).abs().max()) for a, b in zip(left, right, strict=True)), default=0.0)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [one for item in value.values() for one in _tensors(item)]
    return [one for item in value for one in _tensors(item)] if isinstance(value, list | tuple) else []


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights beside its definition, as safetensors or as a state dict by the file's name."""
    from functools import partial

    from safetensors.torch import save_model

    from builder.durable import write_file

    if path.suffix == ".safetensors":
        save_model(model, str(path))
    else:
        write_file(path, partial(torch.save, model.state_dict()))
