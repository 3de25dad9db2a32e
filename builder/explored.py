"""The straight line up to the model on the meta device. Loads no Lightning, and little besides PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.config.compose import Composed, refitted
from builder.config.folders import blocks, choices
from builder.config.origin import Origins
from builder.config.validate import validate
from builder.data.fitting import fitting
from builder.data.load import Data, load
from builder.errors import DEFAULT, ConfigError, Fault
from builder.model.infer import Exploration, explore
from builder.model.init_read import with_rules
from builder.model.read import read_definition
from builder.model.spec import Definition, class_name
from builder.settle import settle
from builder.training.made import shapes_of


@dataclass(frozen=True, slots=True)
class Explored:
    """A config's model on the meta device, and the data that its sizes follow from.

    `chosen` says of what nobody chose what was taken, since it suits the data.
    """

    composed: Composed
    data: Data
    definition: Definition
    found: Exploration
    chosen: tuple[str, ...]


def explored(composed: Composed) -> Explored:
    """All stations up to the model on the meta device; says on standard error what it dropped.

    Raises:
        ConfigError: something is wrong with the config.
    """
    composed, read, chosen = fitted(composed)
    composed, dropped = settle(composed)
    for argument in dropped:
        print(argument, file=sys.stderr)
    validate(composed)
    values, origins = composed.values, composed.origins
    definition = read_definition(
        values["model"],
        origins,
        ("model",),
        blocks(composed.search_path),
        class_name(composed.choices.get("model") or "model"),
    )
    definition = with_rules(definition, values["init"], origins)
    data = read or load(values["data"], values["seed"], origins)
    examples = _examples(data, values["task"], origins)
    return Explored(composed, data, definition, explore(definition, {}, data.facts.values, examples), chosen)


def fitted(composed: Composed) -> tuple[Composed, Data | None, tuple[str, ...]]:
    """A config with what suits its data where nothing was chosen; the data, if it had to be read; what was chosen.

    Raises:
        ConfigError: the data can't be read, or nothing is known to suit it, or the config is wrong with what suits it.
    """
    if not composed.open:
        return composed, None, ()
    settled = settle(composed)[0]
    validate(settled, "data")
    section, seed = settled.values["data"], settled.values["seed"]
    data = load(section, seed, settled.origins)
    fits = {group: choice for group, choice in fitting(data.facts, data.fits).items() if group in composed.open}
    if unknown := [group for group in composed.open if group not in fits]:
        raise ConfigError(*(_not_fitting(group, composed, data) for group in unknown))
    composed = refitted(composed, fits)
    same = (composed.values["data"], composed.values["seed"]) == (section, seed)
    said = " ".join(f"{group}={choice}" for group, choice in fits.items())
    return composed, data if same else None, (f"taken, since it suits the data: {said}",)


def _not_fitting(group: str, composed: Composed, data: Data) -> Fault:
    """The fault of data for which it isn't known which model or task suits it."""
    tensors = ", ".join(f"{name} {list(fact.shape)} {fact.dtype}" for name, fact in data.facts.tensors.items())
    expected = f"one of {', '.join(choices(composed.search_path, group))}"
    message = f"nothing is known of which {group} suits this data: a sample has {tensors}"
    x, hint = data.facts.tensors.get("x"), f"choose one: {group}=NAME"
    if group == "model" and x is not None and "int" in x.dtype:
        hint = "models take numbers as float32" + (
            ": data.dtypes='{x: float32}'" if composed.values["data"].get("type") == "Arrays" else ""
        )
    return Fault(message, (group,), DEFAULT, expected=expected, hint=hint)


def _examples(data: Data, task: Mapping[str, Any], origins: Origins) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of a small batch by input: each takes the tensor of its own name, or the one it is told."""
    size = min(data.batch_size, 2)
    shapes = {name: ((size, *fact.shape), fact.dtype) for name, fact in data.facts.tensors.items()}
    shapes |= shapes_of(task.get("tensors"), data.facts.tensors, size, origins)
    inputs = task.get("inputs") or {}
    return shapes | {name: shapes[tensor] for name, tensor in inputs.items() if tensor in shapes}
