"""Checks the arguments of a registered class or function before it is called: names, presence, types."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from builder.catalog.signatures import signature_of
from builder.errors import Fault, Origin, Path, nearest

PLAIN = frozenset((type(None), bool, int, float, str, list, tuple, dict))
"""The types of values that are judged; a formula that isn't computed yet, a layer or a tensor may be anything."""

_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a parameter takes: a test of plain values, their kinds in words, the choices if they are fixed.

    `json` is what JSON Schema can say of it; it takes all that the test takes.
    """

    test: Callable[[Any], bool]
    words: tuple[str, ...]
    choices: tuple[str, ...] = ()
    json: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.words[0] if len(self.words) == 1 else f"{', '.join(self.words[:-1])} or {self.words[-1]}"


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a callable that can be given by name; a parameter of unknown type accepts None of `Accepts`."""

    accepts: Mapping[str, Accepts | None]
    required: tuple[str, ...]
    open: bool


def check_arguments(
    kind: str,
    name: str,
    target: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    path: Path,
    origin_of: Callable[[str], Origin],
    reserved: Collection[str] = (),
    provided: Collection[str] = (),
    withheld: Collection[str] = (),
) -> list[Fault]:
    """The faults of keyword arguments for `target`, the registered `kind` called `name`.

    Args:
        kind: the registry's, as `layer`.
        name: that under which the target is registered.
        target: what will be called.
        arguments: a mapping of the config; only plain values in it are judged by type.
        path: the mapping's place in the config.
        origin_of: from a key of the mapping to its origin; for one that isn't there, the origin of the mapping.
        reserved: keys of the mapping that are no arguments.
        provided: parameters that the builder fills in where they are left out.
        withheld: parameters that the builder always fills in, and that a config can't set.
    """
    parameters = parameters_of(target)
    if parameters is None:
        return []
    accepts, faults = parameters.accepts, []
    for key, value in arguments.items():
        if key in reserved:
            continue
        accepted = accepts.get(key, _MISSING)
        if accepted is _MISSING or key in withheld:
            if not parameters.open or key in withheld:
                faults.append(_unknown(kind, name, accepts, key, (*path, key), origin_of(key), withheld))
        elif accepted is not None and type(value) in PLAIN and not accepted.test(value):
            faults.append(_mistyped(kind, name, key, value, accepted, (*path, key), origin_of(key)))
    for key in parameters.required:
        if key not in arguments and key not in provided and key not in withheld:
            faults.append(_missing(kind, name, key, accepts[key], path, origin_of(key)))
    return faults


_MISSING = Accepts(lambda value: False, ())


def _unknown(
    kind: str, name: str, accepts: Mapping[str, Any], key: str, path: Path, origin: Origin, withheld: Collection[str]
) -> Fault:
    names = [known for known in accepts if known not in withheld]
    if key in withheld:
        return Fault(f"{kind} {name} is given its {key!r} by the builder", path, origin, expected=_listed(names))
    near = nearest(key, names)
    return Fault(f"{kind} {name} has no argument {key!r}", path, origin, expected=_listed(names), nearest=near)


def _missing(kind: str, name: str, key: str, accepted: Accepts | None, path: Path, origin: Origin) -> Fault:
    expected = str(accepted) if accepted else None
    return Fault(f"{kind} {name} needs the argument {key!r}", path, origin, expected=expected)


def _mistyped(kind: str, name: str, key: str, value: object, accepted: Accepts, path: Path, origin: Origin) -> Fault:
    near = nearest(value, accepted.choices) if isinstance(value, str) else ()
    message = f"{kind} {name} can't take this value for {key!r}"
    return Fault(message, path, origin, _found(value), expected=str(accepted), nearest=near)


class _Null:
    """The value None, which `Fault.found` would take for no value at all."""

    def __repr__(self) -> str:
        return "null"


def _found(value: object) -> object:
    return _Null() if value is None else value


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no arguments"


@functools.cache
def parameters_of(target: Callable[..., Any]) -> Parameters | None:
    """The parameters of a callable that a config can give; None if it can't say them. Worked out once a target."""
    try:
        signature = signature_of(target)
    except ValueError:
        return None
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [p for p in signature.parameters.values() if p.kind in by_name and not p.name.startswith("_")]
    return Parameters(
        accepts={p.name: _of_parameter(p) for p in named},
        required=tuple(p.name for p in named if p.default is p.empty),
        open=any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()),
    )


