"""What can be told of a model before it is trained: its table, its code, its drawing. Loads no Lightning."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.optim import Optimizer

from builder.config.compose import Composed
from builder.config.folders import blocks, search_path
from builder.config.model_file import ModelFile, read_model_file
from builder.config.yaml_file import parse_yaml
from builder.errors import ConfigError, Origin, UsageError
from builder.explored import Explored, explored
from builder.inspect.diff import ModelDiff, diff_models
from builder.inspect.doctor.examine import examine
from builder.inspect.doctor.finding import Report
from builder.inspect.graph.draw import draw
from builder.inspect.graph.level import Drawing
from builder.inspect.graph.marks import frozen_words
from builder.inspect.summary import Summary, summarise
from builder.model.infer import Exploration, explore
from builder.model.read import read_definition
from builder.model.source import source
from builder.model.spec import Definition, class_name
from builder.optim.optimizer import build_optimizer
from builder.plans import length
from builder.select import NamedModel, read_selector
from builder.weights.freeze import read_freeze, resolve
from builder.weights.freeze_report import phases_table


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
