"""A graph as the text of a `forward`: short expressions are put into one another, equal steps become a loop."""

from __future__ import annotations

import inspect
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from builder.importer.layers import Unsayable
from builder.lang.names import TENSOR_ATTRIBUTES
from builder.registry import functions

WIDTH = 100
INFIX: Mapping[Callable[..., Any], str] = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//",
    operator.mod: "%", operator.pow: "**", operator.matmul: "@", operator.eq: "==", operator.ne: "!=",
    operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.and_: "&", operator.or_: "|",
}  # fmt: skip
UPDATES: Mapping[Callable[..., Any], str] = {
    operator.iadd: "+=", operator.isub: "-=", operator.imul: "*=", operator.itruediv: "/=",
}  # fmt: skip
PREFIX: Mapping[Callable[..., Any], str] = {operator.neg: "-", operator.invert: "~"}
FRESH = ("y", "z", "h", "u", "v", "w", "a", "b", "c", "d", "e", "f", "g", "p", "q", "r", "s", "t")
LOOP = ("layer", "block", "step", "part", "each")
_INDEXED = re.compile(r"([A-Za-z_][\w.]*)\[(\d+)\]")


class _Text(str):
    """An expression that needs no brackets around it."""


@dataclass(frozen=True, slots=True)
class Keyword:
    """An argument that a module is given by name."""

    name: str
    value: Any


