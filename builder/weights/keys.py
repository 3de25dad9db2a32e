"""Rules that turn the keys of a file into names of a model, in order, each counting what it hit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import regex

from builder import patterns
from builder.errors import Fault, Origin, Path, UsageError, nearest
from builder.weights.entries import WeightsFile
from builder.weights.wording import listed

KINDS = ("strip", "prefix", "rename", "drop", "transpose")
ARGUMENTS = {"rename": "to", "transpose": "dims"}
"""What a rule takes besides its own key."""

OriginOf = Callable[[Path], Origin]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its kind, what it says, and its place in the config.

    `text` is that of `strip` and `prefix`, and the regular expression of `rename`, whose replacement is `to`;
    `patterns` are those of `drop` and `transpose`; `dims` is the order of dimensions of `transpose`, None: swap two.
    """

    kind: str
    path: Path
    origin: Origin
    text: str = ""
    to: str = ""
    patterns: tuple[str, ...] = ()
    dims: tuple[int, ...] | None = None

    def __str__(self) -> str:
        said = ", ".join(self.patterns) or self.text
        if self.kind == "rename":
            return f"rename {said} to {self.to or repr('')}"
        return f"{self.kind} {said}" + (f" dims {list(self.dims)}" if self.dims else "")


@dataclass(frozen=True, slots=True)
class Named:
    """A tensor of a file on its way: its key there, and its name, permutations and shape by the rules so far."""

    key: str
    name: str
    shape: tuple[int, ...]
    permutations: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Renamed:
    """What the rules made of a file: the tensors with their names, those dropped, and how many each rule hit."""

    tensors: tuple[Named, ...]
    dropped: tuple[str, ...]
    hits: tuple[int, ...]


def read_rules(raw: Any, path: Path, origin_of: OriginOf) -> tuple[tuple[Rule, ...], list[Fault]]:
    """The rules of a list, and what is wrong with them."""
    if not isinstance(raw, list | tuple):
        fault = Fault("rules are a list", path, origin_of(path), raw, "a list such as [{strip: 'module.'}]")
        return (), [fault]
    read = [_read_rule(item, (*path, index), origin_of) for index, item in enumerate(raw)]
    return tuple(rule for rule, _ in read if rule is not None), [fault for _, faults in read for fault in faults]


def _read_rule(raw: Any, path: Path, origin_of: OriginOf) -> tuple[Rule | None, list[Fault]]:
    origin = origin_of(path)
    kinds = [kind for kind in KINDS if isinstance(raw, Mapping) and kind in raw]
    if len(kinds) != 1:
        expected = f"a mapping with one of {', '.join(KINDS)}"
        near = nearest(next(iter(raw)), KINDS) if isinstance(raw, Mapping) and raw and not kinds else ()
        message = f"one rule does one thing, not {' and '.join(kinds)}" if kinds else "this is no rule"
        return None, [Fault(message, path, origin, raw, expected, near)]
    kind = kinds[0]
    allowed = (kind, ARGUMENTS[kind]) if kind in ARGUMENTS else (kind,)
    faults = [
        Fault(f"unknown key {key!r} of a rule {kind!r}", (*path, key), origin_of((*path, key)), None,
              f"one of {', '.join(allowed)}", nearest(key, allowed))
        for key in raw if key not in allowed
    ]  # fmt: skip
    rule, more = READERS[kind](raw, Rule(kind, path, origin), lambda key: origin_of((*path, key)))
    faults += more
    return (None if faults else rule), faults


def _read_text(raw: Mapping[str, Any], rule: Rule, origin_of: Callable[[str], Origin]) -> tuple[Rule, list[Fault]]:
    text = raw[rule.kind]
    if isinstance(text, str) and text:
        return replace(rule, text=text), []
    return rule, [Fault(f"{rule.kind!r} is a text", (*rule.path, rule.kind), origin_of(rule.kind), text, "as 'bert.'")]


