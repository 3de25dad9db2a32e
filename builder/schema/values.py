"""Pieces of JSON Schema that all parts use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from builder.config.kinds import Kind

Json = dict[str, Any]

FORMULA = "formula"
INTERPOLATION = "interpolation"

DEFS: Mapping[str, Json] = {
    FORMULA: {
        "description": "a formula `=…`, or an interpolation `${…}`",
        "type": "string",
        "pattern": r"^=|\$\{",
    },
    INTERPOLATION: {"description": "an interpolation `${…}`", "type": "string", "pattern": r"\$\{"},
}


def ref(name: str) -> Json:
    """A reference to a definition of the same document."""
    return {"$ref": f"#/$defs/{name}"}


def name_of(kind: str, partial: bool) -> str:
    """The name of a schema, or of its variant for a part of a config, which requires nothing."""
    return f"{kind}.partial" if partial else kind


def any_of(*schemas: Mapping[str, Any]) -> Json:
    """A value of any of the schemas; nested and equal ones once."""
    flat: list[Mapping[str, Any]] = []
    for schema in schemas:
        inner = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
        flat += [one for one in inner if one not in flat]
    if any(not one for one in flat):
        return {}
    return dict(flat[0]) if len(flat) == 1 else {"anyOf": list(flat)}


def or_text(schema: Mapping[str, Any], text: str = FORMULA) -> Json:
    """The schema, and at every place in it a formula or an interpolation instead of the value itself."""
    if not schema or schema == {"type": "string"} or schema.get("not") == {}:
        return dict(schema)
    inside = dict(schema)
    if isinstance(inside.get("items"), Mapping):
        inside["items"] = or_text(inside["items"], text)
    if "anyOf" in inside:
        inside["anyOf"] = [or_text(one, text) for one in inside["anyOf"]]
        inside = any_of(*inside["anyOf"]) if set(inside) == {"anyOf"} else inside
    return any_of(inside, ref(text))


def of_kind(kind: Kind) -> Json:
    """What a kind of the config's sections takes; an interpolation may stand for it."""
    return or_text(kind.json, INTERPOLATION)


def mapping(
    properties: Mapping[str, Any], *, required: Iterable[str] = (), others: Any = False, doc: str | None = None
) -> Json:
    """An object with these properties; `others` is the schema of all others, none if it is false."""
    schema: Json = {} if doc is None else {"description": doc}
    schema |= {"type": "object", "properties": dict(properties)}
    if others is not True:
        schema["additionalProperties"] = others
    needed = list(required)
    return schema | ({"required": needed} if needed else {})


def names_of(schema: Mapping[str, Any], doc: str | None = None) -> Json:
    """An object whose keys the user chooses, each value being of the schema."""
    return ({} if doc is None else {"description": doc}) | {"type": "object", "additionalProperties": dict(schema)}


def described(schema: Mapping[str, Any], doc: str | None, default: Any = None) -> Json:
    """The schema with a line on what it is, and its default if JSON can say that."""
    made = {"description": doc, **schema} if doc else dict(schema)
    return made | {"default": default} if is_json(default) and default is not None else made


def is_json(value: Any) -> bool:
    """Whether JSON can say a value as it is."""
    if isinstance(value, list | tuple):
        return all(map(is_json, value))
    if isinstance(value, float):
        return value == value and abs(value) != float("inf")
    return value is None or type(value) in (bool, int, str)


def by_type(choices: Mapping[str, Mapping[str, Any]]) -> list[Json]:
    """One condition for each `type`: if it is that, what the mapping must then be."""
    return [{"if": is_type(name), "then": dict(schema)} for name, schema in choices.items()]


def is_type(*names: str) -> Json:
    """The schema of mappings with that `type`, or one of those."""
    said = {"const": names[0]} if len(names) == 1 else {"enum": list(names)}
    return {"properties": {"type": said}, "required": ["type"]}
