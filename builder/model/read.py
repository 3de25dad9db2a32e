"""YAML → tree: reads a module definition, and everything that is wrong with it, in one pass."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from builder import registry
from builder.catalog.arguments import check_arguments
from builder.catalog.functions import constants
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Path, nearest
from builder.lang.forward import Forward, parse_forward
from builder.lang.names import MODULE_API, spelling_problem
from builder.lang.scope import LayerName, Scope
from builder.model.features import Uncuttable, cut
from builder.model.scope import BlockScope, BlockSource, Context, Library, NoLibrary, Reading, read_value
from builder.model.sizes import inferable
from builder.model.spec import (
    CONTAINERS,
    DEFINITION_KEYS,
    NODE_KEYS,
    Argument,
    Definition,
    Input,
    Node,
    TensorSpec,
    Value,
    class_name,
)  # fmt: skip
from builder.model.tensors import read_inputs, read_tensors

FEATURES = "FeatureExtractor"

MAX_NODES = 20_000
"""Layers that one model may have as written, blocks in place of their uses; more is a mistake or an attack."""
MAX_DEPTH = 64
"""How deep layers may lie in one another."""


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
    reading = Reading()
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
    _refuse_unknown(raw, context, DEFINITION_KEYS, "a module definition")
    outer = context.names if inherits else context.names & {"data"}
    args = _read_args(raw.get("args"), context.at("args"), outer)
    inner = Context(
        context.reading,
        context.origins,
        context.path,
        outer | frozenset(args),
        _block_scope(raw.get("blocks"), context),
    )
    for block in inner.blocks.local:
        _read_block(block, inner.blocks.local[block], inner)
    inputs = read_inputs(raw.get("inputs"), inner.at("inputs"))
    parameters = read_tensors(raw.get("parameters"), "parameter", inner.at("parameters"))
    buffers = read_tensors(raw.get("buffers"), "buffer", inner.at("buffers"))
    layers, numbered = _read_layers(raw.get("layers"), inner.at("layers"))
    tie = _read_tie(raw.get("tie"), inner.at("tie"))
    count = sum(map(layers_in, layers))
    if count > MAX_NODES:
        raise ConfigError(Fault(f"more than {MAX_NODES:,} layers as written", context.path, context.place.origin))
    _refuse_shared_names(args, inputs, parameters, buffers, layers, inner)
    forward = None
    if "forward" in raw:
        forward = _read_forward(raw["forward"], inner, args, outer, inputs, parameters, buffers, layers)
    else:
        _check_stack(inputs, layers, inner)
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
        count=count,
        sees_data="data" in outer and not inherits,
        outer_args=frozenset(forward.args) - frozenset(args) if forward is not None else frozenset(),
    )


def _refuse_unknown(raw: Mapping[str, Any], context: Context, known: tuple[str, ...], what: str) -> None:
    for key in raw:
        if key not in known:
            context.at(key).fault(
                f"unknown key {key!r} in {what}", expected=f"one of {', '.join(known)}", nearest=nearest(key, known)
            )
    for key in ("name", "description"):
        if key in raw and not isinstance(raw[key], str | None):
            context.at(key).fault(f"{key!r} is text", found=raw[key])
    if isinstance(raw.get("name"), str):
        _is_spelt(raw["name"], context.at("name"), "a class")


def _mapping(raw: Any, context: Context, what: str) -> dict[str, Any]:
    if raw is None:
        return {}
    if isinstance(raw, dict):
        return {str(key): value for key, value in raw.items()}
    context.fault(f"{what} is a mapping", found=raw)
    return {}


def _read_args(raw: Any, context: Context, outer: frozenset[str]) -> dict[str, Argument]:
    """Arguments in order; a default may use those before it."""
    args: dict[str, Argument] = {}
    for name, default in _mapping(raw, context, "'args'").items():
        here = Context(context.reading, context.origins, (*context.path, name), outer | frozenset(args), context.blocks)
        _check_name(name, here, "argument")
        required = default == "required"
        args[name] = Argument(name, None if required else read_value(default, here), required, here.place)
    return args


def _is_spelt(name: str, context: Context, what: str) -> bool:
    """Whether a name is one of Python's; a fault if it isn't."""
    problem = spelling_problem(name)
    if problem is not None:
        context.fault(
            f"{name!r} can't be the name of {what}",
            expected="a Python name that doesn't begin with '_'",
            hint=f"it {problem}" if name.isidentifier() and not name.startswith("_") else None,
        )
    return problem is None


def _check_name(name: str, context: Context, what: str) -> None:
    if not _is_spelt(name, context, f"an {what}"):
        return
    if name in MODULE_API or name in ("i", "data"):
        owner = "the language" if name in ("i", "data") else "every torch.nn.Module"
        context.fault(f"{name!r} can't be the name of an {what}: {owner} has it already")


def layers_in(node: Node) -> int:
    """How many layers a node holds as written, itself counted."""
    inside = node.definition.count if node.definition is not None else sum(map(layers_in, node.children))
    return 1 + inside + (layers_in(node.element) if node.element is not None else 0)


def _block_scope(raw: Any, context: Context) -> BlockScope:
    here = context.at("blocks")
    local: dict[str, BlockSource] = {}
    scope = BlockScope(local, context.blocks, context.blocks.library)
    for name, block in _mapping(raw, here, "'blocks'").items():
        if name in registry.layers or name in CONTAINERS:
            here.at(name).fault(f"block {name!r} has the name of a registered layer", hint="give it another name")
        local[name] = BlockSource(name, block, context.origins, (*here.path, name), scope)
    return scope


def _read_block(name: str, source: BlockSource, context: Context) -> Definition | None:
    """The definition of a block, read once."""
    reading, key = context.reading, (id(source.raw), name)
    if name in reading.open_blocks:
        cycle = " → ".join([*reading.open_blocks[reading.open_blocks.index(name) :], name])
        context.fault(f"block {name!r} contains itself", found=cycle)
        return None
    if key not in reading.blocks:
        reading.open_blocks.append(name)
        seen = frozenset({"data"}) if name.startswith("model/") else frozenset()
        inside = Context(reading, source.origins, source.path, seen, source.scope)
        reading.blocks[key] = _read_definition(source.raw, inside, class_name(name.removeprefix("model/")))
        reading.open_blocks.pop()
    return reading.blocks[key]


def _read_layers(raw: Any, context: Context) -> tuple[tuple[Node, ...], bool]:
    """The nodes under `layers`, and whether they are numbered."""
    if raw is None:
        return (), False
    if isinstance(raw, list):
        nodes = [_read_child(item, context.at(index), str(index)) for index, item in enumerate(raw)]
        return tuple(nodes), True
    if not isinstance(raw, dict):
        context.fault("'layers' is a mapping of names to layers, or a list of layers", found=raw)
        return (), False
    nodes = []
    for name, item in raw.items():
        here = context.at(name)
        if "." in str(name) or not str(name):
            here.fault(f"{name!r} can't be the name of a layer", expected="a name without dots")
        elif str(name) in MODULE_API:
            here.fault(f"{name!r} can't be the name of a layer: every torch.nn.Module has it already")
        elif not str(name).isprintable() or unicodedata.normalize("NFKC", str(name)) != str(name):
            here.fault(f"{name!r} can't be the name of a layer", expected="a name without look-alike characters")
        nodes.append(_read_child(item, here, str(name)))
    return tuple(nodes), False


def _read_child(raw: Any, context: Context, name: str) -> Node:
    """An entry of `layers`: a node, and with `when` the condition on which it is made."""
    when, rest = True, raw
    if isinstance(raw, dict) and "when" in raw:
        when = read_value(raw["when"], context.at("when"))
        rest = {key: value for key, value in raw.items() if key != "when"}
    node = read_node(rest, context, name)
    # What couldn't be read still has its name, so that a forward that uses it isn't at fault too.
    return Node(name, "layer", "", context.place, unused=True) if node is None else replace(node, when=when)


def read_node(raw: Any, context: Context, name: str) -> Node | None:
    """One node under `layers`, or a layer that is an argument of another."""
    reading = context.reading
    if reading.depth == MAX_DEPTH:
        raise ConfigError(Fault(f"layers lie more than {MAX_DEPTH} deep", context.path, context.place.origin))
    reading.depth += 1
    try:
        return _read_node(raw, context, name)
    finally:
        reading.depth -= 1


def _read_node(raw: Any, context: Context, name: str) -> Node | None:
    if isinstance(raw, str):
        raw = {"type": raw}
    if not isinstance(raw, dict) or not raw:
        context.fault(
            "a layer is a type, or a mapping with a type or with layers of its own",
            found=raw, expected="for example `ReLU`, or `{type: Linear, out_features: 10}`"
        )  # fmt: skip
        return None
    if "type" not in raw:
        return _read_own_definition(raw, context, name)
    kind = raw["type"]
    if not isinstance(kind, str):
        context.at("type").fault("'type' is the name of a layer or block", found=kind)
        return None
    if kind in CONTAINERS:
        return _read_container(raw, context, name, kind)
    if kind == FEATURES:
        return _read_features(raw, context, name)
    source = context.blocks.find(kind)
    if source is not None:
        return _read_block_node(raw, context, name, source)
    if kind in registry.layers:
        return _read_layer(raw, context, name, kind)
    choices = [*context.blocks.names(), *CONTAINERS, FEATURES, *registry.layers.names()]
    context.at("type").fault(f"unknown layer type {kind!r}", nearest=nearest(kind, choices),
                             hint="`builder registry layer` lists the layers")  # fmt: skip
    return None


def _read_own_definition(raw: dict[str, Any], context: Context, name: str) -> Node | None:
    if not set(raw) & set(DEFINITION_KEYS):
        context.fault(
            "this layer has no type", found=raw, expected="`type: NAME`, or `layers:` and `forward:` of its own"
        )
        return None
    unused, rest = raw.get("unused", False), {key: value for key, value in raw.items() if key != "unused"}
    definition = _read_definition(rest, context, class_name(name), inherits=True)
    if definition is None:
        return None
    return Node(name, "definition", definition.name, context.place, definition=definition, unused=bool(unused))


def _arguments(raw: dict[str, Any], context: Context) -> tuple[dict[str, Value], dict[str, Any]]:
    """The constructor's arguments of a node, and the place of each."""
    places = {key: context.at(key) for key in raw if key not in NODE_KEYS}
    values = {key: raw[key] for key in places}
    for key, value in _mapping(raw.get("args"), context.at("args"), "'args' of a layer").items():
        if key in values:
            context.at("args", key).fault(f"argument {key!r} is given twice: under 'args' and beside it")
        places[key], values[key] = context.at("args", key), value

    def nested(item: Any, here: Context) -> Node | None:
        return read_node(item, here, str(here.path[-1]))

    read = {key: read_value(value, places[key], nested) for key, value in values.items()}
    return read, {key: place.place for key, place in places.items()}


