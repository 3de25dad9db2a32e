"""Sizes that were left out, as an expert would write them: `width`, `4 * width`, `1 if i == 0 else width`, or a number.

An expression is believed only if it also holds for models made with other arguments, which are explored for that.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.errors import BuilderError, Path
from builder.lang.formula import Formula
from builder.lang.syntax import LangError
from builder.model.infer import Exploration, explore
from builder.model.make import Names, Sizes
from builder.model.scope import evaluate
from builder.model.sizes import inferable
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
class Visit:
    """One making of a node: what formulas see, the instance of a class that it stands in, and the counts of the
    repeats between the two."""

    node: Node
    owner: str
    path: str
    names: Names
    loops: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """A value of a slot, in one of the explored models; `model` 0 is the one that is printed."""

    value: Any
    visit: Visit
    model: int


def inlined(node: Node) -> bool:
    """Whether a node's own definition is a plain stack of layers, for which nobody would write a class."""
    own = node.definition
    if node.kind != "definition" or own is None:
        return False
    return own.forward is None and not (own.args or own.parameters or own.buffers or own.tie)


def inner_layers(node: Node) -> tuple[Node, ...]:
    """The layers that a container or a plain stack holds, one for all copies."""
    if inlined(node):
        assert node.definition is not None
        return node.definition.layers
    return (node.element,) if node.element is not None else node.children


def instance_names(definition: Definition, given: Names, outer: Names) -> dict[str, Any]:
    """What formulas see inside an instance of a definition."""
    names = dict(outer)
    for name, argument in definition.args.items():
        names[name] = given[name] if name in given else evaluate(argument.default, names)
    return names


def visits(definition: Definition, given: Names, data: Names) -> Iterator[Visit]:
    """All makings of all nodes of a model, in order."""
    names = instance_names(definition, given, {"data": data})
    for node in definition.layers:
        yield from _visits(node, names, "", node.name, ())


def _visits(node: Node, names: Names, owner: str, path: str, loops: tuple[int, ...]) -> Iterator[Visit]:
    yield Visit(node, owner, path, names, loops)
    for key, value in node.arguments.items():
        if isinstance(value, Node):
            yield from _visits(value, names, owner, f"{path}.{key}", loops)
    if node.element is not None:
        for index in range(evaluate(node.repeat, names)):
            yield from _visits(node.element, {**names, "i": index}, owner, f"{path}.{index}", (*loops, index))
    elif node.definition is not None and not inlined(node):
        given = {} if node.kind == "definition" else {k: evaluate(v, names) for k, v in node.arguments.items()}
        inner = instance_names(node.definition, given, names if node.kind == "definition" else {})
        for child in node.definition.layers:
            yield from _visits(child, inner, path, f"{path}.{child.name}", ())
    else:
        for child in inner_layers(node):
            yield from _visits(child, names, owner, f"{path}.{child.name}", loops)


def classes(definition: Definition) -> list[Definition]:
    """The definitions that become classes, each after those it uses; the model itself is last."""
    found: dict[Path, Definition] = {}

    def visit(node: Node) -> None:
        for value in (*node.arguments.values(), *inner_layers(node)):
            if isinstance(value, Node):
                visit(value)
        if node.definition is not None and not inlined(node):
            add(node.definition)

    def add(part: Definition) -> None:
        if part.place.path not in found:
            for node in part.layers:
                visit(node)
            found[part.place.path] = part

    add(definition)
    return list(found.values())


def nodes_of(definition: Definition) -> Iterator[tuple[Node, int]]:
    """The nodes that a class makes itself, each with the number of repeats around it."""

    def visit(node: Node, depth: int) -> Iterator[tuple[Node, int]]:
        yield node, depth
        for value in node.arguments.values():
            if isinstance(value, Node):
                yield from visit(value, depth)
        for child in inner_layers(node):
            yield from visit(child, depth + (node.element is not None))

    for node in definition.layers:
        yield from visit(node, 0)


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
    """The model with one argument doubled at a time, where that can run."""
    if len(found.nodes) > MAX_PROBED:
        return
    names = instance_names(definition, given, {"data": data})
    examples = {
        item.name: (tuple(example.shape), str(example.dtype).removeprefix("torch."))
        for item in definition.inputs
        if hasattr(example := found.inputs.get(item.name), "shape")
        and not any(isinstance(dim, Formula) for dim in item.shape or ())
    }
    for name in definition.args:
        for doubled in _doubled(names[name]):
            values = {**given, name: doubled}
            try:
                yield values, explore(definition, values, data, examples).sizes
            except BuilderError:
                continue


