"""Sizes that were left out, as an expert would write them: `width`, `4 * width`, `1 if i == 0 else width`, or a number.

An expression is believed only if it also holds for models made with other arguments, which are explored for that.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any

from builder.errors import Path
from builder.lang.formula import Formula
from builder.lang.syntax import LangError
from builder.model.infer import Exploration
from builder.model.pending import Names, Sizes
from builder.model.sizes import inferable
from builder.model.source_probes import probes
from builder.model.source_visits import Visit, classes, inlined, nodes_of, visits
from builder.model.spec import Definition, Node

LOOPS = ("i", "j", "k", "m", "n")
"""Names of the counters of nested repeats."""

Slot = tuple[Path, str]
"""The place of a node in the config, and an argument that is filled in there."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A value of a slot, in one of the explored models; `model` 0 is the one that is printed."""

    value: Any
    visit: Visit
    model: int


@dataclass(slots=True)
class Found:
    """The expression of each slot, and the parameters that classes take besides their own arguments.

    `parameters` has, for each class, names of such parameters with their value in each instance and model.
    """

    slots: dict[Slot, ast.expr] = field(default_factory=dict)
    parameters: dict[Path, dict[str, dict[tuple[int, str], Any]]] = field(default_factory=dict)


def find(definition: Definition, given: Names, data: Names, found: Exploration) -> Found:
    """Expressions for all sizes that were left out of a model.

    Args:
        definition: the model.
        given: values for its arguments.
        data: facts of the data set.
        found: what its exploration told.
    """
    result = Found()
    if not found.sizes:
        return result
    models = [(given, found.sizes), *probes(definition, given, data, found)]
    made: dict[Path, list[tuple[int, Visit]]] = {}
    for index, (values, _) in enumerate(models):
        for visit in visits(definition, values, data):
            made.setdefault(visit.node.place.path, []).append((index, visit))
    sizes = [sizes for _, sizes in models]
    for part in classes(definition):
        _Class(part, part is definition, result).solve(made, sizes)
    return result


@dataclass(frozen=True, slots=True)
class Candidate:
    """An expression that may give a size: a name, or a formula that the class has anyway; `counts`: it uses `i`."""

    tree: ast.expr
    value: Callable[[Names], Any]
    counts: bool = False


@dataclass(slots=True)
class _Place:
    """What is known of a slot: its node with a name for it, the repeats around it, and the values seen there."""

    node: Node
    name: str
    depth: int
    argument: str
    seen: list[Seen]
    candidates: list[Candidate]


@dataclass(slots=True)
class _Class:
    """Finds the expressions of one class, whose callees are done."""

    definition: Definition
    root: bool
    result: Found

    def solve(self, made: Mapping[Path, list[tuple[int, Visit]]], sizes: Sequence[Sizes]) -> None:
        """Enter the expressions of all slots of this class, and the parameters it needs."""
        for node, depth, name in nodes_of(self.definition):
            for argument, seen in self._seen(node, made.get(node.place.path, []), sizes).items():
                place = _Place(node, name, depth, argument, seen, list(self._candidates(seen[0].visit.names)))
                # The model itself may hold numbers that other arguments would change; its parts get them from it.
                tree = _expression(place, _printed if self.root else list)
                if tree is None:
                    assert not self.root, "in the model itself sizes depend on nothing but the counts of repeats"
                    tree = self._by_parameter(place)
                self.result.slots[node.place.path, argument] = tree

    def _seen(self, node: Node, visits: list[tuple[int, Visit]], sizes: Sequence[Sizes]) -> dict[str, list[Seen]]:
        """The values of what is filled in at a node, by argument."""
        values: dict[str, list[Seen]] = {}
        if node.kind == "layer":
            assert node.target is not None
            for argument in sorted(inferable(node.target) - set(node.arguments)):
                filled = [(model, visit) for model, visit in visits if visit.path in sizes[model]]
                values[argument] = [Seen(sizes[model][v.path][argument], v, model) for model, v in filled]
        elif node.definition is not None and not inlined(node):
            for name, known in self.result.parameters.get(node.definition.place.path, {}).items():
                filled = [(model, visit) for model, visit in visits if (model, visit.path) in known]
                values[name] = [Seen(known[model, v.path], v, model) for model, v in filled]
        return {name: seen for name, seen in values.items() if seen and seen[0].model == 0}

    def _candidates(self, names: Names) -> Iterator[Candidate]:
        """Expressions in the order in which they are tried."""
        for name, value in names.items():
            if type(value) is int and name != "i":
                yield Candidate(ast.Name(name, ast.Load()), itemgetter(name))
            elif isinstance(value, list | tuple) and value:
                yield from (_item(name, index) for index in (0, -1))
        texts = set()
        for node, _, _ in nodes_of(self.definition):
            for value in node.arguments.values():
                if isinstance(value, Formula) and value.text not in texts and value.names <= set(names) - {"data"}:
                    texts.add(value.text)
                    yield Candidate(value.tree, value.evaluate, "i" in value.names)

    def _by_parameter(self, place: _Place) -> ast.expr:
        """A parameter of the class that brings the value, or that of the first copy where the others can be said."""
        first, rest = _split(place.seen) if place.depth else ([], [])
        before = [*_before(place.candidates), *place.candidates]
        then = _symbolic(before, rest, place.depth) or _constant(rest)
        if then is not None and (start := _by_instance(first)) is not None:
            return _first_or(self._parameter(place, start), then, place.depth)
        if (values := _by_instance(place.seen)) is not None:
            return self._parameter(place, values)
        copies: dict[tuple[int, str], dict[tuple[int, ...], Any]] = {}
        for item in place.seen:
            copies.setdefault((item.model, item.visit.owner), {})[item.visit.loops] = item.value
        tree = self._parameter(place, {instance: _nested(table) for instance, table in copies.items()})
        for level in range(place.depth):
            tree = ast.Subscript(tree, counter(level), ast.Load())
        return tree

    def _parameter(self, place: _Place, values: dict[tuple[int, str], Any]) -> ast.expr:
        """A parameter with these values in the instances; one that has them all is used again."""
        known = self.result.parameters.setdefault(self.definition.place.path, {})
        for name, others in known.items():
            if all(others.get(instance, value) == value for instance, value in values.items()):
                others.update(values)
                return ast.Name(name, ast.Load())
        longer = f"{place.name}_{place.argument}"
        taken = {*known, *self.definition.args, *LOOPS, *place.seen[0].visit.names}
        names = (place.argument, longer, *(f"{longer}{number}" for number in range(2, 1000)))
        name = next(name for name in names if name not in taken)
        known[name] = values
        return ast.Name(name, ast.Load())