def _of_parameter(parameter: inspect.Parameter) -> Accepts | None:
    if parameter.annotation is parameter.empty:
        return None
    accepted = accepts(parameter.annotation)
    if accepted is None or parameter.default is not None or accepted.test(None):
        return accepted
    return _either([accepted, _NULL])


def accepts(annotation: Any) -> Accepts | None:
    """What an annotation says of a plain value; None if it says nothing simple."""
    if annotation is None:
        return _NULL
    if isinstance(annotation, type) and annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if _is_torch(annotation, "Tensor"):
        return _TENSOR
    if _is_torch(annotation, "Size"):
        return _sequence(int)
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return _literal(inner)
    if origin in (typing.Union, types.UnionType):
        members = [accepts(member) for member in inner]
        return None if None in members else _either([member for member in members if member])
    if origin is typing.Annotated:
        return accepts(inner[0])
    if origin is tuple or annotation is tuple:
        return _tuple(inner)
    if origin in _SEQUENCES or annotation in _SEQUENCES:
        return _sequence(inner[0] if inner else Any)
    return _MAPPING if origin in _MAPPINGS or annotation in _MAPPINGS else None


_NULL = Accepts(lambda value: value is None, ("null",), json={"type": "null"})
_MAPPING = Accepts(lambda value: isinstance(value, Mapping), ("mapping",), json={"type": "object"})
_SIMPLE: dict[type, Accepts] = {
    int: Accepts(lambda value: type(value) is int, ("int",), json={"type": "integer"}),
    float: Accepts(lambda value: type(value) in (float, int), ("float",), json={"type": "number"}),
    bool: Accepts(lambda value: isinstance(value, bool), ("bool",), json={"type": "boolean"}),
    str: Accepts(lambda value: isinstance(value, str), ("str",), json={"type": "string"}),
    type(None): _NULL,
}
_TENSOR = Accepts(
    lambda value: type(value) in (int, float, list, tuple), ("tensor",), json={"type": ["number", "array"]}
)


def _is_torch(annotation: Any, name: str) -> bool:
    return getattr(annotation, "__module__", "") == "torch" and getattr(annotation, "__name__", "") == name


def _literal(choices: tuple[Any, ...]) -> Accepts:
    words = tuple("null" if choice is None else repr(choice) for choice in choices)
    texts = tuple(choice for choice in choices if isinstance(choice, str))

    def test(value: Any) -> bool:
        return any(value == choice and type(value) is type(choice) for choice in choices)

    # In order, since `Literal["a", "b"]` is equal to `Literal["b", "a"]` and typing may give the one for the other.
    return Accepts(test, words, texts, {"enum": sorted(choices, key=repr)})


def _either(members: Sequence[Accepts]) -> Accepts:
    tests = tuple(member.test for member in members)
    words = tuple(dict.fromkeys(word for member in members for word in member.words))
    choices = tuple(choice for member in members for choice in member.choices)
    shapes = list({str(member.json): member.json for member in members}.values())
    json = {"anyOf": shapes} if len(shapes) > 1 else shapes[0]
    return Accepts(lambda value: any(test(value) for test in tests), words, choices, json)


def _tuple(inner: tuple[Any, ...]) -> Accepts:
    """A tuple of stated length, or one of any length; a list will do, as YAML has no tuples."""
    if not inner or (len(inner) == 2 and inner[1] is Ellipsis):
        return _sequence(inner[0] if inner else Any)
    members = [accepts(member) for member in inner]
    words = {str(member) for member in members}
    of = f" {words.pop()}" if len(words) == 1 and members[0] else ""

    def test(value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and len(value) == len(members)
            and all(_fits(member, item) for member, item in zip(members, value, strict=True))
        )

    json = {"type": "array", "minItems": len(members), "maxItems": len(members)}
    return Accepts(test, (f"list of {len(inner)}{of}",), json=json)


def _sequence(inner: Any) -> Accepts:
    member = accepts(inner)

    def test(value: Any) -> bool:
        return isinstance(value, list | tuple) and all(_fits(member, item) for item in value)

    json = {"type": "array", "items": {} if member is None else member.json}
    return Accepts(test, (f"list of {member}" if member else "list",), json=json)


def _fits(member: Accepts | None, item: Any) -> bool:
    return member is None or type(item) not in PLAIN or member.test(item)
