"""Selectors → conditions in plain Python on a parameter, its name, its layer and its name there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from builder import patterns, registry
from builder.errors import DEFAULT
from builder.model.source_names import Imports
from builder.select import NamedModel, Selector, read_selector

VARIABLES = ("name", "layer", "leaf", "parameter")
"""What a loop over parameters gives: the name, the layer that holds it, its name there, and the parameter."""


@dataclass(frozen=True, slots=True)
class Member:
    """A parameter of a module, as such a loop gives it."""

    name: str
    layer: nn.Module
    leaf: str
    parameter: nn.Parameter
    around: tuple[tuple[str, nn.Module], ...]
    """The modules that it lies in, by name, outermost first; the last is its layer."""


@dataclass(frozen=True, slots=True)
class Test:
    """A condition as text, and what it comes to; an empty text always holds.

    One that is made of others, joined by `and` or by `or`, has them as `parts`.
    """

    text: str
    holds: Callable[[Member], bool]
    joined: str = ""
    parts: tuple[Test, ...] = ()


ALWAYS = Test("", lambda member: True)


class Names(Protocol):
    """What a printed file calls the classes of its layers."""

    imports: Imports

    def class_of(self, kind: type) -> str | None:
        """The name of the class that is printed for a block's; None if there is none."""


class Unsayable(Exception):
    """A selector has no condition that an expert would write."""


def members(index: NamedModel) -> list[Member]:
    """The parameters of a module in order."""
    found = []
    for name, parameter in index.parameters.items():
        *outer, leaf = name.split(".")
        paths = [".".join(outer[:depth]) for depth in range(len(outer) + 1)]
        around = tuple((path, index.modules[path]) for path in paths)
        found.append(Member(name, around[-1][1], leaf, parameter, around))
    return found


def both(tests: Iterable[Test]) -> Test:
    """The condition that all hold."""
    kept = [test for test in _flat(tests, "and") if test.text]
    if len(kept) < 2:
        return kept[0] if kept else ALWAYS
    text = " and ".join(f"({test.text})" for test in kept)
    return Test(text, lambda member: all(test.holds(member) for test in kept), "and", tuple(kept))


def either(tests: Iterable[Test]) -> Test:
    """The condition that one of several holds."""
    kept = _flat(tests, "or")
    if len(kept) < 2 or any(not test.text for test in kept):
        return kept[0] if len(kept) == 1 else ALWAYS
    text = " or ".join(f"({test.text})" for test in kept)
    return Test(text, lambda member: any(test.holds(member) for test in kept), "or", tuple(kept))


def _flat(tests: Iterable[Test], word: str) -> list[Test]:
    """Conditions, in the place of those that are joined by a word their parts."""
    return [part for test in tests for part in (test.parts if test.joined == word else (test,))]


def distributed(tests: Iterable[Test], leaf: Test) -> Test:
    """The condition that one of several holds and another one too, so that a long one can be broken at each `or`."""
    return either(both([test, leaf]) for test in tests)


def alternatives(selector: Selector | None, file: Names, known: list[Member]) -> list[Test]:
    """Conditions of which one holds for what a selector takes, those apart that hold for none of the `known`.

    They are true to the selector for `known`, unless it goes by the types of outer modules or by ties.

    Raises:
        Unsayable: there is none.
    """
    if selector is None or not selector.items:
        return [selected(selector, file, known)]
    tests = [test for item in selector.items for test in alternatives(item, file, known)]
    return [test for test in tests if any(map(test.holds, known))] or tests


def selected(selector: Selector | None, file: Names, known: list[Member]) -> Test:
    """The condition of a selector, as `alternatives` gives it in parts.

    Raises:
        Unsayable: there is none.
    """
    if selector is None:
        return ALWAYS
    if selector.pattern is not None:
        return covered(selector.pattern, known)
    if selector.items:
        return either(alternatives(selector, file, known))
    return both(_key(key, value, file, known) for key, value in selector.keys)


def _key(key: str, value: object, file: Names, known: list[Member]) -> Test:
    if isinstance(value, Selector):
        test = selected(value, file, known)
        return test if key == "match" else Test(f"not ({test.text or True})", lambda member: not test.holds(member))
    if key == "requires_grad":
        wanted = bool(value)
        text = "parameter.requires_grad" if wanted else "not parameter.requires_grad"
        return Test(text, lambda member: member.parameter.requires_grad is wanted)
    assert isinstance(value, tuple)
    if key == "ndim":
        text = f"parameter.ndim == {value[0]}" if len(value) == 1 else f"parameter.ndim in {value!r}"
        return Test(text, lambda member: member.parameter.ndim in value)
    if key == "name":
        return either(named(pattern) for pattern in value)
    return _typed(value, file, known)


def _typed(names: tuple[str, ...], file: Names, known: list[Member]) -> Test:
    """The condition that the layer is of one of these types; by the names of outer modules, where those are."""
    there = {type(module): module for member in known for _, module in member.around}
    kinds = {kind: name for name in names for kind, module in there.items() if _is_a(module, name)}
    inside = [member for member in known if any(type(module) in kinds for _, module in member.around)]
    if all(type(member.layer) in kinds for member in inside):
        return _instance(kinds, file, {type(member.layer) for member in inside})
    starts = dict.fromkeys(
        next((path for path, module in member.around if type(module) in kinds), "") for member in inside
    )
    if "" in starts:
        return ALWAYS
    prefixes = tuple(f"{start}." for start in starts)
    shown = repr(prefixes[0] if len(prefixes) == 1 else prefixes)
    return Test(f"name.startswith({shown})", lambda member: member.name.startswith(prefixes))