def _item(name: str, index: int) -> Candidate:
    tree = ast.Subscript(ast.Name(name, ast.Load()), ast.Constant(index), ast.Load())
    return Candidate(tree, lambda names: names[name][index])


def _expression(place: _Place, numbers: Callable[[list[Seen]], list[Seen]]) -> ast.expr | None:
    """An expression in the class's own names, or a number, that gives all values; None if there is none.

    `numbers` chooses what a number must be true of.
    """
    tree = _symbolic(place.candidates, place.seen, place.depth)
    if tree is not None or place.depth == 0:
        return tree or _constant(numbers(place.seen))
    first, rest = _split(place.seen)
    before = [*_before(place.candidates), *place.candidates]
    start, then = _symbolic(place.candidates, first, place.depth), _symbolic(before, rest, place.depth)
    if start is None or then is None:
        if (tree := _constant(numbers(place.seen))) is not None:
            return tree
        start, then = start or _constant(numbers(first)), then or _constant(numbers(rest))
    if start is not None and then is not None:
        return _first_or(start, then, place.depth)
    return _by_count(numbers(place.seen), place.depth)


def _printed(seen: list[Seen]) -> list[Seen]:
    return [item for item in seen if item.model == 0]


def _constant(seen: list[Seen]) -> ast.expr | None:
    """The number that all values are; None if they differ, or if there is none."""
    return _literal(seen[0].value) if seen and _all_equal(item.value for item in seen) else None


def counter(level: int) -> ast.expr:
    """The counter of the repeat at that level of a class, from 0 outermost; given its name when it is printed."""
    return ast.Name(f"{COUNTER}{level}", ast.Load())


COUNTER = "_count_"


def _symbolic(candidates: Sequence[Candidate], seen: list[Seen], depth: int) -> ast.expr | None:
    """The first candidate, or else whole multiple of one, that gives all values and is not merely constant."""
    if not seen or not all(type(item.value) is int for item in seen):
        return None
    multiples = []
    for candidate in candidates:
        factor = _factor(candidate, seen)
        if factor == 1:
            return _counted(candidate.tree, depth)
        if factor is not None:
            multiples.append(ast.BinOp(ast.Constant(factor), ast.Mult(), _counted(candidate.tree, depth)))
    return multiples[0] if multiples else None


def _factor(candidate: Candidate, seen: list[Seen]) -> int | None:
    """What a candidate must be multiplied by to give all values; None if nothing does, or if it can't be told."""
    try:
        values = [candidate.value(item.visit.names) for item in seen]
    except (LangError, LookupError):
        return None
    if _all_equal(values) or not all(type(value) is int and value > 0 for value in values):
        return None
    factor = seen[0].value // values[0]
    return factor if factor and all(s.value == factor * v for s, v in zip(seen, values, strict=True)) else None


