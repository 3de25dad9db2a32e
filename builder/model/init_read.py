"""YAML → rules: reads `init` of a definition, of a layer, and of the whole config."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from builder import patterns, registry
from builder.catalog.arguments import check_arguments
from builder.config.origin import Origins
from builder.errors import ConfigError, Path, nearest
from builder.model.scope import BlockScope, Context, NoLibrary, Reading, read_value
from builder.model.spec import Definition, Value
from builder.select import Selector, read_selector
from builder.weights.gates import EACH, GATES
from builder.weights.initialise import DEFAULT, Fill, Rule

KEYS = ("select", "optional")
"""Keys of a rule that aren't names of parameters."""

COUNT = "count"
"""What formulas of a rule see besides the names around it: how many parameters the key takes."""

EXAMPLE = "for example `{select: {type: Linear}, weight: {type: normal_, std: 0.02}, bias: zeros_}`"


def with_rules(definition: Definition, raw: Any, origins: Origins, path: Path = ("init",)) -> Definition:
    """The definition with further rules after its own, those of a config's section `init`.

    Raises:
        ConfigError: with all faults of the rules.
    """
    reading = Reading(_no_definition)
    names = frozenset(definition.args) | ({"data"} if definition.sees_data else frozenset())
    rules = read_init(raw, Context(reading, origins, path, names, BlockScope({}, None, NoLibrary())))
    if reading.faults:
        raise ConfigError(*reading.faults)
    return replace(definition, init=(*definition.init, *rules), rules=True) if rules else definition


def _no_definition(raw: Any, context: Context, name: str, *, inherits: bool = False) -> Definition | None:
    raise AssertionError("rules hold no definitions")


def read_init(raw: Any, context: Context, *, of_layer: bool = False) -> tuple[Rule, ...]:
    """The rules under an `init`; `of_layer`: it is that of a layer, whose constructor may have such an argument."""
    if raw is None:
        return ()
    hint = "a constructor argument of that name goes under `args: {init: …}`" if of_layer else None
    if isinstance(raw, dict):
        rules = [_read_rule(raw, context)]
    elif isinstance(raw, list) and all(isinstance(item, dict) for item in raw):
        rules = [_read_rule(item, context.at(index)) for index, item in enumerate(raw)]
    else:
        context.fault("'init' is a rule or a list of rules", found=raw, expected=EXAMPLE, hint=hint)
        return ()
    return tuple(rule for rule in rules if rule is not None)


def _read_rule(raw: dict[Any, Any], context: Context) -> Rule | None:
    before = len(context.reading.faults)
    selector: Selector | None = None
    if "select" in raw:
        selector, faults = read_selector(raw["select"], context.at("select").path, context.origins.of)
        context.reading.faults.extend(faults)
    optional = raw.get("optional", False)
    if not isinstance(optional, bool):
        context.at("optional").fault("'optional' is true or false", found=optional)
    keys = [key for key in raw if key not in KEYS]
    if not keys:
        context.fault("this rule says nothing of any parameter", found=raw, expected=EXAMPLE)
    fills = [_read_fill(str(key), raw[key], context.at(key)) for key in keys]
    if len(context.reading.faults) > before:
        return None
    done = tuple(fill for fill in fills if fill is not None)
    return Rule(selector, optional, done, raw, context.path, context.place.origin)


def _read_fill(key: str, raw: Any, context: Context) -> Fill | None:
    problem = patterns.problem(key)
    if problem is not None:
        context.fault(f"this pattern can't be used: {problem}", found=key)
        return None
    if "." in key and not key.startswith(patterns.REGEX):
        module, _, leaf = key.rpartition(".")
        context.fault(f"{key!r} is more than a parameter's own name", hint=f"write `select: {module}, {leaf}: …`")
        return None
    details = {"type": raw} if isinstance(raw, str) else raw
    if not isinstance(details, dict) or not isinstance(details.get("type"), str):
        context.fault("a parameter's name is followed by an initialiser", found=raw, hint=_meant(raw),
                      expected="`normal_`, or `{type: normal_, std: 0.02}`")  # fmt: skip
        return None
    name = details["type"]
    meant = nearest(key, KEYS) if name != DEFAULT and name not in registry.initialisers else ()
    if meant:
        context.fault(f"unknown key {key!r} of a rule, and {name!r} is no initialiser", nearest=meant)
        return None
    if name != DEFAULT and name not in registry.initialisers:
        here = context.at("type") if isinstance(raw, dict) else context
        here.fault(f"unknown initialiser {name!r}", nearest=nearest(name, [DEFAULT, *registry.initialisers.names()]),
                   hint="`builder registry initialiser` lists them")  # fmt: skip
        return None
    gates = _read_gates(details["gate"], context.at("gate")) if "gate" in details else ()
    arguments = _read_arguments(name, details, context)
    return Fill(key, name, arguments, gates, f"{key}: {_shown(raw)}", context.path, context.place.origin)


def _meant(raw: Any) -> str | None:
    number = isinstance(raw, int | float) and not isinstance(raw, bool)
    return f"a constant is `{{type: constant_, val: {raw}}}`" if number else None


def _read_gates(raw: Any, context: Context) -> tuple[str, ...]:
    names = [raw] if isinstance(raw, str) else raw
    twice = isinstance(names, list) and len(set(map(str, names))) < len(names)
    if not isinstance(names, list) or not names or twice or (EACH in names and len(names) > 1):
        context.fault(
            "'gate' is a gate's name, a list of such, or `each`", found=raw, expected=f"of {', '.join(GATES)}"
        )
        return ()
    for name in names:
        if name not in (*GATES, EACH):
            context.fault(f"there is no gate {name!r}", expected=f"one of {', '.join((*GATES, EACH))}",
                          nearest=nearest(name, (*GATES, EACH)))  # fmt: skip
    return tuple(map(str, names))


def _read_arguments(name: str, details: dict[str, Any], context: Context) -> dict[str, Value]:
    given = {key: value for key, value in details.items() if key not in ("type", "gate")}
    if name == DEFAULT:
        for key in (key for key in details if key != "type"):
            context.at(key).fault(f"{DEFAULT!r} takes no {key!r}", hint="it is what the layer's reset_parameters does")
        return {}
    seeing = context.seeing(COUNT)
    arguments = {key: read_value(value, seeing.at(key)) for key, value in given.items()}
    faults = check_arguments(
        "initialiser", name, registry.initialisers.get(name), arguments,
        path=context.path, origin_of=lambda key: context.at(key).place.origin, withheld=("tensor", "generator"),
    )  # fmt: skip
    context.reading.faults.extend(faults)
    return arguments


def _shown(raw: Any) -> str:
    if isinstance(raw, dict):
        return "{" + ", ".join(f"{key}: {_shown(value)}" for key, value in raw.items()) + "}"
    if isinstance(raw, list):
        return "[" + ", ".join(map(_shown, raw)) + "]"
    return json.dumps(raw) if raw is None or isinstance(raw, bool) else str(raw)
