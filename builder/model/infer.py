"""Runs a model once on the meta device: finds the sizes that were left out, every shape, and what doesn't fit.

Nothing is allocated and nothing is initialised, so that this costs a few microseconds a layer whatever its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from builder.errors import ConfigError, Fault
from builder.lang.guard import bounded
from builder.model.infer_inputs import GUESSES, check_given, example_inputs, free_dimensions
from builder.model.infer_mode import Exploring
from builder.model.infer_mode import SkipInit as SkipInit
from builder.model.infer_mode import is_unrolled as is_unrolled
from builder.model.infer_run import DependsOnData, Meter, Misfit, run
from builder.model.infer_sketch import sketched
from builder.model.init_rules import check_rules
from builder.model.make import Maker
from builder.model.pending import Names, Pending, Refused, Sizes, idle, settle
from builder.model.record import Call, Shape
from builder.model.sizes import inferable
from builder.model.spec import Definition, Node
from builder.model.whence import traced


@dataclass(frozen=True, slots=True)
class Exploration:
    """What the meta device told: the model on it, the sizes found, the calls in order, and the inputs it was given.

    `keys` says of the model's blocks which are equal, as in `Maker`.
    """

    model: nn.Module
    sizes: Sizes
    calls: tuple[Call, ...]
    inputs: Mapping[str, Any]
    outputs: Any
    ran: bool
    nodes: Mapping[str, Node]
    keys: Mapping[str, tuple[Any, ...]]


def explore(
    definition: Definition,
    given: Names,
    data: Names,
    examples: Mapping[str, tuple[Shape, str]] | None = None,
) -> Exploration:
    """Make the model on the meta device and run it.

    Args:
        definition: the model.
        given: values for its arguments.
        data: facts of the data set.
        examples: shape (batch dimension included) and dtype of the tensors that the data set gives, by input name.

    Raises:
        ConfigError: a layer refuses its arguments, or shapes don't fit, or a size can't be found.
    """
    check_given(definition, given)
    examples = examples or {}
    free = free_dimensions(definition, examples)
    failures: list[Fault] = []
    found: Exploration | None = None
    maker, model = _make(definition, given, data)
    for guess in GUESSES if free else GUESSES[:1]:
        inputs = example_inputs(definition, {"data": data, **model.__dict__}, examples, guess)
        if inputs is None:
            return _unrun(model, maker)
        try:
            calls, outputs = run(model, inputs, maker)
        except DependsOnData:
            return _half_run(model, maker, inputs)
        except Misfit as error:
            _refuse_guessed(maker, free)
            failures.append(error.fault)
            if found is None:
                maker, model = _make(definition, given, data)
            continue
        if found is not None:
            break  # a second run with other sizes of the free dimensions agrees
        found = Exploration(model, maker.sizes, calls, inputs, outputs, True, maker.nodes, maker.keys)
        if not free or not maker.sizes:
            break
    if found is None:
        raise ConfigError(*traced(failures[:1], maker))
    _refuse_idle(maker, model, "it was not called when the model was run")
    _complete(model, maker)
    return found


def find_sizes(
    definition: Definition, given: Names, data: Names, examples: Mapping[str, tuple[Shape, str]] | None = None
) -> Sizes:
    """The sizes that `explore` finds, in less time: of parts that are equal only one is made.

    Raises:
        ConfigError: as `explore`.
    """
    check_given(definition, given)
    sizes = sketched(definition, given, data, examples or {})
    return explore(definition, given, data, examples).sizes if sizes is None else sizes


def _half_run(model: nn.Module, maker: Maker, inputs: Mapping[str, Any]) -> Exploration:
    """A model that can't be run to its end: what comes before that end may lack sizes, not what comes after."""
    _refuse_idle(model=model, maker=maker, why="what comes before it depends on the data's values")
    _complete(model, maker)
    return Exploration(model, maker.sizes, (), inputs, None, False, maker.nodes, maker.keys)