def _read_layer(raw: dict[str, Any], context: Context, name: str, kind: str) -> Node | None:
    _refuse_language_keys(raw, context, ("type", "args", "unused"), f"layer {kind}")
    arguments, places = _arguments(raw, context)
    target = registry.layers.get(kind)
    faults = check_arguments(
        "layer", kind, target, arguments,
        path=context.path, origin_of=lambda key: places[key].origin if key in places else context.place.origin,
        provided=inferable(target),
    )  # fmt: skip
    context.reading.faults.extend(faults)
    return Node(name, "layer", kind, context.place, arguments, places, target, unused=bool(raw.get("unused", False)))


def _refuse_language_keys(raw: dict[str, Any], context: Context, allowed: tuple[str, ...], what: str) -> None:
    for key in raw:
        if key in NODE_KEYS and key not in allowed:
            context.at(key).fault(
                f"{what} takes no {key!r} of the language",
                hint=f"a constructor argument of that name goes under `args: {{{key}: …}}`",
            )


def _read_features(raw: dict[str, Any], context: Context, name: str) -> Node | None:
    """A model up to one of its layers: `{type: FeatureExtractor, of: model/resnet18, until: fc, frozen: true}`."""
    allowed = ("type", "of", "until", "frozen", "unused", "when")
    _refuse_unknown(raw, context, allowed, f"a {FEATURES}")
    of, until, frozen = raw.get("of"), raw.get("until"), raw.get("frozen", True)
    if isinstance(of, str):
        of = {"type": of}
    if not isinstance(of, dict) or not isinstance(until, str | None) or not isinstance(frozen, bool):
        context.fault(f"a {FEATURES} says of what, until which layer, and whether it is frozen", found=raw,
                      expected="for example `{type: FeatureExtractor, of: model/resnet18, until: fc}`")  # fmt: skip
        return None
    source = context.blocks.find(str(of["type"])) if "type" in of else None
    if source is None and "type" in of:
        context.at("of").fault(f"a {FEATURES} is of a block, a model or layers of its own", found=of["type"],
                               nearest=nearest(of["type"], context.blocks.names()))  # fmt: skip
        return None
    body = of if source is None else source.raw
    try:
        rest, until = cut(body, until)
    except (Uncuttable, TypeError) as error:
        context.at("until").fault(f"the model can't be cut there: {error}", found=until)
        return None
    if source is None:
        node = _read_own_definition(rest, context.at("of"), name)
    else:
        block = replace(source, raw=rest, name=f"{source.name} until {until}")
        whole = set(_mapping(body.get("args"), context, "'args'"))
        dropped = whole - set(rest.get("args") or {})
        given = {key: value for key, value in of.items() if key not in dropped}
        node = _read_block_node(given, context.at("of"), name, block)
    if node is None or node.definition is None:
        return None
    return replace(node, definition=replace(node.definition, frozen=frozen), unused=bool(raw.get("unused", False)))