def _instance(kinds: dict[type, str], file: Names, present: set[type]) -> Test:
    """The condition that a layer is of one of some classes; `kinds` are all such, with the names that they go by."""
    texts: dict[str, type] = {}
    for kind, name in kinds.items():
        if kind in present:
            target = registry.layers.get(name) if name in registry.layers else None
            if isinstance(target, type) and issubclass(kind, target):
                texts[file.imports.of(target, name)] = target
            elif (text := file.class_of(kind)) is not None:
                texts[text] = kind
            else:
                raise Unsayable
    if not texts:
        raise Unsayable
    classes = tuple(texts.values())
    shown = next(iter(texts)) if len(texts) == 1 else f"({', '.join(texts)})"
    return Test(f"isinstance(layer, {shown})", lambda member: isinstance(member.layer, classes))


def _is_a(module: nn.Module, name: str) -> bool:
    """Whether a module is of a type, as selectors see it."""
    selector, _ = read_selector({"type": name}, (), lambda path: DEFAULT)
    assert selector is not None, "a type that was read before"
    return "" in NamedModel(module).modules_of(selector)


def named(pattern: str) -> Test:
    """The condition that a pattern fits a parameter's own name.

    Raises:
        Unsayable: it is a regular expression that Python doesn't have.
    """
    if pattern == "*":
        return ALWAYS
    if re.fullmatch(r"\w+", pattern):
        return Test(f"leaf == {pattern!r}", lambda member: member.leaf == pattern)
    start = pattern[:-1]
    if re.fullmatch(r"\w+\*", pattern):
        return Test(f"leaf.startswith({start!r})", lambda member: member.leaf.startswith(start))
    try:
        compiled = _compiled(pattern, below=False)
    except re.error as error:
        raise Unsayable from error
    matches = _matcher(pattern, compiled, patterns.fits)
    return Test(f"re.fullmatch({compiled.pattern!r}, leaf)", lambda member: matches(member.leaf))


def covered(pattern: str, known: list[Member]) -> Test:
    """The condition that a pattern fits a name or an ancestor's, true to it for the `known`.

    Raises:
        Unsayable: there is none.
    """
    for test in _covering(pattern):
        if all(test.holds(member) == patterns.covers(pattern, member.name) for member in known):
            return test
    raise Unsayable


def _covering(pattern: str) -> Iterator[Test]:
    """Conditions from the plainest on, some of which hold for some models only."""
    last = pattern.removeprefix("**.")
    if re.fullmatch(r"[\w.]+", pattern):
        start = f"{pattern}."
        yield Test(f"name.startswith({start!r})", lambda member: member.name.startswith(start))
        yield Test(f"name == {pattern!r}", lambda member: member.name == pattern)
    elif last != pattern and re.fullmatch(r"\w+", last):
        yield Test(f"leaf == {last!r}", lambda member: member.leaf == last)
        yield Test(f"{last!r} in name.split('.')", lambda member: last in member.name.split("."))
    try:
        compiled = _compiled(pattern, below=True)
    except re.error:
        return
    matches = _matcher(pattern, compiled, patterns.covers)
    yield Test(f"re.fullmatch({compiled.pattern!r}, name)", lambda member: matches(member.name))


def _matcher(pattern: str, compiled: re.Pattern[str], safe: Callable[[str, str], bool]) -> Callable[[str], bool]:
    """What a compiled pattern matches; a user's own is matched by `safe`, since Python's engine may take for ever."""
    if pattern.startswith(patterns.REGEX):
        return lambda name: safe(pattern, name)
    return lambda name: compiled.fullmatch(name) is not None


def _compiled(pattern: str, *, below: bool) -> re.Pattern[str]:
    """A pattern as a regular expression of Python's; with `below`, one that takes what lies below a name too.

    Raises:
        re.error: it is one that Python doesn't have.
    """
    if pattern.startswith(patterns.REGEX):
        text = pattern.removeprefix(patterns.REGEX)
        return re.compile(f"(?:{text})(?:\\..+)?" if below else text)
    text = ""
    segments = pattern.split(".")
    for number, segment in enumerate(segments):
        final = number == len(segments) - 1
        if segment == "**":
            text += ".*" if final else r"(?:.+\.)?"
        else:
            text += _segment(segment) + ("" if final else r"\.")
    return re.compile(text + (r"(?:\..+)?" if below and segments[-1] != "**" else ""))


def _segment(segment: str) -> str:
    out, rest = "", segment
    while rest:
        found = re.match(r"\[([!^]?)([^]]+)\]", rest)
        if found:
            out, rest = out + f"[{'^' if found[1] else ''}{found[2]}]", rest[found.end() :]
        else:
            out, rest = out + {"*": "[^.]*", "?": "[^.]"}.get(rest[0], re.escape(rest[0])), rest[1:]
    return out
