"""YAML → tree: reads a module definition, and everything that is wrong with it, in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder import registry
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Path
from builder.lang.names import MODULE_API
from builder.model.init_read import read_init
from builder.model.read_forward import check_stack, read_forward
from builder.model.read_nodes import read_block, read_layers
from builder.model.scope import (
    BlockScope,
    BlockSource,
    Context,
    Library,
    NoLibrary,
    Reading,
    is_spelt,
    read_mapping,
    read_value,
    refuse_unknown,
)  # fmt: skip
from builder.model.spec import CONTAINERS, DEFINITION_KEYS, Argument, Definition, Input, Node, TensorSpec
from builder.model.tensors import read_inputs, read_tensors

MAX_NODES = 20_000
"""Layers that one model may have as written, blocks in place of their uses; more is a mistake or an attack."""


def read_definition(
    raw: Any, origins: Origins, path: Path = (), library: Library | None = None, name: str = "Model"
) -> Definition:
    """Read the definition of a model.

    Args:
        raw: plain values, interpolations resolved.
        origins: where they were written.
        path: the definition's place in the config.
        library: blocks that every model may use.
        name: the class's name, unless the definition has a `name` of its own.

    Raises:
        ConfigError: with all faults of the definition.
    """
    library = NoLibrary() if library is None else library
    reading = Reading(_read_definition)
    context = Context(reading, origins, path, frozenset({"data"}), BlockScope({}, None, library))
    definition = _read_definition(raw, context, name)
    if reading.faults:
        raise ConfigError(*reading.faults)
    assert definition is not None
    return definition


def _read_definition(raw: Any, context: Context, name: str, *, inherits: bool = False) -> Definition | None:
    """A definition; with `inherits`, one that stands in a node and sees the names around it."""
    if not isinstance(raw, dict):
        context.fault("a module definition is a mapping", found=raw, expected=f"keys {', '.join(DEFINITION_KEYS)}")
        return None
    before = len(context.reading.faults)
    refuse_unknown(raw, context, DEFINITION_KEYS, "a module definition")
    _check_texts(raw, context)
    outer = context.names if inherits else context.names & {"data"}
    args = _read_args(raw.get("args"), context.at("args"), outer)
    inner = Context(
        context.reading,
        context.origins,
        context.path,
        outer | frozenset(args),
        _block_scope(raw.get("blocks"), context),
    )
    blocks = [read_block(block, source, inner) for block, source in inner.blocks.local.items()]
    inputs = read_inputs(raw.get("inputs"), inner.at("inputs"))
    parameters = read_tensors(raw.get("parameters"), "parameter", inner.at("parameters"))
    buffers = read_tensors(raw.get("buffers"), "buffer", inner.at("buffers"))
    layers, numbered = read_layers(raw.get("layers"), inner.at("layers"))
    tie = _read_tie(raw.get("tie"), inner.at("tie"))
    init = read_init(raw.get("init"), inner.at("init"))
    count = sum(map(layers_in, layers))
    if count > MAX_NODES:
        raise ConfigError(Fault(f"more than {MAX_NODES:,} layers as written", context.path, context.place.origin))
    _refuse_shared_names(args, inputs, parameters, buffers, layers, inner)
    forward = None
    if "forward" in raw:
        forward = read_forward(raw["forward"], inner, args, outer, inputs, parameters, buffers, layers)
    else:
        check_stack(inputs, layers, inner)
    if len(context.reading.faults) > before:
        return None
    return Definition(
        name=raw.get("name") or name,
        place=context.place,
        args=args,
        inputs=inputs,
        parameters=parameters,
        buffers=buffers,
        layers=layers,
        numbered=numbered,
        forward=forward,
        sections=tuple(key for key in raw if key in ("parameters", "buffers", "layers")),
        tie=tie,
        init=init,
        rules=bool(init) or any(map(holds_rules, layers)) or any(block.rules for block in blocks if block is not None),
        count=count,
        sees_data="data" in outer and not inherits,
        outer_args=frozenset(forward.args) - frozenset(args) if forward is not None else frozenset(),
    )


def _read_args(raw: Any, context: Context, outer: frozenset[str]) -> dict[str, Argument]:
    """Arguments in order; a default may use those before it."""
    args: dict[str, Argument] = {}
    for name, default in read_mapping(raw, context, "'args'").items():
        here = Context(context.reading, context.origins, (*context.path, name), outer | frozenset(args), context.blocks)
        _check_name(name, here, "argument")
        required = default == "required"
        args[name] = Argument(name, None if required else read_value(default, here), required, here.place)
    return args


def _check_texts(raw: Mapping[str, Any], context: Context) -> None:
    for key in ("name", "description"):
        if key in raw and not isinstance(raw[key], str | None):
            context.at(key).fault(f"{key!r} is text", found=raw[key])
    if isinstance(raw.get("name"), str):
        is_spelt(raw["name"], context.at("name"), "a class")


def _check_name(name: str, context: Context, what: str) -> None:
    if not is_spelt(name, context, f"an {what}"):
        return
    if name in MODULE_API or name in ("i", "data"):
        owner = "the language" if name in ("i", "data") else "every torch.nn.Module"
        context.fault(f"{name!r} can't be the name of an {what}: {owner} has it already")


def holds_rules(node: Node) -> bool:
    """Whether initialisation rules stand at a node or in it."""
    if node.init or (node.definition is not None and node.definition.rules):
        return True
    inside = (*node.children, node.element, *node.arguments.values())
    return any(isinstance(item, Node) and holds_rules(item) for item in inside)


def layers_in(node: Node) -> int:
    """How many layers a node holds as written, itself counted."""
    inside = node.definition.count if node.definition is not None else sum(map(layers_in, node.children))
    return 1 + inside + (layers_in(node.element) if node.element is not None else 0)


def _block_scope(raw: Any, context: Context) -> BlockScope:
    here = context.at("blocks")
    local: dict[str, BlockSource] = {}
    scope = BlockScope(local, context.blocks, context.blocks.library)
    for name, block in read_mapping(raw, here, "'blocks'").items():
        if name in registry.layers or name in CONTAINERS:
            here.at(name).fault(f"block {name!r} has the name of a registered layer", hint="give it another name")
        local[name] = BlockSource(name, block, context.origins, (*here.path, name), scope)
    return scope


def _read_tie(raw: Any, context: Context) -> tuple[tuple[str, str, Any], ...]:
    ties = []
    for target, source in read_mapping(raw, context, "'tie'").items():
        here = context.at(target)
        if not isinstance(source, str):
            here.fault("a tied parameter names the one it shares", found=source, expected="text like `embed.weight`")
            continue
        ties.append((target, source, here.place))
    return tuple(ties)


def _refuse_shared_names(
    args: Mapping[str, Argument], inputs: tuple[Input, ...], parameters: tuple[TensorSpec, ...],
    buffers: tuple[TensorSpec, ...], layers: tuple[Node, ...], context: Context,
) -> None:  # fmt: skip
    """One name stands for one thing."""
    seen: dict[str, str] = {}
    groups = [
        ("argument", "args", list(args)),
        ("input", "inputs", [item.name for item in inputs]),
        ("parameter", "parameters", [item.name for item in parameters]),
        ("buffer", "buffers", [item.name for item in buffers]),
        ("layer", "layers", [item.name for item in layers]),
    ]
    for what, section, names in groups:
        for name in names:
            if name in seen:
                context.at(section, name).fault(f"{name!r} is the name of an {seen[name]} and of a {what}")
            seen[name] = what