def _read_block_node(raw: dict[str, Any], context: Context, name: str, source: BlockSource) -> Node | None:
    _refuse_language_keys(raw, context, ("type", "args", "unused"), f"block {source.name}")
    definition = _read_block(source.name, source, context.at("type"))
    arguments, places = _arguments(raw, context)
    if definition is None:
        return None
    for key in arguments:
        if key not in definition.args:
            names = list(definition.args)
            here = Context(context.reading, context.origins, places[key].path, context.names, context.blocks)
            here.fault(
                f"block {source.name} has no argument {key!r}",
                expected=f"one of {', '.join(names)}" if names else "no arguments", nearest=nearest(key, names)
            )  # fmt: skip
    for key, argument in definition.args.items():
        if argument.required and key not in arguments:
            context.fault(f"block {source.name} needs its argument {key!r}", expected=f"`{key}: …`")
    return Node(name, "block", source.name, context.place, arguments, places,
                definition=definition, unused=bool(raw.get("unused", False)))  # fmt: skip


def _read_container(raw: dict[str, Any], context: Context, name: str, kind: str) -> Node | None:
    allowed = ("type", "layers", "repeat", "layer", "unused")
    for key in raw:
        if key not in allowed:
            context.at(key).fault(f"a {kind} takes no {key!r}", expected=f"one of {', '.join(allowed)}",
                                  nearest=nearest(key, allowed))  # fmt: skip
    unused = bool(raw.get("unused", False))
    if ("layers" in raw) == ("repeat" in raw or "layer" in raw):
        context.fault(f"a {kind} has either `layers`, or `repeat` and `layer`", found=sorted(raw))
        return None
    if "layers" in raw:
        children, numbered = _read_layers(raw["layers"], context.at("layers"))
        if kind == "ModuleDict" and numbered:
            context.at("layers").fault("the layers of a ModuleDict have names", found="a list", expected="a mapping")
        return Node(name, kind, kind, context.place, children=children, numbered=numbered, unused=unused)  # type: ignore[arg-type]
    if kind == "ModuleDict" or not {"repeat", "layer"} <= set(raw):
        context.fault(f"a {kind} has either `layers`, or `repeat` and `layer`", found=sorted(raw))
        return None
    repeat = read_value(raw["repeat"], context.at("repeat"))
    element = read_node(raw["layer"], context.at("layer").seeing("i"), "0")
    if element is None:
        return None
    return Node(name, kind, kind, context.place, repeat=repeat, element=element, numbered=True, unused=unused)  # type: ignore[arg-type]