class Printer:
    """Prints one graph.

    Args:
        graph: the steps, in eval mode.
        trained: the same in train mode, if it has the same steps; where constants differ, `training` chooses.
        path_of: from the path of a module to how `forward` names it.
        inputs: from a placeholder's name to that of the input.
        taken: names that variables can't have.
        hidden: functions whose names stand for something else here.
        arguments: for a call of a module the nodes that it takes.
    """

    def __init__(
        self, graph: fx.Graph, trained: fx.Graph | None, path_of: Callable[[str], str], inputs: Mapping[str, str],
        taken: Collection[str], hidden: Collection[str], arguments: Callable[[fx.Node], list[Any]],
    ) -> None:  # fmt: skip
        self.nodes = list(graph.nodes)
        pairs = list(trained.nodes) if trained is not None else self.nodes
        self.other = dict(zip(self.nodes, pairs, strict=True))
        self.path_of, self.inputs, self.taken, self.hidden = path_of, inputs, set(taken), set(hidden)
        self.arguments = arguments
        self.texts: dict[fx.Node, str] = {}
        self.variables: dict[str, fx.Node] = {}
        self.within: dict[fx.Node, set[fx.Node]] = {}
        self.pending: list[fx.Node] = []
        self.lines: list[str] = []
        self.used = _occurrences(self.nodes)
        self.left = dict(self.used)
        self.parts = {node: found for node in self.nodes if (found := _unpacked(node)) is not None}

    def text(self) -> str:
        """The forward's text.

        Raises:
            Unsayable: a step has no name in the language.
        """
        for node in self.nodes:
            if node.op == "placeholder":
                self.texts[node] = _Text(self.inputs[str(node.target)])
                self.variables[self.texts[node]] = node
                self.within[node] = {node}
            elif node.op == "output":
                self._flush_but(node)
                self.lines.append(f"return {self._value(node.args[0], self.other[node].args[0], top=True)}")
            else:
                self._step(node)
        return "\n".join(_rolled(self.lines))

    def _step(self, node: fx.Node) -> None:
        if node in self.texts:  # one of what another step gave, unpacked there
            return
        if node in self.parts:
            self._unpack(node)
            return
        is_indexed = node.op == "call_module" and "[" in self.path_of(str(node.target))
        self._flush() if is_indexed else self._flush_but(node)
        if node.target in UPDATES and self._updates(node):
            return
        self.texts[node] = self._expression(node)
        self._consume(node)
        if node.op == "get_attr" or (self._inlines(node) and not _acts(node)):
            if node.op != "get_attr":
                self.pending.append(node)
            return
        self._flush()
        self._assign(node)

    def _updates(self, node: fx.Node) -> bool:
        """`x += y`, where x is a variable that nothing else needs."""
        left, right = node.args
        if not isinstance(left, fx.Node) or self.texts[left] not in self.variables or self.left[left] != 1:
            return False
        name, value = self.texts[left], self._value(right, self.other[node].args[1], top=True)
        self._consume(node)
        self._flush()
        self.lines.append(f"{name} {UPDATES[node.target]} {value}")  # type: ignore[index]
        self.texts[node], self.variables[name] = _Text(name), node
        self.within[node] = {node}
        return True

    def _unpack(self, node: fx.Node) -> None:
        """`a, b, c = …` for a step of which only the items are used."""
        self._flush_but(node)
        text = self._expression(node)
        self._consume(node)
        self._flush()
        names = []
        for item in self.parts[node]:
            names.append(self._name(node, ()))
            self.texts[item], self.variables[names[-1]] = _Text(names[-1]), item
            self.within[item] = {item}
        self.lines.append(f"{', '.join(names)} = {text}")

    def _inlines(self, node: fx.Node) -> bool:
        text = self.texts[node]
        if self.used[node] != 1 or len(text) > 60 or "\n" in text:
            return False
        user = next(iter(node.users))
        return not (node.op == "call_module" and "[" in text.split("(")[0]) and user.target not in UPDATES

    def _consume(self, node: fx.Node) -> None:
        self.within[node] = set()
        for used, count in _inputs(node).items():
            self.left[used] -= count
            self.within[node] |= self.within.get(used, {used})
            if used in self.pending:
                self.pending.remove(used)

    def _flush_but(self, node: fx.Node) -> None:
        """Write out what waits, but for the last steps if this one takes them in the order in which they are."""
        used = [one for one in node.all_input_nodes if one in self.pending]
        if used and self.pending[-len(used) :] == used:
            held = self.pending[-len(used) :]
            self.pending = self.pending[: -len(used)]
            self._flush()
            self.pending = held
        else:
            self._flush()

    def _flush(self) -> None:
        waiting, self.pending = self.pending, []
        for index, node in enumerate(waiting):
            self._assign(node, waiting[index + 1 :])

    def _assign(self, node: fx.Node, waiting: Sequence[fx.Node] = ()) -> None:
        if not node.users:
            self.lines.append(self.texts[node])
            return
        name = self._name(node, waiting)
        self.within[node] = {node}
        self.lines.append(f"{name} = {self.texts[node]}")
        self.texts[node], self.variables[name] = _Text(name), node

    def _name(self, node: fx.Node, waiting: Sequence[fx.Node]) -> str:
        """The name of a variable that is free from here on: one that went in, if it can, else a new one.

        What stands in expressions that are still `waiting` isn't free.
        """
        needed = {one for item in waiting for one in self.within[item]}
        for used in sorted(self.within[node], key=self.nodes.index):
            name = self.texts.get(used, "")
            if self.left[used] == 0 and used not in needed and self.variables.get(name) is used:
                return name
        for name, holder in self.variables.items():
            if self.left[holder] == 0 and holder not in needed and name not in self.inputs.values():
                return name
        fresh = (*FRESH, *(f"y{index}" for index in range(1, 10_000)))
        return next(name for name in fresh if name not in self.variables and name not in self.taken)

    def _expression(self, node: fx.Node) -> str:
        other = self.other[node]
        if node.op == "get_attr":
            return _Text(self.path_of(str(node.target)))
        if node.op == "call_module":
            args = self.arguments(node)
            others = self.arguments(other) if other is not node else args
            shown = [self._given(one, two) for one, two in zip(args, others, strict=True)]
            return _Text(f"{self.path_of(str(node.target))}({', '.join(shown)})")
        if node.op == "call_method":
            return self._method(str(node.target), node, other)
        return self._function(node, other)

    def _given(self, value: Any, other: Any) -> str:
        """What a module is given, by its place or by name."""
        if isinstance(value, Keyword):
            return f"{value.name}={self._value(value.value, other.value, top=True)}"
        return self._value(value, other, top=True)

    def _method(self, name: str, node: fx.Node, other: fx.Node) -> str:
        if name not in TENSOR_ATTRIBUTES:
            raise Unsayable(f"no method {name!r} of a tensor in the language")
        owner = self._value(node.args[0], other.args[0])
        return _Text(f"{owner}.{name}({self._arguments(node, other, 1)})")

    def _function(self, node: fx.Node, other: fx.Node) -> str:
        target, args, others = node.target, node.args, other.args
        if target in INFIX or target in UPDATES:
            sign = INFIX.get(target) or UPDATES[target].rstrip("=")  # type: ignore[index,arg-type]
            return f"{self._value(args[0], others[0])} {sign} {self._value(args[1], others[1])}"
        if target in PREFIX:
            return f"{PREFIX[target]}{self._value(args[0], others[0])}"  # type: ignore[index]
        if target is operator.getitem:
            return _Text(f"{self._value(args[0], others[0])}[{self._index(args[1])}]")
        if target is getattr:
            if str(args[1]) not in TENSOR_ATTRIBUTES:
                raise Unsayable(f"no attribute {args[1]!r} of a tensor in the language")
            return _Text(f"{self._value(args[0], others[0])}.{args[1]}")
        name = function_name(target)
        if name is not None and name not in self.hidden:
            return _Text(f"{name}({self._arguments(node, other, 0)})")
        bare = getattr(target, "__name__", "").lstrip("_")
        if bare in TENSOR_ATTRIBUTES and args and isinstance(args[0], fx.Node):
            return self._method(bare, node, other)
        raise Unsayable(f"no function {bare or target!r} in the language")

    def _arguments(self, node: fx.Node, other: fx.Node, skip: int) -> str:
        shown = [self._value(one, two, top=True)
                 for one, two in list(zip(node.args, other.args, strict=True))[skip:]]  # fmt: skip
        defaults = defaults_of(node.target)
        for key, value in node.kwargs.items():
            if isinstance(value, torch.device) or (value is None and key in NOTHING) or key.startswith("_"):
                continue
            if key in defaults and _equal(value, defaults[key]) and _equal(other.kwargs[key], value):
                continue
            shown.append(f"{key}={self._value(value, other.kwargs[key], top=True)}")
        return ", ".join(shown)

    def _index(self, value: Any) -> str:
        if isinstance(value, tuple):
            return ", ".join(map(self._index, value)) + ("," if len(value) == 1 else "")
        if isinstance(value, slice):
            start, stop = ("" if part is None else self._value(part, part) for part in (value.start, value.stop))
            step = "" if value.step is None else f":{self._value(value.step, value.step)}"
            return f"{start}:{stop}{step}"
        return "..." if value is Ellipsis else self._value(value, value, top=True)

    def _value(self, value: Any, other: Any, *, top: bool = False) -> str:
        """An argument as text; `top`: nothing stands around it that it needs brackets in."""
        if isinstance(value, fx.Node):
            text = self.texts[value]
            return text if top or isinstance(text, _Text) else f"({text})"
        if isinstance(value, tuple | list):
            items = [self._value(one, two, top=True) for one, two in zip(value, other, strict=True)]
            if isinstance(value, tuple):
                return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
            return f"[{', '.join(items)}]"
        if isinstance(value, dict):
            items = [f'"{key}": {self._value(item, other[key], top=True)}' for key, item in value.items()]
            return "{" + ", ".join(items) + "}"
        if not _equal(value, other):
            if (value, other) in ((False, True), (True, False)):
                return "training" if other else "not training"
            text = f"{constant(other)} if training else {constant(value)}"
            return text if top else f"({text})"
        return constant(value)