def _read_rename(raw: Mapping[str, Any], rule: Rule, origin_of: Callable[[str], Origin]) -> tuple[Rule, list[Fault]]:
    text, to = raw["rename"], raw.get("to")
    if not isinstance(text, str) or not text:
        expected = r"a regular expression, as '^layers\.(\d+)\.'"
        return rule, [Fault("'rename' can't be used", (*rule.path, "rename"), origin_of("rename"), text, expected)]
    if not isinstance(to, str):
        place = (*rule.path, "to") if "to" in raw else rule.path
        message = "'rename' needs the text 'to' that it puts there"
        return rule, [Fault(message, place, origin_of("to"), to, r"as 'blocks.\1.'")]
    text = text.removeprefix(patterns.REGEX)
    try:
        compiled = regex.compile(text, regex.V0)
    except (regex.error, RecursionError) as error:
        message = f"'rename' is no regular expression: {error}"
        return rule, [Fault(message, (*rule.path, "rename"), origin_of("rename"), text)]
    try:
        _template_of(compiled, to)
    except (regex.error, IndexError) as error:
        expected = f"groups of the pattern, which has {compiled.groups}: \\1 is the first"
        return rule, [Fault(f"'to' can't be used: {error}", (*rule.path, "to"), origin_of("to"), to, expected)]
    return replace(rule, text=text, to=to), []


def _template_of(compiled: Any, to: str) -> None:
    """Raise what `sub` would raise for a replacement at a match: tried on a pattern with groups of the same names."""
    names = {number: name for name, number in compiled.groupindex.items()}
    groups = (f"(?P<{names[number]}>)" if number in names else "()" for number in range(1, compiled.groups + 1))
    regex.compile("".join(groups)).sub(to, "")


def _read_patterns(raw: Mapping[str, Any], rule: Rule, origin_of: Callable[[str], Origin]) -> tuple[Rule, list[Fault]]:
    said, place = raw[rule.kind], (*rule.path, rule.kind)
    found, faults = read_patterns(said, place, origin_of(rule.kind))
    rule = replace(rule, patterns=found)
    if rule.kind != "transpose" or raw.get("dims") is None:
        return rule, faults
    dims = raw["dims"]
    if not isinstance(dims, list | tuple) or any(type(dim) is not int for dim in dims):
        faults.append(_bad_dims(rule, dims, origin_of))
    elif sorted(dims) != list(range(len(dims))):
        faults.append(_bad_dims(rule, dims, origin_of))
    else:
        rule = replace(rule, dims=tuple(dims))
    return rule, faults


def _bad_dims(rule: Rule, dims: Any, origin_of: Callable[[str], Origin]) -> Fault:
    expected = "each dimension once, in the new order, as [3, 2, 0, 1]"
    return Fault("'dims' can't be used", (*rule.path, "dims"), origin_of("dims"), dims, expected)


READERS = {
    "strip": _read_text, "prefix": _read_text, "rename": _read_rename,
    "drop": _read_patterns, "transpose": _read_patterns,
}  # fmt: skip


def read_patterns(raw: Any, path: Path, origin: Origin) -> tuple[tuple[str, ...], list[Fault]]:
    """The patterns of a text or a list of texts, and what is wrong with them."""
    said = raw if isinstance(raw, list | tuple) else [raw]
    if not said or not all(isinstance(pattern, str) for pattern in said):
        return (), [Fault("this is no pattern", path, origin, raw, "a pattern as 'head.**', or a list of them")]
    faults = []
    for pattern in said:
        problem = patterns.problem(pattern)
        if problem is not None:
            faults.append(Fault(f"this pattern can't be used: {problem}", path, origin, pattern))
    return tuple(said), faults


def apply_rules(rules: Iterable[Rule], file: WeightsFile) -> tuple[Renamed, list[Fault]]:
    """What rules make of the tensors of a file, and what is wrong: a rule without a hit, two tensors of one name."""
    tensors = [Named(key, key, entry.shape) for key, entry in file.entries.items()]
    dropped: list[str] = []
    hits: list[int] = []
    faults: list[Fault] = []
    for rule in rules:
        before = tensors
        try:
            tensors, hit, more = APPLY[rule.kind](rule, before)
        except UsageError as error:
            hit, more = 0, [Fault(str(error), rule.path, rule.origin)]
        except TimeoutError:
            message = "this takes too long to match; write it more simply"
            hit, more = 0, [Fault(message, rule.path, rule.origin, rule.text)]
        else:
            more = more or _no_hit(rule, before, hit)
        kept = {tensor.key for tensor in tensors}
        dropped += [tensor.key for tensor in before if tensor.key not in kept]
        hits.append(hit)
        faults += more
    return Renamed(tuple(tensors), tuple(dropped), tuple(hits)), faults