def _read_tie(raw: Any, context: Context) -> tuple[tuple[str, str, Any], ...]:
    ties = []
    for target, source in _mapping(raw, context, "'tie'").items():
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


def _read_forward(
    raw: Any, context: Context, args: Mapping[str, Argument], outer: frozenset[str], inputs: tuple[Input, ...],
    parameters: tuple[TensorSpec, ...], buffers: tuple[TensorSpec, ...], layers: tuple[Node, ...],
) -> Forward | None:  # fmt: skip
    here = context.at("forward")
    if not isinstance(raw, str):
        here.fault("'forward' is a block of Python", found=raw, expected="text after `forward: |`")
        return None
    taken: list[Input | TensorSpec | Node] = [*inputs, *parameters, *buffers, *layers]
    own = {item.name for item in taken}  # hide arguments from further out
    scope = Scope(
        inputs={item.name: item.optional for item in inputs},
        args=frozenset(args) | (outer - {"data", "i"} - own),
        layers={node.name: layer_name(node) for node in layers},
        parameters=frozenset(item.name for item in parameters),
        buffers=frozenset(item.name for item in buffers),
        functions=callables(),
        constants=constants(),
        origins={item.name: item.place.origin for item in inputs},
    )
    try:
        return parse_forward(raw, scope, origin=here.place.origin, path=here.path)
    except ConfigError as error:
        context.reading.faults.extend(error.faults)
        return None


