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

import torch

from builder.errors import BuilderError, Path
from builder.lang.formula import Formula
from builder.lang.syntax import LangError
from builder.model.infer import Exploration, explore
from builder.model.make import Names, Sizes
from builder.model.scope import evaluate
from builder.model.sizes import inferable
from builder.model.source_visits import Visit, classes, inlined, instance_names, nodes_of, repeat_counts, visits
from builder.model.spec import Definition, Node

MAX_PROBED = 4000
"""Layers above which a model isn't explored again: its sizes are printed as numbers."""

MAX_ITEMS = 8
"""Numbers in a list above which they aren't doubled in turn."""

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
    models = [(given, found.sizes), *_probes(definition, given, data, found)]
    made: dict[Path, list[tuple[int, Visit]]] = {}
    for index, (values, _) in enumerate(models):
        for visit in visits(definition, values, data):
            made.setdefault(visit.node.place.path, []).append((index, visit))
    sizes = [sizes for _, sizes in models]
    for part in classes(definition):
        _Class(part, part is definition, result).solve(made, sizes)
    return result


def _probes(definition: Definition, given: Names, data: Names, found: Exploration) -> Iterator[tuple[Names, Sizes]]:
    """The model with one number among its arguments doubled at a time, where that can run; with few copies if it can."""
    if len(found.nodes) > MAX_PROBED:
        return
    names = instance_names(definition, given, {"data": data})
    counts = repeat_counts(definition)
    few = {name: _at_most_two(names[name]) for name in definition.args if name in counts}
    for name in definition.args:
        for doubled in () if name in counts else _doubled(names[name]):
            for others in (few, {}) if few else ({},):
                values = {**given, **others, name: doubled}
                try:
                    yield values, explore(definition, values, data, _examples(definition, values, data, found)).sizes
                except BuilderError:
                    continue
                break


def _examples(
    definition: Definition, given: Names, data: Names, found: Exploration
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of the inputs as they were found, but for the sizes that are formulas over the arguments."""
    names = instance_names(definition, given, {"data": data})
    examples = {}
    for item in definition.inputs:
        example = found.inputs.get(item.name)
        if isinstance(example, torch.Tensor):
            dims = item.shape or example.shape
            sizes = [
                evaluate(d, names) if isinstance(d, Formula) else n for d, n in zip(dims, example.shape, strict=True)
            ]
            examples[item.name] = tuple(sizes), str(example.dtype).removeprefix("torch.")
    return examples


def _doubled(value: Any) -> Iterator[Any]:
    """Twice a number; of a list, with one number doubled in turn."""
    if type(value) is int and value > 0:
        yield 2 * value
    elif isinstance(value, list | tuple) and len(value) <= MAX_ITEMS and all(type(item) is int for item in value):
        for index, item in enumerate(value):
            yield [*value[:index], 2 * item, *value[index + 1 :]]


def _at_most_two(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_at_most_two(item) for item in value]
    return min(value, 2) if type(value) is int else value


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
    candidates: list[Candidate] = field(default_factory=list)


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
                place = _Place(node, name, depth, argument, seen)
                place.candidates = list(self._candidates(seen[0].visit.names))
                tree = _expression(place)
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
        if rest and (then := _said(place, rest, [*_before(place.candidates), *place.candidates])) is not None:
            start = _by_instance(first)
            if start is not None:
                return _first_or(self._parameter(place, start), then, place.depth)
        values = _by_instance(place.seen)
        if values is not None:
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


def _expression(place: _Place) -> ast.expr | None:
    """An expression in the class's own names, or a number, that gives all values; None if there is none."""
    tree = _said(place, place.seen, place.candidates)
    if tree is not None or place.depth == 0:
        return tree
    first, rest = _split(place.seen)
    if first and rest:
        start = _said(place, first, place.candidates)
        then = _said(place, rest, [*_before(place.candidates), *place.candidates])
        if start is not None and then is not None:
            return _first_or(start, then, place.depth)
    return _by_count([item for item in place.seen if item.model == 0], place.depth)


def _said(place: _Place, seen: list[Seen], candidates: Sequence[Candidate]) -> ast.expr | None:
    """One expression or number for all these values; None if there is none."""
    tree = _symbolic(candidates, seen, place.depth)
    base = [item.value for item in seen if item.model == 0]
    return tree if tree is not None or not base or not _all_equal(base) else _literal(base[0])


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
            tree = _Replace({"i": ast.parse("i - 1", mode="eval").body}).visit(copied(candidate.tree))
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


def _by_count(base: list[Seen], depth: int) -> ast.expr | None:
    """`(1, 64, 64)[i]`, where the value depends on the counts of the repeats alone, on as few of them as will do."""
    for levels in ([depth - 1], *([level] for level in range(depth - 1)), list(range(depth))):
        table: dict[tuple[int, ...], Any] = {}
        for item in base:
            table.setdefault(tuple(item.visit.loops[level] for level in levels), item.value)
        if all(table[tuple(item.visit.loops[level] for level in levels)] == item.value for item in base):
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


class _Replace(ast.NodeTransformer):
    """Puts expressions in the place of names."""

    def __init__(self, replacements: Mapping[str, ast.expr]) -> None:
        self.replacements = replacements

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.replacements.get(node.id, node)
