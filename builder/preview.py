"""The straight line up to the model, and what can be told of it there. Loads no Lightning."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from builder.config.compose import Composed, refitted
from builder.config.folders import blocks, choices, search_path
from builder.config.model_file import ModelFile, read_model_file
from builder.config.origin import Origins
from builder.config.validate import validate
from builder.config.yaml_file import parse_yaml
from builder.data.fitting import fitting
from builder.data.load import Data, load
from builder.errors import DEFAULT, ConfigError, Fault, Origin, UsageError
from builder.inspect.diff import ModelDiff, diff_models
from builder.inspect.doctor.examine import examine
from builder.inspect.doctor.finding import Report
from builder.inspect.graph.draw import draw
from builder.inspect.graph.level import Drawing
from builder.inspect.graph.marks import frozen_words
from builder.inspect.summary import Summary, summarise
from builder.model.infer import Exploration, explore
from builder.model.init_read import with_rules
from builder.model.read import read_definition
from builder.model.source import source
from builder.model.spec import Definition, class_name
from builder.optim.optimizer import build_optimizer
from builder.plans import length
from builder.select import NamedModel, read_selector
from builder.settle import settle
from builder.training.made import shapes_of
from builder.weights.freeze import read_freeze, resolve
from builder.weights.freeze_report import phases_table


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


def describe_model(model: Composed | ModelFile, *, batch: int | None = None) -> Summary:
    """A model layer by layer, that of a config or of a file.

    `batch` is `data.batch_size` where it isn't given; for a file 1, if it runs with that, and the optimiser AdamW.

    Raises:
        ConfigError: something is wrong with the config, or the model doesn't run with such a batch.
        UsageError: there is a `batch`, and the model's inputs have no dimension for it.
    """
    definition, found, ready = _model_of(model)
    return summary_of(definition, found, ready, batch)


def summary_of(definition: Definition, found: Exploration, ready: Explored | None, batch: int | None = None) -> Summary:
    """What an explored model comes to; `ready` is the config's, None for the model of a file.

    Afterwards `found.model` requires gradients where the config says that it trains at some time.

    Raises:
        ConfigError: the model doesn't run with such a batch.
        UsageError: there is a `batch`, and the model's inputs have no dimension for it.
    """
    phases: list[str] = []
    if ready is not None:
        frozen = resolve(read_freeze(ready.composed.values["freeze"], ready.composed.origins), found.model)
        frozen.apply(found.model, sys.maxsize, sys.maxsize)  # what trains at some time, since that takes most memory
        steps = length(ready.composed.values["trainer"], len(ready.data.loader("train")))
        phases = phases_table(frozen, steps["steps_per_epoch"])
    trainable = [parameter for parameter in found.model.parameters() if parameter.requires_grad]
    optimizer: Optimizer | None = None
    if trainable and ready is not None:
        optimizer = build_optimizer(found.model, ready.composed.values["optimizer"], ready.composed.origins)
    elif trainable:
        optimizer = torch.optim.AdamW(trainable)
    usual, known = (None, ()) if ready is None else (ready.data.batch_size, tuple(ready.data.facts.tensors))
    summary = summarise(definition, found, batch=batch or usual, known=known, optimizer=optimizer)
    if batch is not None and not summary.batch:
        raise UsageError("--batch says nothing here: no first dimension of the model's inputs is free")
    return replace(summary, phases=tuple(phases))


def model_code(model: Composed | ModelFile) -> str:
    """A model, that of a config or of a file, as a Python file that needs nothing but PyTorch.

    Raises:
        ConfigError: something is wrong with the config.
    """
    definition, found, ready = _model_of(model)
    return source(definition, {}, {} if ready is None else ready.data.facts.values, found)


def draw_model(model: Composed | ModelFile) -> Drawing:
    """The drawing of a model, that of a config or of a file; what a config freezes at first is marked.

    Raises:
        ConfigError: something is wrong with the config.
    """
    return drawing_of(*_model_of(model))


def drawing_of(definition: Definition, found: Exploration, ready: Explored | None) -> Drawing:
    """The drawing of an explored model; `ready` is the config's, None for the model of a file."""
    plan = None
    if ready is not None:
        plan = resolve(read_freeze(ready.composed.values["freeze"], ready.composed.origins), found.model)
    return draw(definition, found, frozen_words(found.model, plan))


def examine_layers(model: Composed | ModelFile | None) -> Report:
    """What is wrong with the layers of users, as they are in a model; as they are by default where it has none of them.

    A model that can't be made is noted: its layers may be why.
    """
    if model is None:
        return examine()
    try:
        return examine(_model_of(model)[1].model)
    except ConfigError as error:
        fault = str(error.faults[0]).replace("\n", " ")
        return examine(
            None, [f"the config's model can't be made, so that layers were made with their defaults: {fault}"]
        )


def diff_of(one: Composed | ModelFile, other: Composed | ModelFile) -> ModelDiff:
    """What the second of two models differs in from the first.

    Raises:
        ConfigError: something is wrong with one of the configs.
    """
    return diff_models(_model_of(one)[:2], _model_of(other)[:2])


@dataclass(frozen=True, slots=True)
class Selected:
    """What a selector selects in a model: modules and parameters, each by its first name, and all names of each."""

    modules: Mapping[str, nn.Module]
    parameters: Mapping[str, nn.Parameter]
    aliases: Mapping[str, tuple[str, ...]]


def selected(model: Composed | ModelFile, text: str) -> Selected:
    """What a selector, written as in a config, selects in the model of a config or of a file.

    Raises:
        ConfigError: something is wrong with the config, or with the selector, or it selects nothing.
    """
    origin = Origin(shown := "selector")
    raw = parse_yaml(text, shown).value if text.lstrip().startswith(("{", "[")) else text.strip()
    selector, faults = read_selector(raw, (), lambda path: origin)
    if selector is None:
        raise ConfigError(*faults)
    named = NamedModel(_model_of(model)[1].model)
    fault = named.fault(selector)
    if fault is not None:
        raise ConfigError(fault)
    return Selected(named.modules_of(selector), named.parameters_of(selector), named.aliases)


def _model_of(model: Composed | ModelFile) -> tuple[Definition, Exploration, Explored | None]:
    if isinstance(model, Composed):
        ready = explored(model)
        return ready.definition, ready.found, ready
    values, origins = read_model_file(model)
    library = blocks(search_path(model.config_dir))
    definition = read_definition(values, origins, (), library, class_name(model.path.stem))
    return definition, explore(definition, {}, {}), None