def callables() -> frozenset[str]:
    """The names of the registered functions that `forward` may call; the others are values, such as dtypes."""
    return frozenset(registry.functions) - constants()


def layer_name(node: Node) -> LayerName:
    """What is known of a layer when `forward` is read: whether it can be called, and what it holds."""
    origin = node.place.origin
    if node.kind in CONTAINERS:
        if any(child.when is not True for child in node.children):
            return LayerName(kind=node.kind, opaque=True, unused=node.unused, origin=origin)  # type: ignore[arg-type]
        return LayerName(
            kind=node.kind,  # type: ignore[arg-type]
            children={child.name: layer_name(child) for child in node.children},
            element=layer_name(node.element) if node.element is not None else None,
            unused=node.unused,
            origin=origin,
        )
    if node.definition is None:
        return LayerName(opaque=True, unused=node.unused, origin=origin)
    definition = node.definition
    return LayerName(
        children={child.name: layer_name(child) for child in definition.layers},
        tensors=tuple(item.name for item in (*definition.parameters, *definition.buffers)),
        unused=node.unused,
        origin=origin,
    )


def _check_stack(inputs: tuple[Input, ...], layers: tuple[Node, ...], context: Context) -> None:
    """Without `forward`, layers are called one after the other: one value goes in, each layer can be called."""
    if not layers:
        context.fault("a module definition needs `layers`, or a `forward`", expected="at least one layer")
    if len(inputs) > 1:
        context.at("inputs").fault(
            "several inputs need a `forward` that says what becomes of each", found=[item.name for item in inputs]
        )
    for node in layers:
        if node.kind in ("ModuleList", "ModuleDict"):
            context.at("layers", node.name).fault(
                f"a {node.kind} can't be called one after the other", hint="use Sequential, or write a `forward`"
            )
