"""What is registered, as JSON Schema: one definition for each name, with its arguments."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from builder.catalog.argument_docs import argument_docs
from builder.catalog.arguments import parameters_of
from builder.catalog.signatures import doc_line, signature_of
from builder.config import fits
from builder.config.kinds import Section
from builder.config.schema import TOP
from builder.model.sizes import inferable
from builder.optim.planned import LENGTHS
from builder.optim.rate_formula import FUNCTIONS
from builder.registry import Registry, registries
from builder.schema.values import Json, any_of, by_type, described, mapping, name_of, or_text, ref


@dataclass(frozen=True, slots=True)
class Uses:
    """How components of a kind stand in a config.

    `own` are keys of the section that aren't arguments, `withheld` arguments that can't be given, `provided` those that
    may be left out though they have no default. With `loose` an argument may also be a mapping of values by group. With
    `short` a name alone stands for a mapping.
    """

    own: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()
    loose: bool = False
    short: bool = False


def _keys(section: str) -> tuple[str, ...]:
    node = TOP.fields[section]
    return tuple(node.fields) if isinstance(node, Section) else ()


USES: Mapping[str, Uses] = {
    "layer": Uses(own=("type", "args", "unused", "init", "when")),
    "initialiser": Uses(own=("type", "gate"), withheld=("tensor", "generator"), short=True),
    "loss": Uses(own=("type", "of")),
    "metric": Uses(own=("type", "of")),
    "optimizer": Uses(own=_keys("optimizer"), withheld=("params",)),
    "scheduler": Uses(
        own=_keys("scheduler"),
        withheld=("optimizer",),
        provided=(*LENGTHS, *FUNCTIONS, "max_lr", "schedulers"),
        loose=True,
    ),
    "dataset": Uses(own=_keys("data"), provided=("seed",)),
    "transform": Uses(own=("type",), short=True),
    "callback": Uses(own=("type",), provided=("dirpath", "monitor")),
    "logger": Uses(own=("type",), provided=("save_dir",)),
}
"""By kind of registry; functions aren't made, but called."""


FILE_KEYS = ("defaults", fits.KEY)
"""Keys of a file of such a section that don't become part of the config."""

NAMED = {"metric": ("of",), "loss": ("of",), "transform": (), "callback": (), "logger": ()}
"""Kinds of components that stand under names or in lists, and the keys beside their arguments."""

COMMON = 5
"""An argument that so many take in the same way has a definition of its own."""


def definitions() -> Iterator[tuple[str, Json]]:
    """Name and schema of the arguments of all that is registered, and of a component of each kind."""
    for kind in USES:
        found = {name: arguments(registries[kind], name) for name in registries[kind]}
        yield from _shared(kind, found).items()
        yield from ((f"{kind}.{name}", schema) for name, schema in found.items())
    texts = any_of({"type": "string"}, {"type": "array", "items": {"type": "string"}})
    for kind, own in NAMED.items():
        for partial in (False, True):
            made = component(
                kind, dict.fromkeys(own, described(texts, "what it is given: expressions")), partial=partial
            )
            yield name_of(f"a.{kind}", partial), made


def _shared(kind: str, found: Mapping[str, Json]) -> dict[str, Json]:
    """Arguments that many have in common, taken out of `found`: there they become references."""
    places: dict[str, dict[str, list[Json]]] = {}
    for schema in found.values():
        properties = schema.get("properties", {})
        for key, one in properties.items():
            if isinstance(one, Mapping) and "$ref" not in one:
                places.setdefault(key, {}).setdefault(json.dumps(one), []).append(properties)
    shared: dict[str, Json] = {}
    for key, variants in places.items():
        text, owners = max(variants.items(), key=lambda item: len(item[1]))
        if len(owners) >= COMMON:
            name = f"{kind}-argument.{key}"
            shared[name] = json.loads(text)
            for properties in owners:
                properties[key] = ref(name)
    return shared


def arguments(registry: Registry, name: str) -> Json:
    """A mapping with the `type` of one component: its arguments, none of them required."""
    target, uses = registry.get(name), USES[registry.kind]
    parameters, doc = parameters_of(target), doc_line(target) or None
    if parameters is None:
        return {"description": doc} if doc else {}
    signature, docs = signature_of(target), argument_docs(registry, name)
    found = inferable(target) if registry.kind == "layer" else ()
    properties: dict[str, Any] = {}
    for key, accepted in parameters.accepts.items():
        if key not in (*uses.withheld, *uses.own):
            default = signature.parameters[key].default
            schema = or_text({} if accepted is None else accepted.json)
            schema = any_of(schema, {"type": "object"}) if uses.loose and schema else schema
            line = docs.get(key, "") + (" (found where it is left out)" if key in found else "")
            properties[key] = described(schema, line, None if default is signature.empty else default)
    return mapping(properties | dict.fromkeys((*uses.own, *FILE_KEYS), True), others=parameters.open, doc=doc)


def required(registry: Registry, name: str) -> list[str]:
    """The arguments of a component that a config has to give."""
    target, uses = registry.get(name), USES[registry.kind]
    parameters = parameters_of(target)
    left_out = {*uses.withheld, *uses.provided, *(inferable(target) if registry.kind == "layer" else ())}
    return [] if parameters is None else [key for key in parameters.required if key not in left_out]


def component(kind: str, fields: Mapping[str, Json], *, partial: bool = False, doc: str | None = None) -> Json:
    """A mapping with the `type` of something registered, its arguments, and `fields` beside them."""
    registry = registries[kind]
    names = list(registry)
    said = described(or_text({"enum": names}), f"the registered {kind}")
    whole = mapping({"type": said} | dict(fields), required=() if partial else ["type"], others=True, doc=doc)
    whole["allOf"] = by_type({name: ref(f"{kind}.{name}") | _needs(registry, name, partial) for name in names})
    return any_of({"enum": names}, whole) if USES[kind].short else whole


def _needs(registry: Registry, name: str, partial: bool) -> Json:
    needed: Collection[str] = () if partial else required(registry, name)
    return {"required": list(needed)} if needed else {}
