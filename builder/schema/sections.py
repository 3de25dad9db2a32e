"""The sections of a config as JSON Schema, each whole and as a part that is merged onto others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from builder.config.kinds import Field, Names, Node, Section
from builder.config.schema import TOP
from builder.schema.components import component
from builder.schema.language import RULES, SELECTOR
from builder.schema.values import (
    INTERPOLATION,
    Json,
    any_of,
    described,
    mapping,
    name_of,
    names_of,
    of_kind,
    or_text,
    ref,
)
from builder.weights.keys import ARGUMENTS, KINDS
from builder.weights.load_section import LENIENCY, SHAPES, WEIGHTS

KINDS_OF = {"data": "dataset", "optimizer": "optimizer", "scheduler": "scheduler"}
"""Sections that name one component."""
NAMED_KINDS = {"callbacks": "callback", "logger": "logger"}
"""Sections of components by name; null takes one away."""

_TEXT: Json = {"type": "string"}
_TEXTS: Json = any_of(_TEXT, {"type": "array", "items": _TEXT})
_NULL: Json = {"type": "null"}


def definitions() -> Iterator[tuple[str, Json]]:
    """Name and schema of each section, and of a whole config."""
    for partial in (False, True):
        for section, node in TOP.fields.items():
            yield name_of(f"section.{section}", partial), section_schema(section, node, partial)
        yield name_of("config", partial), _config(partial)


def _config(partial: bool) -> Json:
    fields = {section: ref(name_of(f"section.{section}", partial)) for section in TOP.fields}
    needed = () if partial else (name for name, node in TOP.fields.items() if node.required)
    return mapping({"defaults": ref("defaults")} | fields if partial else fields, required=needed, doc=TOP.doc)


def section_schema(section: str, node: Node, partial: bool) -> Json:
    """The schema of one key at the top of a config."""
    if section in SPECIAL:
        return described(SPECIAL[section](node, partial), node.doc)
    if section in KINDS_OF:
        assert isinstance(node, Section), "a component's section has keys"
        made = component(KINDS_OF[section], _fields(section, node, partial), partial=partial, doc=node.doc)
        return made if node.short is None else any_of(made, node.short.json, ref(INTERPOLATION))
    if section in NAMED_KINDS:
        one = any_of(ref(name_of(f"a.{NAMED_KINDS[section]}", partial)), _NULL)
        return names_of(one, node.doc)
    return plain(node, partial)


def plain(node: Node, partial: bool = False) -> Json:
    """What a node of the config's schema says of itself."""
    if isinstance(node, Field):
        if node.refused is not None:
            return {"description": node.refused, "not": {}}
        return described(of_kind(node.kind), node.doc, node.default)
    if isinstance(node, Names):
        return names_of(plain(node.of, partial), node.doc)
    needed = () if partial else (key for key, child in node.fields.items() if child.required)
    whole = mapping(
        {key: plain(child, partial) for key, child in node.fields.items()}, required=needed, others=node.open,
        doc=node.doc,
    )  # fmt: skip
    return whole if node.short is None else any_of(whole, of_kind(node.short))


def _fields(section: str, node: Section, partial: bool) -> dict[str, Any]:
    """The keys of a section beside a component's arguments."""
    found = {key: plain(child, partial) for key, child in node.fields.items() if key != "type"}
    more: dict[str, Json] = {}
    if section == "data":
        items = {"type": "array", "items": ref("a.transform")}
        more = {"transforms": any_of(mapping({"train": items, "eval": items}), _NULL, ref(INTERPOLATION))}
    elif section == "optimizer":
        more = {"groups": _groups(), "no_decay": any_of(ref(SELECTOR), _NULL), "layer_decay": _layer_decay()}
    return found | {key: described(schema, _doc(node, key)) for key, schema in more.items()}


def _doc(node: Section, key: str) -> str:
    return node.fields[key].doc


def _groups() -> Json:
    own: Json = {"name": {"type": "string", "minLength": 1}, "select": ref(SELECTOR), "layer_decay": _layer_decay()}
    return any_of({"type": "array", "items": mapping(own, others=True, required=["select"])}, _NULL)


def _layer_decay() -> Json:
    rate: Json = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    layers = {"type": "array", "items": ref(SELECTOR), "minItems": 1}
    return any_of(rate, mapping({"rate": rate, "layers": any_of(layers, _NULL)}), _NULL, ref(INTERPOLATION))


def _model(node: Node, partial: bool) -> Json:
    return ref("model.partial" if partial else "model")


def _init(node: Node, partial: bool) -> Json:
    return ref(RULES)


def _task(node: Node, partial: bool) -> Json:
    assert isinstance(node, Section), "the task has keys"
    fields = {key: plain(child, partial) for key, child in node.fields.items()}
    fields["loss"] = described(_loss(partial), _doc(node, "loss"))
    fields["metrics"] = names_of(ref(name_of("a.metric", partial)), _doc(node, "metrics"))
    return mapping(fields, required=() if partial else ["loss"])


def _loss(partial: bool) -> Json:
    """An expression, a registered loss, or terms by name with their weights."""
    registered = ref(name_of("a.loss", partial))
    term = mapping({
        "loss": any_of(_TEXT, registered), "weight": or_text({"type": "number"})
    })  # fmt: skip
    by_name = names_of(any_of(_TEXT, term, registered))
    return any_of(_TEXT, {"if": {"required": ["type"]}, "then": registered, "else": by_name} | {"type": "object"})


def _load(node: Node, partial: bool) -> Json:
    assert isinstance(node, Section), "a source has keys"
    fields = {key: plain(child, partial) for key, child in node.fields.items()}
    rules = [mapping({kind: {}} | ({ARGUMENTS[kind]: {}} if kind in ARGUMENTS else {}), required=[kind])
             for kind in KINDS]  # fmt: skip
    policy = any_of({"enum": list(LENIENCY)}, mapping({"allow": _TEXTS}, required=["allow"]), _NULL)
    shape = any_of({"enum": list(SHAPES)}, {"type": "object"}, _NULL)
    more: dict[str, Json] = {
        "weights": any_of({"enum": list(WEIGHTS)}, _NULL),
        "rules": any_of({"type": "array", "items": any_of(*rules)}, _NULL),
        "missing": policy,
        "unexpected": policy,
        "shape": shape,
        "strict": any_of({"const": True}, _NULL),
    }
    fields |= {key: described(or_text(schema, INTERPOLATION), _doc(node, key)) for key, schema in more.items()}
    one = any_of(_TEXT, mapping(fields, required=() if partial else ["path"]))
    return any_of(one, {"type": "array", "items": one}, _NULL)


def _freeze(node: Node, partial: bool) -> Json:
    assert isinstance(node, Section), "a rule has keys"
    until = any_of(*({"type": "object", "properties": {unit: or_text({"type": "integer", "minimum": 1})},
                      "required": [unit], "additionalProperties": False} for unit in ("epoch", "step")),
                   _NULL, ref(INTERPOLATION))  # fmt: skip
    fields = {key: plain(child, partial) for key, child in node.fields.items()}
    fields |= {"select": ref(SELECTOR), "until": described(until, _doc(node, "until"))}
    one = any_of(_TEXT, mapping(fields))
    return any_of(one, {"type": "array", "items": any_of(one, ref(SELECTOR))}, _NULL)


SPECIAL: Mapping[str, Callable[[Node, bool], Json]] = {
    "model": _model, "init": _init, "task": _task, "load": _load, "freeze": _freeze
}  # fmt: skip
"""Sections of which more can be said than the table of keys says."""