def _complete(model: nn.Module, maker: Maker) -> None:
    """Make what is still pending, and check what could be checked only now.

    Raises:
        ConfigError: a layer refuses its arguments, or `forward` names what a layer doesn't have.
    """
    try:
        with torch.device("meta"), Exploring():
            settle(model)
            maker.tie_again(model)
            for path, definition in maker.made.items():
                if definition.frozen:  # what was pending when the rest of it was frozen
                    model.get_submodule(path).requires_grad_(False)
    except Refused:
        raise ConfigError(*traced(maker.faults, maker)) from None
    _check_references(model, maker)
    check_rules(maker.rules)


def rerun(found: Exploration, inputs: Mapping[str, Any], meter: Meter | None = None) -> tuple[Call, ...]:
    """Run an explored model once more, with other inputs on the meta device; with gradients if it is measured.

    Raises:
        ConfigError: it doesn't run with these.
    """
    try:
        return run(found.model, inputs, Maker(True, nodes=dict(found.nodes), keys=dict(found.keys)), meter)[0]
    except Misfit as error:
        raise ConfigError(error.fault) from None
    except DependsOnData:
        raise ConfigError(Fault("the model can't be run without the values of its inputs")) from None


def _refuse_guessed(maker: Maker, free: tuple[str, ...]) -> None:
    """Refuse sizes that follow from a guess for a free dimension: another guess gave others."""
    faults = [
        Fault(f"{', '.join(names)} of layer {path!r} depends on a free dimension of the inputs",
              maker.nodes[path].place.path, maker.nodes[path].place.origin,
              found=f"free dimensions {', '.join(free)}", expected="a size in its place, or one given here")
        for path, names in maker.guessed.items()
    ]  # fmt: skip
    if faults:
        raise ConfigError(*faults)


def _make(definition: Definition, given: Names, data: Names) -> tuple[Maker, nn.Module]:
    maker = Maker(exploring=True)
    try:
        with bounded(), torch.device("meta"), Exploring():
            return maker, maker.root(definition, given, data)
    except Refused:
        raise ConfigError(*traced(maker.faults, maker)) from None


def _check_references(model: nn.Module, maker: Maker) -> None:
    """Refuse what a `forward` names below a layer and the layer doesn't have."""
    faults = []
    for path, definition in maker.made.items():
        if definition.forward is None or not definition.forward.references:
            continue
        module = model.get_submodule(path)
        for reference in definition.forward.references:
            modules = [name for name, _ in module.named_modules(remove_duplicate=False)]
            tensors = [name for name, _ in module.named_parameters(remove_duplicate=False)]
            tensors += [name for name, _ in module.named_buffers(remove_duplicate=False)]
            faults.append(reference.fault(modules, tensors))
    if found := [fault for fault in faults if fault is not None]:
        raise ConfigError(*dict.fromkeys(found))


def _refuse_idle(maker: Maker, model: nn.Module, why: str) -> None:
    """Refuse layers whose sizes are not known after the run."""
    faults = []
    for path in idle(model):
        node = maker.nodes[path]
        assert node.target is not None
        missing = sorted(inferable(node.target) - set(node.arguments))
        faults.append(
            Fault(f"the sizes of layer {path!r} can't be found: {why}", node.place.path, node.place.origin,
                  hint=f"give {node.type} its {' and '.join(missing) or 'sizes'}")
        )  # fmt: skip
    if faults:
        raise ConfigError(*faults)


def _unrun(model: nn.Module, maker: Maker) -> Exploration:
    """A model of whose inputs nothing is known: it can't be run, so that no size may be missing."""
    for path, module in model.named_modules():
        if isinstance(module, Pending):
            node = maker.nodes[path]
            raise ConfigError(
                Fault(f"the sizes of layer {path!r} can't be found: nothing is known of the model's inputs",
                      node.place.path, node.place.origin,
                      hint="declare their shapes, for example `inputs: {x: [B, 3, 32, 32]}`, or give the sizes")
            )  # fmt: skip
    _check_references(model, maker)
    check_rules(maker.rules)
    return Exploration(model, maker.sizes, (), {}, None, False, maker.nodes, maker.keys)
