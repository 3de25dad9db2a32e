"""The model language as JSON Schema: definitions, nodes, tensors, rules for initial values, selectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from builder.config.kinds import Field, Section
from builder.config.schema import TOP
from builder.model.read_nodes import FEATURES
from builder.model.spec import CONTAINERS
from builder.model.tensors import DTYPES, PLAIN
from builder.registry import registries
from builder.schema.components import component, required
from builder.schema.values import Json, any_of, described, is_type, mapping, name_of, names_of, or_text, ref
from builder.weights.gates import EACH, GATES
from builder.weights.initialise import DEFAULT

SELECTOR = "selector"
RULES = "init.rules"
INITIALISER = "initialiser"

_TEXT: Json = {"type": "string"}
_TEXTS: Json = any_of(_TEXT, {"type": "array", "items": _TEXT, "minItems": 1})
_FLAG: Json = or_text({"type": "boolean"})
_ANYTHING: Json = {}


def definitions(blocks: Sequence[str]) -> Iterator[tuple[str, Json]]:
    """Name and schema of all of the language; `blocks` are the names of those that every model may use."""
    yield "dtype", {"description": "a dtype of PyTorch", "enum": list(DTYPES)}
    yield SELECTOR, _selector()
    yield INITIALISER, component("initialiser", {"gate": _gate()}, doc="how a tensor begins")
    yield "init.default", any_of({"const": DEFAULT}, mapping({"type": {"const": DEFAULT}}, required=["type"]))
    yield "init.rule", _rule()
    yield RULES, any_of(ref("init.rule"), {"type": "array", "items": ref("init.rule")}, {"type": "null"})
    yield "inputs", _inputs()
    yield "parameter", _tensor("a parameter of the module", persistent=False)
    yield "buffer", _tensor("a buffer of the module", persistent=True)
    for partial in (False, True):
        yield name_of("definition", partial), mapping(_properties(partial), doc="a module definition")
        yield name_of("layers", partial), _layers(partial)
        yield name_of("node", partial), _node(partial, blocks)


def _doc(key: str) -> str:
    model = TOP.fields["model"]
    assert isinstance(model, Section), "the model is a section"
    node = model.fields[key]
    return node.doc if isinstance(node, Field) else node.doc


def _properties(partial: bool) -> dict[str, Any]:
    """The keys of a definition."""
    nullable = any_of(_TEXT, {"type": "null"})
    block, null = ref(name_of("definition", partial)), {"type": "null"}
    found: dict[str, Any] = {
        "name": nullable,
        "description": nullable,
        "args": any_of({"type": "object"}, null),
        "inputs": ref("inputs"),
        "blocks": any_of(names_of(block), null),
        "parameters": any_of(names_of(ref("parameter")), null),
        "buffers": any_of(names_of(ref("buffer")), null),
        "layers": ref(name_of("layers", partial)),
        "forward": _TEXT,
        "tie": any_of(names_of(_TEXT), null),
        "init": ref(RULES),
    }
    found = {key: described(schema, _doc(key)) for key, schema in found.items()}
    return found | {"defaults": ref("defaults")} if partial else found


def _layers(partial: bool) -> Json:
    node = ref(name_of("node", partial))
    return any_of(names_of(node), {"type": "array", "items": node}, {"type": "null"})


def _node(partial: bool, blocks: Sequence[str]) -> Json:
    """A type's name, a mapping with a type, or a definition of its own.

    A type that is neither registered nor a container is a block's, whose arguments only its definition knows.
    """
    layers = [name for name in registries["layer"] if name not in CONTAINERS]
    known = [*CONTAINERS, FEATURES, *blocks, *layers]
    kinds = any_of({"enum": known}, _TEXT)
    flags = {"when": described(_ANYTHING, _doc("when")), "unused": described(_FLAG, _doc("unused"))}
    alone = mapping(_properties(partial) | flags | ({"type": _TEXT, "repeat": _ANYTHING} if partial else {}))
    conditions: list[Json] = [
        {"if": is_type(*CONTAINERS), "then": _container(partial, flags)},
        {"if": is_type(FEATURES), "then": _features(flags)},
    ]
    for name in layers:
        needed = [] if partial else required(registries["layer"], name)
        then = ref(f"layer.{name}")
        if needed:
            then |= {"anyOf": [{"required": needed}, {"required": ["args"]}]}
        conditions.append({"if": is_type(name), "then": then})
    if not partial:
        conditions.append({"if": {"not": {"required": ["type"]}}, "then": alone})
    written = mapping({"type": described(kinds, _doc("type"))} | flags, others=True)
    return any_of(
        {"description": "a type", **any_of({"enum": known}, _TEXT)}, written | {"minProperties": 1, "allOf": conditions}
    )


def _container(partial: bool, flags: Json) -> Json:
    own: Json = {
        "type": True,
        "layers": ref(name_of("layers", partial)),
        "repeat": described(or_text({"type": "integer", "minimum": 0}), _doc("repeat")),
        "layer": ref(name_of("node", partial)),
        "init": ref(RULES),
    }
    either = {"oneOf": [{"required": ["layers"]}, {"required": ["repeat", "layer"]}]}
    return mapping(own | flags) | ({} if partial else either)


def _features(flags: Json) -> Json:
    own: Json = {"type": True, "of": True, "until": _TEXT, "frozen": _FLAG, "init": ref(RULES)}
    return mapping(own | flags, doc="a model up to one of its layers")


def _inputs() -> Json:
    size = any_of({"type": "integer", "minimum": 0}, {**_TEXT, "description": "the name of a free dimension"})
    shape = {"type": "array", "items": size}
    long = mapping({
        "shape": any_of(shape, {"type": "null"}),
        "dtype": any_of(ref("dtype"), {"enum": list(PLAIN)}, ref("formula"), {"type": "null"}),
        "optional": _FLAG,
    })  # fmt: skip
    one = any_of({"type": "null"}, shape, long)
    return any_of({"type": "array", "items": _TEXT}, names_of(one), {"type": "null"})


def _tensor(doc: str, *, persistent: bool) -> Json:
    shape = any_of({"type": "array", "items": or_text({"type": "integer"})}, ref("formula"))
    own: Json = {
        "shape": described(shape, "sizes"),
        "dtype": any_of(ref("dtype"), {"type": "null"}),
        "init": any_of(ref(INITIALISER), {"type": "null"}),
        "when": described(_ANYTHING, "the condition on which it is made"),
    }
    if persistent:
        own |= {"value": described({}, "an expression for its value"), "persistent": _FLAG}
    else:
        own |= {"requires_grad": _FLAG}
    return any_of(mapping(own, doc=doc, required=() if persistent else ["shape", "init"]), *([shape] * persistent))


def _rule() -> Json:
    own: Json = {"select": ref(SELECTOR), "optional": _FLAG}
    fill = any_of(ref(INITIALISER), ref("init.default"))
    return mapping(own, others=fill, doc="which parameters begin how: `{select: fc, weight: zeros_}`")


def _gate() -> Json:
    names = [*GATES, EACH]
    return any_of({"enum": names}, {"type": "array", "items": {"enum": names}, "minItems": 1})


def _selector() -> Json:
    number = any_of({"type": "integer"}, {"type": "array", "items": {"type": "integer"}})
    itself = ref(SELECTOR)
    keys: Json = {
        "match": itself, "type": _TEXTS, "name": _TEXTS, "ndim": number, "requires_grad": _FLAG, "not": itself
    }  # fmt: skip
    doc = "a pattern for names, a mapping of which all must hold, or a list of which any may"
    return any_of(_TEXT, mapping(keys) | {"minProperties": 1}, {"type": "array", "items": itself, "minItems": 1}) | {
        "description": doc
    }
