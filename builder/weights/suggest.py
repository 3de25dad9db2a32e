"""Finds the rules that would have brought the keys of a file to the names of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import regex

from builder.weights.keys import prefixes_of

Shape = tuple[int, ...]

MOST_OWNERS = 64
"""Endings of names that more targets have say nothing of where a key belongs."""

MOST_RULES = 3
LEAST_GAIN = 0.05
"""The share of the keys that a further rule has to bring."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What to write, and how many of the keys would then have a place; `further`: after rules that are there."""

    text: str
    matched: int
    total: int
    further: bool = False

    def __str__(self) -> str:
        where = " after your rules" if self.further else ""
        return f"did you mean {self.text}{where}? {self.matched} of {self.total} keys would match"


def suggest(
    sources: Mapping[str, Shape], targets: Mapping[str, Shape], *, least: int = 1, further: bool = False
) -> Suggestion | None:
    """The rules under which most keys of `sources` fit names of `targets`, with their shapes; None if hardly any do.

    Args:
        sources: the shapes of a file's tensors, by name after the rules that are there.
        targets: the shapes of the model's tensors.
        least: how many keys have to fit for a suggestion.
        further: whether there are rules, after which these would come.
    """
    names: list[tuple[str, Shape]] = list(sources.items())
    dots = _dotted(names, targets)
    names = [(name.replace("/", "."), shape) for name, shape in names] if dots else names
    rules: list[tuple[str, str]] = []
    matched = _matched(names, targets)
    while len(rules) < MOST_RULES:
        best = _best(names, targets)
        if best is None or best[2] < matched + max(1, LEAST_GAIN * len(names)):
            break
        rules.append(best[:2])
        names, matched = _moved(names, *best[:2]), best[2]
    if not (rules or dots) or matched < least:
        return None
    return Suggestion(_written(rules, names, targets, dots), matched, len(sources), further)


def _dotted(names: Sequence[tuple[str, Shape]], targets: Mapping[str, Shape]) -> list[str]:
    """The rule for names with slashes, as in archives of NumPy, where the model has none."""
    has = any("/" in name for name, _ in names) and not any("/" in name for name in targets)
    return ["{rename: '/', to: '.'}"] if has else []


def _matched(names: Sequence[tuple[str, Shape]], targets: Mapping[str, Shape]) -> int:
    """How many targets are met; a name that two keys get counts once."""
    return len({name for name, shape in names if targets.get(name) == shape})


def _best(names: Sequence[tuple[str, Shape]], targets: Mapping[str, Shape]) -> tuple[str, str, int] | None:
    """The prefixes `a` and `b` for which putting `b` in the place of `a` brings most keys to targets."""
    owners = _owners(targets)
    found: Counter[tuple[str, str]] = Counter()
    for name, shape in names:
        if targets.get(name) != shape:
            found.update(set(_changes(name, shape, owners)))
    counted = [(a, b, _matched(_moved(names, a, b), targets)) for (a, b), _ in found.most_common(8)]
    return max(counted, key=lambda each: (each[2], -len(each[0]) - len(each[1])), default=None)


def _owners(targets: Mapping[str, Shape]) -> dict[tuple[str, Shape], list[str]]:
    """For each ending of a target's name, and its shape, the prefixes that stand before it."""
    owners: dict[tuple[str, Shape], list[str]] = {}
    for name, shape in targets.items():
        for prefix in ("", *prefixes_of(name)):
            owners.setdefault((name[len(prefix) :], shape), []).append(prefix)
    return owners


def _changes(name: str, shape: Shape, owners: Mapping[tuple[str, Shape], list[str]]) -> Iterator[tuple[str, str]]:
    for a in ("", *prefixes_of(name)):
        prefixes = owners.get((name[len(a) :], shape), ())
        if len(prefixes) <= MOST_OWNERS:
            yield from ((a, b) for b in prefixes if a != b)


def _moved(names: Sequence[tuple[str, Shape]], a: str, b: str) -> list[tuple[str, Shape]]:
    return [(b + name[len(a) :] if name.startswith(a) else name, shape) for name, shape in names]


def _written(
    rules: Sequence[tuple[str, str]], names: Sequence[tuple[str, Shape]], targets: Mapping[str, Shape], dots: list[str]
) -> str:
    """Rules as a config has them, after `dots`; where they fill a submodule, and nothing beside it, with `into`."""
    if not rules:
        return f"rules: [{dots[0]}]"
    met = {name for name, shape in names if targets.get(name) == shape}
    inside = {name for name in targets if rules[-1][1] and name.startswith(rules[-1][1])}
    if met != inside:
        return f"rules: [{', '.join([*dots, *map(_rule, rules)])}]"
    *first, (a, b) = rules
    first += [(a, "")] if a else []
    written = [*dots, *map(_rule, first)]
    before = f"rules: [{', '.join(written)}] and " if written else ""
    return f"{before}into: {b.removesuffix('.')}"


def _rule(change: tuple[str, str]) -> str:
    a, b = change
    if not b:
        return f"{{strip: '{a}'}}"
    if not a:
        return f"{{prefix: '{b}'}}"
    pattern, to = regex.escape(a, literal_spaces=True), b.replace("\\", r"\\")
    return f"{{rename: '^{pattern}', to: '{to}'}}"