NOTHING = ("device", "layout", "pin_memory", "dtype", "out")
"""Keywords that say nothing where they are None."""


def defaults_of(target: Any) -> dict[str, Any]:
    """The defaults of a function's arguments, where they can be seen."""
    try:
        parameters = inspect.signature(target).parameters.values() if callable(target) else ()
    except ValueError:
        return {}
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def _inputs(node: fx.Node) -> Counter[fx.Node]:
    """How often each step stands among the arguments of another."""
    found: Counter[fx.Node] = Counter()
    fx.node.map_arg((node.args, node.kwargs), lambda one: found.update([one]))
    return found


def _occurrences(nodes: Sequence[fx.Node]) -> dict[fx.Node, int]:
    found: Counter[fx.Node] = Counter()
    for node in nodes:
        found.update(_inputs(node))
    return {node: found[node] for node in nodes}


def _unpacked(node: fx.Node) -> list[fx.Node] | None:
    """The items of what a step gives, in order, if all of them and nothing else of it is used."""
    items = [user for user in node.users if user.target is operator.getitem and user.args[0] is node]
    value = node.meta.get("value")
    if len(items) != len(node.users) or not isinstance(value, tuple | list) or len(items) < 2:
        return None
    if not all(type(item.args[1]) is int for item in items):
        return None
    by_index = {int(item.args[1]) % len(value): item for item in items}  # type: ignore[arg-type]
    if sorted(by_index) != list(range(len(value))) or len(by_index) != len(items):
        return None
    return [by_index[index] for index in range(len(value))]


