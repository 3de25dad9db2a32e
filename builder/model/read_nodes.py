"""YAML → tree: reads the layers of a definition: those of PyTorch and of users, blocks, containers, cut models."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any

from builder import registry
from builder.catalog.arguments import check_arguments
from builder.errors import ConfigError, Fault, nearest
from builder.lang.formula import Formula
from builder.lang.names import MODULE_API
from builder.model.features import Uncuttable, cut
from builder.model.init_read import read_init
from builder.model.scope import BlockSource, Context, Reading, read_formula, read_mapping, read_value, refuse_unknown
from builder.model.sizes import inferable
from builder.model.spec import CONTAINERS, DEFINITION_KEYS, NODE_KEYS, Definition, Node, Value, class_name

FEATURES = "FeatureExtractor"

MAX_DEPTH = 64
"""How deep layers may lie in one another."""


def read_layers(raw: Any, context: Context) -> tuple[tuple[Node, ...], bool]:
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


def read_node(raw: Any, context: Context, name: str, called: str | None = None) -> Node | None:
    """One node under `layers`, or a layer that is an argument of another; its class is `called` so, not as it is."""
    reading = context.reading
    if reading.depth == MAX_DEPTH:
        raise ConfigError(Fault(f"layers lie more than {MAX_DEPTH} deep", context.path, context.place.origin))
    reading.depth += 1
    try:
        return _read_node(raw, context, name, called or name)
    finally:
        reading.depth -= 1


def _read_node(raw: Any, context: Context, name: str, called: str) -> Node | None:
    if isinstance(raw, str):
        raw = {"type": raw}
    if not isinstance(raw, dict) or not raw:
        context.fault(
            "a layer is a type, or a mapping with a type or with layers of its own",
            found=raw, expected="for example `ReLU`, or `{type: Linear, out_features: 10}`"
        )  # fmt: skip
        return None
    if "type" not in raw:
        return _read_own_definition(raw, context, name, called)
    kind = raw["type"]
    if not isinstance(kind, str):
        context.at("type").fault("'type' is the name of a layer or block", found=kind)
        return None
    if kind.startswith("="):
        return _read_choice(raw, context, name)
    if kind in CONTAINERS:
        return _read_container(raw, context, name, called, kind)
    if kind == FEATURES:
        return _read_features(raw, context, name)
    return _read_named(raw, context, name, kind, (*CONTAINERS, FEATURES))


def _read_named(
    raw: dict[str, Any], context: Context, name: str, kind: str, others: tuple[str, ...] = (), said: str | None = None
) -> Node | None:
    """A block or a layer by its name, `said` by a formula; `others` are names that would also do here."""
    source = context.blocks.find(kind)
    if source is not None:
        return _read_block_node(raw, context, name, source)
    if kind in registry.layers:
        return _read_layer(raw, context, name, kind)
    choices = [*context.blocks.names(), *others, *registry.layers.names()]
    context.at("type").fault(f"unknown layer type {kind!r}", found=said, nearest=nearest(kind, choices),
                             hint="`builder registry layer` lists the layers")  # fmt: skip
    return None


def _read_choice(raw: dict[str, Any], context: Context, name: str) -> Node | None:
    """A layer or block whose type is a formula: `{type: =activation}`. What it is gets read when the layer is made."""
    _refuse_language_keys(raw, context, ("type", "args", "unused", "init"), "a layer whose type is a formula")
    formula = read_formula(raw["type"], context.at("type"))
    arguments, places = _arguments(raw, context)
    init = read_init(raw.get("init"), context.at("init"))
    rest = {key: value for key, value in raw.items() if key != "type"}
    known: dict[str, Node] = {}

    def choose(value: Any) -> Node:
        key = repr(value)
        if key not in known:
            # Faults of its own: those of the definition have been told by then. Blocks are read once all the same.
            reading = Reading(context.reading.define, blocks=context.reading.blocks)
            here = Context(reading, context.origins, context.path, context.names, context.blocks)
            node = _read_chosen(value, rest, here, name, raw["type"])
            if node is None or reading.faults:
                raise ConfigError(*reading.faults)
            known[key] = replace(node, choice=formula)
        return known[key]

    if not isinstance(formula, Formula):
        return None
    return Node(name, "choice", raw["type"], context.place, arguments, places, unused=bool(raw.get("unused", False)),
                init=init, choice=formula, choose=choose)  # fmt: skip


def _read_chosen(value: Any, rest: dict[str, Any], context: Context, name: str, said: str) -> Node | None:
    """The layer or block that the value of a formula describes, with the `rest` of what is said where it stands."""
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        return read_node({**value, **rest}, context, name)
    if isinstance(value, str):
        return _read_named({"type": value, **rest}, context, name, value, said=said)
    context.at("type").fault(
        "'type' is the name of a layer or block", found=f"{said}, which is {value!r}",
        expected="a name, or a mapping with a `type` and arguments"
    )  # fmt: skip
    return None


def _read_own_definition(raw: dict[str, Any], context: Context, name: str, called: str) -> Node | None:
    if not set(raw) & set(DEFINITION_KEYS):
        context.fault(
            "this layer has no type", found=raw, expected="`type: NAME`, or `layers:` and `forward:` of its own"
        )
        return None
    unused, rest = raw.get("unused", False), {key: value for key, value in raw.items() if key != "unused"}
    definition = context.reading.define(rest, context, class_name(called), inherits=True)
    if definition is None:
        return None
    return Node(name, "definition", definition.name, context.place, definition=definition, unused=bool(unused))


def _arguments(
    raw: dict[str, Any], context: Context, *, of_block: bool = False
) -> tuple[dict[str, Value], dict[str, Any]]:
    """The constructor's arguments of a node, and the place of each. A layer that a block is given is left a mapping."""
    places = {key: context.at(key) for key in raw if key not in NODE_KEYS}
    values = {key: raw[key] for key in places}
    for key, value in read_mapping(raw.get("args"), context.at("args"), "'args' of a layer").items():
        if key in values:
            context.at("args", key).fault(f"argument {key!r} is given twice: under 'args' and beside it")
        places[key], values[key] = context.at("args", key), value

    def nested(item: Any, here: Context) -> Node | None:
        return read_node(item, here, str(here.path[-1]))

    read = {key: read_value(value, places[key], None if of_block else nested) for key, value in values.items()}
    return read, {key: place.place for key, place in places.items()}