def clashes(renamed: Renamed, path: Path, origin: Origin) -> list[Fault]:
    """The fault of names that more than one tensor has after the rules."""
    by_name: dict[str, list[str]] = {}
    for tensor in renamed.tensors:
        by_name.setdefault(tensor.name, []).append(tensor.key)
    several = {name: keys for name, keys in by_name.items() if len(keys) > 1}
    if not several:
        return []
    hint = "drop all but one, or write the rules so that they differ"
    name, keys = next(iter(several.items()))
    if len(several) == 1:
        return [Fault(f"the rules give {len(keys)} tensors the name {name!r}", path, origin, keys, hint=hint)]
    message = f"the rules give {len(several)} names to more than one tensor each: {listed(several)}"
    return [Fault(message, path, origin, hint=f"{keys[0]!r} and {keys[1]!r} are both {name!r}; {hint}")]


Step = tuple[list[Named], int, list[Fault]]


def _strip(rule: Rule, tensors: list[Named]) -> Step:
    found = [tensor.name.startswith(rule.text) for tensor in tensors]
    kept = [
        replace(tensor, name=tensor.name[len(rule.text) :]) if hit else tensor
        for tensor, hit in zip(tensors, found, strict=True)
    ]
    return kept, sum(found), []


def _prefix(rule: Rule, tensors: list[Named]) -> Step:
    return [replace(tensor, name=rule.text + tensor.name) for tensor in tensors], len(tensors), []


def _rename(rule: Rule, tensors: list[Named]) -> Step:
    compiled, renamed, hits = regex.compile(rule.text, regex.V0), [], 0
    for tensor in tensors:
        name, count = compiled.subn(rule.to, tensor.name, timeout=patterns.SECONDS)
        renamed.append(replace(tensor, name=name))
        hits += bool(count)
    return renamed, hits, []


def _drop(rule: Rule, tensors: list[Named]) -> Step:
    covered = {pattern: _covered(pattern, tensors) for pattern in rule.patterns}
    kept = [tensor for tensor in tensors if not any(tensor.name in names for names in covered.values())]
    return kept, len(tensors) - len(kept), _idle(rule, tensors, covered)


def _transpose(rule: Rule, tensors: list[Named]) -> Step:
    covered = {pattern: _covered(pattern, tensors) for pattern in rule.patterns}
    turned, hits, faults = [], 0, _idle(rule, tensors, covered)
    for tensor in tensors:
        dims = rule.dims or (1, 0)
        if not any(tensor.name in names for names in covered.values()):
            turned.append(tensor)
            continue
        hits += 1
        if len(dims) != len(tensor.shape):
            message = f"{tensor.name!r} has {len(tensor.shape)} dimensions, not {len(dims)}"
            hint = None if rule.dims else "say the new order by 'dims', or choose tensors of two dimensions"
            faults.append(Fault(message, rule.path, rule.origin, list(tensor.shape), hint=hint))
            turned.append(tensor)
            continue
        shape = tuple(tensor.shape[dim] for dim in dims)
        turned.append(replace(tensor, shape=shape, permutations=(*tensor.permutations, dims)))
    return turned, hits, faults


APPLY = {"strip": _strip, "prefix": _prefix, "rename": _rename, "drop": _drop, "transpose": _transpose}


def _covered(pattern: str, tensors: list[Named]) -> frozenset[str]:
    return frozenset(tensor.name for tensor in tensors if patterns.covers(pattern, tensor.name))


def _idle(rule: Rule, tensors: list[Named], covered: Mapping[str, frozenset[str]]) -> list[Fault]:
    return [
        Fault(f"{rule.kind} hits no key", rule.path, rule.origin, pattern,
              nearest=patterns.near(pattern, [tensor.name for tensor in tensors]),
              hint=_sample(tensors))
        for pattern, names in covered.items() if not names
    ]  # fmt: skip


def _no_hit(rule: Rule, tensors: list[Named], hits: int) -> list[Fault]:
    if hits:
        return []
    names = [tensor.name for tensor in tensors]
    if rule.kind == "strip":
        starts = dict.fromkeys(start for name in names for start in prefixes_of(name))
        near: tuple[str, ...] = nearest(rule.text, starts)
    else:
        near = patterns.near(rule.text.replace("(\\d+)", "0"), names)
    return [Fault(f"{rule.kind} hits no key", rule.path, rule.origin, rule.text, nearest=near, hint=_sample(tensors))]


def prefixes_of(name: str) -> list[str]:
    """The beginnings of a dotted name that end in a dot: `a.`, `a.b.`."""
    return [name[: index + 1] for index, char in enumerate(name) if char == "."]


def _sample(tensors: list[Named], shown: int = 3) -> str:
    if not tensors:
        return "no keys are left here"
    names = ", ".join(repr(tensor.name) for tensor in tensors[:shown])
    return f"the keys here are {names}{', …' if len(tensors) > shown else ''}"