def _doubled(value: Any) -> Iterator[Any]:
    """Twice a number; of a list, with one number doubled in turn."""
    if type(value) is int and value > 0:
        yield 2 * value
    elif isinstance(value, list | tuple) and len(value) <= MAX_ITEMS and all(type(item) is int for item in value):
        for index, item in enumerate(value):
            yield [*value[:index], 2 * item, *value[index + 1 :]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An expression that may give a size: a name, or a formula that the class has anyway; `counts`: it uses `i`."""

    tree: ast.expr
    value: Callable[[Names], Any]
    counts: bool = False


@dataclass(slots=True)
class _Class:
    """Finds the expressions of one class, whose callees are done."""

    definition: Definition
    root: bool
    result: Found

    def solve(self, made: Mapping[Path, list[tuple[int, Visit]]], sizes: Sequence[Sizes]) -> None:
        """Enter the expressions of all slots of this class, and the parameters it needs."""
        slots: dict[Slot, tuple[Node, int, list[Seen]]] = {}
        for node, depth in nodes_of(self.definition):
            for argument, seen in self._seen(node, made.get(node.place.path, []), sizes).items():
                slots[node.place.path, argument] = node, depth, seen
        for slot, (node, depth, seen) in slots.items():
            candidates = list(self._candidates(seen[0].visit.names))
            tree = self._expression(candidates, seen, depth)
            if tree is None:
                tree = self._by_parameter(candidates, node, slot[1], seen, depth, slots)
            self.result.slots[slot] = tree

    def _seen(self, node: Node, visits: list[tuple[int, Visit]], sizes: Sequence[Sizes]) -> dict[str, list[Seen]]:
        """The values of what is filled in at a node, by argument."""
        seen: dict[str, list[Seen]] = {}
        if node.kind == "layer":
            assert node.target is not None
            for argument in sorted(inferable(node.target) - set(node.arguments)):
                values = [
                    Seen(sizes[model][v.path][argument], v, model) for model, v in visits if v.path in sizes[model]
                ]
                if values and values[0].model == 0:
                    seen[argument] = values
        elif node.definition is not None and not inlined(node):
            for name, values in self.result.parameters.get(node.definition.place.path, {}).items():
                seen[name] = [Seen(values[m, v.path], v, m) for m, v in visits if (m, v.path) in values]
        return seen

    def _candidates(self, names: Names) -> Iterator[Candidate]:
        """Expressions in the order in which they are tried."""
        for name, value in names.items():
            if type(value) is int and name != "i":
                yield Candidate(ast.Name(name, ast.Load()), lambda names, name=name: names[name])
            elif isinstance(value, list | tuple) and value:
                for index in (0, -1):
                    tree = ast.Subscript(ast.Name(name, ast.Load()), ast.Constant(index), ast.Load())
                    yield Candidate(tree, lambda names, name=name, index=index: names[name][index])
        seen = set()
        for node, _ in nodes_of(self.definition):
            for value in node.arguments.values():
                if isinstance(value, Formula) and not isinstance(value.tree, ast.Name) and "data" not in value.names:
                    text = ast.unparse(value.tree)
                    if text not in seen and value.names <= set(names):
                        seen.add(text)
                        yield Candidate(value.tree, value.evaluate, "i" in value.names)

    def _expression(self, candidates: list[Candidate], seen: list[Seen], depth: int) -> ast.expr | None:
        """An expression in the class's own names, or a number, that gives all values; None if there is none."""
        base = [item for item in seen if item.model == 0]
        tree = _symbolic(candidates, seen, depth)
        if tree is not None:
            return tree
        if _all_equal(item.value for item in base):
            return _literal(base[0].value)
        if depth == 0:
            return None
        first, rest = _split(seen)
        if rest:
            start = _symbolic(candidates, first, depth) or _constant(first)
            then = _symbolic([*_before(candidates), *candidates], rest, depth) or _constant(rest)
            if start is not None and then is not None:
                return _first_or(start, then, depth)
        return _by_count(base, depth)

    def _by_parameter(
        self,
        candidates: list[Candidate],
        node: Node,
        argument: str,
        seen: list[Seen],
        depth: int,
        slots: Mapping[Slot, Any],
    ) -> ast.expr:
        """A parameter of the class that brings the value, or that of the first copy where the others can be said."""
        assert not self.root, "there is one model, so that its sizes depend on the counts of repeats alone"
        first, rest = _split(seen) if depth else ([], [])
        if rest:
            then = _symbolic([*_before(candidates), *candidates], rest, depth) or _constant(rest)
            if then is not None and (values := _by_instance(first)) is not None:
                return _first_or(self._parameter(node, argument, values, slots), then, depth)
        values = _by_instance(seen)
        if values is not None:
            return self._parameter(node, argument, values, slots)
        tuples = {key: _nested([item for item in seen if (item.model, item.visit.owner) == key])
                  for key in dict.fromkeys((item.model, item.visit.owner) for item in seen)}  # fmt: skip
        tree = self._parameter(node, argument, tuples, slots)
        for level in range(depth):
            tree = ast.Subscript(tree, counter(level), ast.Load())
        return tree

    def _parameter(
        self, node: Node, argument: str, values: dict[tuple[int, str], Any], slots: Mapping[Slot, Any]
    ) -> ast.expr:
        """A parameter with these values in the instances; one that has them all is used again."""
        known = self.result.parameters.setdefault(self.definition.place.path, {})
        for name, others in known.items():
            if others == values:
                return ast.Name(name, ast.Load())
        names = [argument, f"{_identifier(node)}_{argument}"]
        names += [f"{names[1]}{number}" for number in range(2, 1000)]
        taken = {*known, *self.definition.args, *LOOPS, *(layer.name for layer in self.definition.layers)}
        taken |= set(next(iter(slots.values()))[2][0].visit.names)
        name = next(name for name in names if name not in taken)
        known[name] = values
        return ast.Name(name, ast.Load())


def counter(level: int) -> ast.expr:
    """The counter of the repeat at that level of a class, from 0 outermost; given its name when it is printed."""
    return ast.Name(f"{COUNTER}{level}", ast.Load())


COUNTER = "_count_"


def _symbolic(candidates: Sequence[Candidate], seen: list[Seen], depth: int) -> ast.expr | None:
    """The first candidate, or else whole multiple of one, that gives all values and is not merely constant."""
    if not all(type(item.value) is int for item in seen):
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
            yield Candidate(tree, lambda names, value=candidate.value: value({**names, "i": names["i"] - 1}), True)


def _constant(seen: list[Seen]) -> ast.expr | None:
    base = [item.value for item in seen if item.model == 0]
    return _literal(base[0]) if base and _all_equal(base) else None


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
            tree: ast.expr = _literal(_nested_table(table))
            for level in levels:
                tree = ast.Subscript(tree, counter(level), ast.Load())
            return tree
    return None


def _nested_table(table: Mapping[tuple[int, ...], Any]) -> Any:
    if () in table:
        return table[()]
    heads = sorted({key[0] for key in table})
    return tuple(_nested_table({key[1:]: value for key, value in table.items() if key[0] == head}) for head in heads)


def _nested(seen: list[Seen]) -> Any:
    return _nested_table({item.visit.loops: item.value for item in seen})


def _by_instance(seen: list[Seen]) -> dict[tuple[int, str], Any] | None:
    """The value in each instance of the class; None if one has several."""
    values: dict[tuple[int, str], Any] = {}
    for item in seen:
        if values.setdefault((item.model, item.visit.owner), item.value) != item.value:
            return None
    return values


def _identifier(node: Node) -> str:
    """A node's name as part of a parameter's."""
    name = node.name if node.name.isidentifier() else f"layer{node.name}"
    return name if name.isidentifier() else "layer"


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
