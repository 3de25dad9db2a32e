"""A definition in YAML → the `nn.Module`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from builder.config.folders import blocks, search_path
from builder.config.interpolation import resolve
from builder.config.origin import Origins
from builder.config.tree import has_interpolation
from builder.config.yaml_file import read_yaml
from builder.errors import ConfigError, Fault, nearest
from builder.model.infer import SkipInit, explore, find_sizes
from builder.model.make import Maker
from builder.model.pending import Names, Refused, Sizes
from builder.model.read import read_definition
from builder.model.spec import Definition, class_name
from builder.weights.initialise import Touched


def construct(
    definition: Definition, given: Names, data: Names, sizes: Sizes, device: torch.device | str | None = None,
    *, touched: Touched | None = None, keeps: bool = False,
) -> nn.Module:  # fmt: skip
    """Make the model for real: what a hand-written constructor does, in its order.

    Args:
        definition: the model.
        given: values for its arguments.
        data: facts of the data set.
        sizes: the sizes that were left out, as `explore` or `find_sizes` found them.
        device: where parameters and buffers are made; `meta` makes them without memory and without initial values.
        touched: where it is noted what initialisation rules filled.
        keeps: on the meta device, make buffers that no state dict holds for real, with their values.

    Raises:
        ConfigError: an initialiser refuses its arguments, or there isn't so much memory.
    """
    is_meta = device is not None and torch.device(device).type == "meta"
    maker = Maker(exploring=False, sizes=sizes, draws=not is_meta, keeps=keeps, touched=touched)
    context: Any = nullcontext()
    if device is not None and torch.device(device) != torch.device("cpu"):
        context = torch.device(device)
    skip: Any = SkipInit() if is_meta else nullcontext()
    try:
        with context, skip:
            return maker.root(definition, given, data)
    except Refused:
        raise ConfigError(*maker.faults) from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocat" not in str(error) and "out of memory" not in str(error):
            raise
        place = definition.place
        raise ConfigError(Fault("the model doesn't fit into memory", place.path, place.origin)) from error


def build(
    source: str | Path | Mapping[str, Any],
    /,
    *,
    data: Mapping[str, Any] | None = None,
    inputs: Mapping[str, torch.Tensor | Sequence[int]] | None = None,
    device: torch.device | str | None = None,
    **args: Any,
) -> nn.Module:
    """Build a model from a YAML file, or from the mapping that such a file holds.

    Initial weights are drawn from PyTorch's global generator: `torch.manual_seed(0)` before gives the weights that the
    hand-written class would get.

    Args:
        source: a file with a module definition, or the definition itself. `${…}` refers to a place in it.
        data: facts that its formulas use as `data.<name>`.
        inputs: an example of what the model will be given, or its shape (batch dimension included), by input name;
            sizes that the definition leaves out are found from it where `inputs:` leaves dimensions free.
        device: where to make parameters and buffers.
        **args: values for the definition's `args`.

    Returns:
        The model, in training mode.

    Raises:
        ConfigError: something is wrong with the definition; all faults at once.
    """
    if isinstance(source, Mapping):
        raw, origins, name = dict(source), Origins(), "Model"
    else:
        document = read_yaml(Path(source))
        raw, origins = document.value, Origins(document.origins)
        name = class_name(Path(source).stem)
    raw = _resolved(raw, origins, args) if isinstance(raw, dict) else raw
    definition = read_definition(raw, origins, (), blocks(search_path()), name)
    facts, examples = data or {}, _examples(inputs or {}, definition)
    # Rules are checked on a model of which every part is made, which finding sizes alone doesn't need.
    found = explore(definition, args, facts, examples).sizes if definition.rules else None
    sizes = find_sizes(definition, args, facts, examples) if found is None else found
    return construct(definition, args, facts, sizes, device)


def _resolved(raw: dict[str, Any], origins: Origins, given: Names) -> dict[str, Any]:
    """A definition with its interpolations resolved; one that refers to an argument has the value given for it.

    Raises:
        ConfigError: an interpolation refers to nothing, or a value is missing.
    """
    args = raw.get("args")
    if not isinstance(args, dict):
        return resolve(raw, origins)
    known = {name: given[name] for name in args if name in given}
    resolved = resolve({**raw, "args": {**args, **known}}, origins)
    defaults = {name: args[name] for name in known if not has_interpolation(args[name])}
    return {**resolved, "args": {**resolved["args"], **defaults}}


def _examples(
    inputs: Mapping[str, torch.Tensor | Sequence[int]], definition: Definition
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of each example.

    Raises:
        ConfigError: the model has no input of that name.
    """
    dtypes = {item.name: item.dtype for item in definition.inputs}
    examples: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, value in inputs.items():
        if name not in dtypes:
            place = definition.place
            raise ConfigError(Fault(f"the model has no input {name!r}", (*place.path, "inputs"), place.origin,
                                    expected=f"one of {', '.join(dtypes)}", nearest=nearest(name, dtypes)))  # fmt: skip
        if isinstance(value, torch.Tensor):
            examples[name] = tuple(value.shape), str(value.dtype).removeprefix("torch.")
        else:
            examples[name] = tuple(value), dtypes[name]
    return examples