def _read_layer(raw: dict[str, Any], context: Context, name: str, kind: str) -> Node | None:
    _refuse_language_keys(raw, context, ("type", "args", "unused", "init"), f"layer {kind}")
    arguments, places = _arguments(raw, context)
    target = registry.layers.get(kind)
    faults = check_arguments(
        "layer", kind, target, arguments,
        path=context.path, origin_of=lambda key: places[key].origin if key in places else context.place.origin,
        provided=inferable(target),
    )  # fmt: skip
    context.reading.faults.extend(faults)
    init = read_init(raw.get("init"), context.at("init"), of_layer=True)
    return Node(
        name, "layer", kind, context.place, arguments, places, target, unused=bool(raw.get("unused", False)), init=init
    )


def _refuse_language_keys(raw: dict[str, Any], context: Context, allowed: tuple[str, ...], what: str) -> None:
    for key in raw:
        if key in NODE_KEYS and key not in allowed:
            context.at(key).fault(
                f"{what} takes no {key!r} of the language",
                hint=f"a constructor argument of that name goes under `args: {{{key}: …}}`",
            )


def _read_features(raw: dict[str, Any], context: Context, name: str) -> Node | None:
    """A model up to one of its layers: `{type: FeatureExtractor, of: model/resnet18, until: fc, frozen: true}`."""
    allowed = ("type", "of", "until", "frozen", "unused", "when", "init")
    refuse_unknown(raw, context, allowed, f"a {FEATURES}")
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
        node = _read_own_definition(rest, context.at("of"), name, name)
    else:
        block = replace(source, raw=rest, name=f"{source.name} until {until}")
        whole = set(read_mapping(body.get("args"), context, "'args'"))
        dropped = whole - set(rest.get("args") or {})
        given = {key: value for key, value in of.items() if key not in dropped}
        node = _read_block_node(given, context.at("of"), name, block)
    if node is None or node.definition is None:
        return None
    own = tuple(replace(rule, optional=True) for rule in node.definition.init)  # the layer it is about may be cut off
    definition = replace(node.definition, frozen=frozen, init=own)
    init = read_init(raw.get("init"), context.at("init"))
    return replace(node, definition=definition, unused=bool(raw.get("unused", False)), init=init)


def _read_block_node(raw: dict[str, Any], context: Context, name: str, source: BlockSource) -> Node | None:
    _refuse_language_keys(raw, context, ("type", "args", "unused", "init"), f"block {source.name}")
    definition = read_block(source.name, source, context.at("type"))
    arguments, places = _arguments(raw, context, of_block=True)
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
                definition=definition, unused=bool(raw.get("unused", False)),
                init=read_init(raw.get("init"), context.at("init")))  # fmt: skip


def _read_container(raw: dict[str, Any], context: Context, name: str, called: str, kind: Any) -> Node | None:
    allowed = ("type", "layers", "repeat", "layer", "unused", "init")
    for key in raw:
        if key not in allowed:
            context.at(key).fault(f"a {kind} takes no {key!r}", expected=f"one of {', '.join(allowed)}",
                                  nearest=nearest(key, allowed))  # fmt: skip
    unused, init = bool(raw.get("unused", False)), read_init(raw.get("init"), context.at("init"))
    if ("layers" in raw) == ("repeat" in raw or "layer" in raw):
        context.fault(f"a {kind} has either `layers`, or `repeat` and `layer`", found=sorted(raw))
        return None
    if "layers" in raw:
        children, numbered = read_layers(raw["layers"], context.at("layers"))
        if kind == "ModuleDict" and numbered:
            context.at("layers").fault("the layers of a ModuleDict have names", found="a list", expected="a mapping")
        return Node(name, kind, kind, context.place, children=children, numbered=numbered, unused=unused, init=init)
    if kind == "ModuleDict" or not {"repeat", "layer"} <= set(raw):
        context.fault(f"a {kind} has either `layers`, or `repeat` and `layer`", found=sorted(raw))
        return None
    repeat = read_value(raw["repeat"], context.at("repeat"))
    element = read_node(raw["layer"], context.at("layer").seeing("i"), "0", f"{called} layer")
    if element is None:
        return None
    return Node(
        name, kind, kind, context.place, repeat=repeat, element=element, numbered=True, unused=unused, init=init
    )


def read_block(name: str, source: BlockSource, context: Context) -> Definition | None:
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
        reading.blocks[key] = reading.define(source.raw, inside, class_name(name.removeprefix("model/")))
        reading.open_blocks.pop()
    return reading.blocks[key]