def _before(candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """Candidates for the size that the copy before gave: those that count, one less."""
    for candidate in candidates:
        if candidate.counts:
            tree = _Sums().visit(_Replace({"i": ast.parse("i - 1", mode="eval").body}).visit(copied(candidate.tree)))
            yield Candidate(tree, partial(_one_less, candidate), True)


def _one_less(candidate: Candidate, names: Names) -> Any:
    return candidate.value({**names, "i": names["i"] - 1})


def _split(seen: list[Seen]) -> tuple[list[Seen], list[Seen]]:
    """What belongs to the first copies of the innermost repeat, and to the others."""
    first = [item for item in seen if item.visit.loops[-1] == 0]
    return first, [item for item in seen if item.visit.loops[-1] != 0]


def _first_or(start: ast.expr, then: ast.expr, depth: int) -> ast.expr:
    """`start if i == 0 else then`."""
    return ast.IfExp(ast.Compare(counter(depth - 1), [ast.Eq()], [ast.Constant(0)]), start, then)


def _by_count(seen: list[Seen], depth: int) -> ast.expr | None:
    """`(1, 64, 64)[i]`, where the value depends on the counts of the repeats alone, on as few of them as will do."""
    for levels in ([depth - 1], *([level] for level in range(depth - 1)), list(range(depth))):
        table: dict[tuple[int, ...], Any] = {}
        for item in seen:
            table.setdefault(tuple(item.visit.loops[level] for level in levels), item.value)
        if all(table[tuple(item.visit.loops[level] for level in levels)] == item.value for item in seen):
            tree: ast.expr = _literal(_nested(table))
            for level in levels:
                tree = ast.Subscript(tree, counter(level), ast.Load())
            return tree
    return None


def _nested(table: Mapping[tuple[int, ...], Any]) -> Any:
    """Values by counts → tuples in tuples; None where a count is missing."""
    if () in table:
        return table[()]
    rows: dict[int, dict[tuple[int, ...], Any]] = {}
    for counts, value in table.items():
        rows.setdefault(counts[0], {})[counts[1:]] = value
    return tuple(_nested(rows[count]) if count in rows else None for count in range(max(rows) + 1))


def _by_instance(seen: list[Seen]) -> dict[tuple[int, str], Any] | None:
    """The value in each instance of the class; None if one has several."""
    values: dict[tuple[int, str], Any] = {}
    for item in seen:
        if values.setdefault((item.model, item.visit.owner), item.value) != item.value:
            return None
    return values


def _all_equal(values: Iterable[Any]) -> bool:
    values = list(values)
    return all(value == values[0] for value in values)


def _literal(value: Any) -> ast.expr:
    return ast.parse(repr(value), mode="eval").body


def _counted(tree: ast.expr, depth: int) -> ast.expr:
    """A formula of the config with `i` as the counter of its repeat; as it is outside of repeats."""
    return _Replace({"i": counter(depth - 1)}).visit(copied(tree)) if depth else copied(tree)


def copied(tree: ast.expr) -> Any:
    """A copy, so that what is done to it leaves the original alone."""
    return ast.parse(ast.unparse(tree), mode="eval").body


class _Sums(ast.NodeTransformer):
    """`i - 1 + 1` → `i`, and `n - 1 - (i - 1)` → `n - i`."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        right = node.right
        if isinstance(node.op, ast.Sub) and isinstance(right, ast.BinOp) and isinstance(right.op, ast.Sub):
            node = ast.BinOp(self.visit_BinOp(ast.BinOp(node.left, ast.Add(), right.right)), ast.Sub(), right.left)
        inner, first, second = node.left, _signed(node.left), _signed(node)
        if not isinstance(inner, ast.BinOp) or first is None or second is None:
            return node
        total = first + second
        operator = ast.Add() if total > 0 else ast.Sub()
        return ast.BinOp(inner.left, operator, ast.Constant(abs(total))) if total else inner.left


def _signed(node: ast.expr) -> int | None:
    """The number that a sum ends in, with its sign."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Add | ast.Sub):
        return None
    value = node.right.value if isinstance(node.right, ast.Constant) else None
    return (value if isinstance(node.op, ast.Add) else -value) if isinstance(value, int) else None


class _Replace(ast.NodeTransformer):
    """Puts expressions in the place of names."""

    def __init__(self, replacements: Mapping[str, ast.expr]) -> None:
        self.replacements = replacements

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.replacements.get(node.id, node)