def _equal(value: Any, other: Any) -> bool:
    return type(value) is type(other) and (value == other or value is other)


def _acts(node: fx.Node) -> bool:
    return node.op == "call_method" and str(node.target).endswith("_")


def constant(value: Any) -> str:
    """A plain value as the language writes it.

    Raises:
        Unsayable: it is none.
    """
    if isinstance(value, bool | int | str) or value is None:
        return repr(value) if not isinstance(value, str) else f'"{value}"'
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    raise Unsayable(f"a {type(value).__name__} stands in its forward")


def function_name(target: Any) -> str | None:
    """The name by which the language calls a function, if it does."""
    name = functions.name_of(target)
    if name is not None:
        return name
    bare = getattr(target, "__name__", "").lstrip("_")
    module = getattr(target, "__module__", None) or "torch"
    return bare if bare in functions and module.startswith("torch") else None


def _rolled(lines: list[str]) -> list[str]:
    """The lines with runs of equal ones, but for the index of what they call, as loops."""
    found: list[str] = []
    start = 0
    while start < len(lines):
        loop = next((loop for size in range(1, 9) if (loop := _loop(lines, start, size)) is not None), None)
        if loop is None:
            found.append(lines[start])
            start += 1
        else:
            found += loop[0]
            start += loop[1]
    return found


def _loop(lines: list[str], start: int, size: int) -> tuple[list[str], int] | None:
    """A loop in place of the lines from `start` on, `size` of them a round; and how many lines it stands for."""
    first = lines[start : start + size]
    names = dict.fromkeys(name for line in first for name, index in _INDEXED.findall(line) if index == "0")
    if len(names) != 1 or len(first) < size:
        return None
    (name,) = names
    count = 0
    while lines[start + count * size : start + (count + 1) * size] == list(_at(first, name, count)):
        count += 1
    if count < 2:
        return None
    called = next(one for one in LOOP if not any(re.search(rf"\b{one}\b", line) for line in lines))
    body = [line.replace(f"{name}[0]", called) for line in first]
    return [f"for {called} in {name}:", *(f"  {line}" for line in body)], count * size


def _at(lines: list[str], name: str, index: int) -> Iterator[str]:
    return (line.replace(f"{name}[0]", f"{name}[{index}]") for line in lines)
