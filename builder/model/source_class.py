"""One definition → the class that an expert would write for it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from builder.catalog.signatures import signature_of
from builder.errors import DEFAULT
from builder.model.pending import Names
from builder.model.source_file import NAMED, File
from builder.model.source_forward import method
from builder.model.source_init import function, names_of, statements
from builder.model.source_layout import INDENT, WIDTH, block
from builder.model.source_names import free_names, literal, parsed
from builder.model.source_sizes import COUNTER, LOOPS
from builder.model.source_tensors import parsed_name, tensor, ties
from builder.model.source_text import flat
from builder.model.source_visits import inlined
from builder.model.spec import Definition, Node

POSITIONAL = 2
"""Arguments of PyTorch's layers that are written without their names, where they are required."""


@dataclass(slots=True)
class ClassPrinter:
    """Prints the class of one definition.

    `names` are what formulas see in its first instance, whose module path is `path`. `given` are values for the
    arguments of the model itself; None for all other classes.
    """

    file: File
    definition: Definition
    names: Names
    path: str
    given: Names | None = None

    def lines(self, name: str) -> list[str]:
        """The class's text."""
        forward, place = self.definition.forward, self.definition.place.origin
        body = list(self._body())
        parameters = self._parameters(body)
        out = [] if self.given is not None or place == DEFAULT else [f"# {place}"]
        out.append(f"class {name}({self.file.nn}.{'Module' if forward is not None else 'Sequential'}):")
        if parameters or body != ["super().__init__()"]:
            out += self._init(parameters, body)
            out += [""] if forward is not None else []
        elif forward is None:
            out.append(f"{INDENT}pass")
        return out + (method(forward, self.file.imports) if forward is not None else [])

    def _init(self, parameters: Mapping[str, str | None], body: list[str]) -> Iterator[str]:
        texts = [name if value is None else f"{name}={flat(parsed(value))}" for name, value in parameters.items()]
        texts = ["self", *(["*", *texts] if texts else [])]
        head = f"{INDENT}def __init__({', '.join(texts)}):"
        if len(head) <= WIDTH:
            yield head
        else:
            yield from (f"{INDENT}def __init__(", *(f"{INDENT * 2}{text}," for text in texts), f"{INDENT}):")
        counters = _Counters([name for name in LOOPS if name not in parameters])
        for text in body:
            if text.startswith("#"):
                yield INDENT * 2 + text
            for node in ast.parse(text).body:
                yield from block(counters.visit(node), 2)

    def _parameters(self, body: list[str]) -> dict[str, str | None]:
        """The constructor's parameters with their defaults: sizes, what it captures (enters that), its arguments."""
        place = self.definition.place.path
        own: dict[str, str | None] = {}
        for name, argument in self.definition.args.items():
            if self.given is not None and (name in self.given or argument.required):
                own[name] = literal(self.names[name])
            elif free_names(argument.default):
                own[name] = self.file.absent(self.definition, name)
            else:
                own[name] = None if argument.required else self.file.value(argument.default)
        loaded = {node.id for node in ast.walk(ast.parse("\n".join(body))) if isinstance(node, ast.Name)}
        captured = [name for name in self.names if name in loaded and name not in own and name != "data"]
        self.file.captured[place] = captured
        return {**dict.fromkeys([*self.file.sizes.parameters.get(place, {}), *captured]), **own}

    def _body(self) -> Iterator[str]:
        """The statements of `__init__`, not laid out yet."""
        definition = self.definition
        for name, argument in definition.args.items():
            if free_names(argument.default) and name not in (self.given or {}):
                absent = self.file.absent(definition, name)
                yield f"if {name} is {absent}:\n{INDENT}{name} = {self.file.value(argument.default)}"
        if definition.forward is None and definition.numbered and definition.sections == ("layers",):
            yield f"super().__init__({', '.join(self._items(definition.layers, 0))})"
        else:
            yield "super().__init__()"
            yield from self._attributes()
            for section in definition.sections:
                yield from self._section(section)
        yield from ties(self.file, definition, self.path)
        yield from statements(self.file, definition.init, "self", frozenset(self.names))
        if definition.frozen:
            yield "self.requires_grad_(False)"

    def _attributes(self) -> Iterator[str]:
        """`self.heads = heads`, for what `forward` uses."""
        forward = self.definition.forward
        for name in self.names if forward is not None else ():
            if forward is not None and name in forward.args:
                yield f"self.{name} = {_as_lists(name, self.names[name])}"

    def _section(self, section: str) -> Iterator[str]:
        if section == "layers":
            for node in self.definition.layers:
                yield from self._layer(node)
            return
        for spec in self.definition.parameters if section == "parameters" else self.definition.buffers:
            yield from tensor(self.file, spec, self.names)

    def _layer(self, node: Node) -> Iterator[str]:
        """The statement that makes a layer and registers it under its name."""
        condition, stack = self._condition(node, 0), self.definition.forward is None
        plain = parsed_name(node.name) and not node.name.startswith("__")
        inside = condition != "True" or not plain  # of an expression, so that its rules can't follow on lines
        text = "None" if condition == "False" else self._node(node, 0) if inside else self._made(node, 0)
        if condition not in ("True", "False") and not stack:
            text = f"{text} if {condition} else None"
        if plain:
            made = f"self.{node.name} = {text}"
        elif stack and self.definition.numbered:
            made = f"self.append({text})"
        else:
            made = f"self.add_module({node.name!r}, {text})"
        if not stack or condition == "True":
            yield made
            if node.init and not inside:
                yield from statements(self.file, node.init, f"self.{node.name}", frozenset(self.names))
        elif condition != "False":
            yield f"if {condition}:\n{INDENT}{made}"

    def _condition(self, node: Node, depth: int) -> str:
        """On what it is made, as an expression; `False` where it is not made in this model at all."""
        return self.file.value(node.when, depth) if node.place.path in self.file.first else "False"

    def _node(self, node: Node, depth: int) -> str:
        """The expression that makes a node inside `depth` repeats, and initialises it by its rules."""
        made = self._made(node, depth)
        if not node.init:
            return made
        used = names_of(node.init)
        texts = [f"{COUNTER}{depth - 1}" if name == "i" and depth else name for name in used]
        name = self.file.imports.unique(f"init_{node.name}" if parsed_name(node.name) else f"init_{node.type.lower()}")
        self.file.functions.append(function(self.file, node.init, name))
        return f"{name}({', '.join([made, *texts])})"

    def _made(self, node: Node, depth: int) -> str:
        """The expression that makes a node."""
        if node.kind == "layer":
            return self._call(node, depth)
        if node.kind in ("block", "definition") and not inlined(node):
            return self._instance(node, depth)
        nn_, own = self.file.nn, node.definition
        kind = "Sequential" if own is not None else node.kind
        if node.element is None:
            children, numbered = (node.children, node.numbered) if own is None else (own.layers, own.numbered)
            return self._container(f"{nn_}.{kind}", children, numbered, depth)
        if node.element.place.path not in self.file.first:
            return f"{nn_}.{kind}()"  # no copies
        count = self.file.value(node.repeat, depth)
        copies = f"[{self._node(node.element, depth + 1)} for {COUNTER}{depth} in range({count})]"
        return f"{nn_}.{kind}({'*' if kind == 'Sequential' else ''}{copies})"

    def _items(self, nodes: tuple[Node, ...], depth: int) -> Iterator[str]:
        """The items of a numbered container."""
        for node in nodes:
            condition = self._condition(node, depth)
            if condition != "False":
                text = self._node(node, depth)
                yield text if condition == "True" else f"*([{text}] if {condition} else [])"

    def _container(self, kind: str, nodes: tuple[Node, ...], numbered: bool, depth: int) -> str:
        is_list = kind.endswith(".ModuleList")
        if numbered or not nodes:
            inside = ", ".join(self._items(nodes, depth))
            return f"{kind}([{inside}])" if is_list and inside else f"{kind}({inside})"
        keywords = not kind.endswith(".ModuleDict") and all(parsed_name(node.name) for node in nodes)
        entries = []
        for node in nodes:
            condition = self._condition(node, depth)
            if condition == "False":
                continue
            text = self._node(node, depth)
            entry = f"{node.name}={text}" if keywords else f"{node.name!r}: {text}"
            entries.append(entry if condition == "True" else f"**({{{node.name!r}: {text}}} if {condition} else {{}})")
        inside = ", ".join(entries) if keywords else f"{{{', '.join(entries)}}}"
        if kind.endswith(".ModuleDict"):
            return f"{kind}({inside})"
        if is_list:
            self.file.helpers.add(NAMED)
            return f"{NAMED}({kind}(), {inside if keywords else f'**{inside}'})"
        return f"{kind}({self.file.imports.module('OrderedDict')}({inside}))"

    def _instance(self, node: Node, depth: int) -> str:
        """The call that makes a block or a node's own definition."""
        assert node.definition is not None
        place = node.definition.place.path
        texts = [f"{name}={self.file.slot(node, name)}" for name in self.file.sizes.parameters.get(place, {})]
        for name in self.file.captured[place]:
            texts.append(f"{name}={COUNTER}{depth - 1}" if name == "i" and depth else f"{name}={name}")
        texts += [f"{key}={self.file.value(value, depth)}" for key, value in node.arguments.items()]
        return f"{self.file.names[place]}({', '.join(texts)})"

    def _call(self, node: Node, depth: int) -> str:
        """The call that makes a layer of PyTorch or of a user."""
        assert node.target is not None
        missing = [argument for place, argument in self.file.sizes.slots if place == node.place.path]
        texts = {argument: self.file.slot(node, argument) for argument in missing}
        layers = {key: value for key, value in node.arguments.items() if isinstance(value, Node)}
        for key in node.arguments:
            texts[key] = self._node(layers[key], depth) if key in layers else self.file.argument(node, key, depth)
        # Layers that are arguments are made in the order in which they are written.
        first = _leading(node.target, texts) if _is_torchs(node.target) and len(layers) < 2 else []
        inside = [*(texts[key] for key in first), *(f"{key}={text}" for key, text in texts.items() if key not in first)]
        return f"{self.file.imports.of(node.target, node.type)}({', '.join(inside)})"


class _Counters(ast.NodeTransformer):
    """Gives the counters of repeats their names; `_` to those that nothing uses."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        target = node.generators[0].target
        if isinstance(target, ast.Name) and target.id.startswith(COUNTER):
            if not any(isinstance(part, ast.Name) and part.id == target.id for part in ast.walk(node.elt)):
                target.id = "_"
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if not node.id.startswith(COUNTER):
            return node
        level = int(node.id.removeprefix(COUNTER))
        return ast.Name(self.names[level] if level < len(self.names) else f"i{level}", node.ctx)


def _as_lists(name: str, value: Any) -> str:
    """A tuple as the list that it was in the config, since `x[[0, 1]]` and `x[0, 1]` are not the same."""
    if not isinstance(value, list):
        return name
    nested = value and all(isinstance(item, list) for item in value)
    return f"[list(item) for item in {name}]" if nested else f"list({name})"


def _is_torchs(target: Any) -> bool:
    return getattr(nn, getattr(target, "__name__", ""), None) is target


def _leading(target: Any, given: Mapping[str, Any]) -> list[str]:
    """The arguments that are written without their names."""
    leading: list[str] = []
    for parameter in signature_of(target).parameters.values():
        required = parameter.default is inspect.Parameter.empty
        if parameter.name not in given or not required or len(leading) == POSITIONAL:
            break
        leading.append(parameter.name)
    return leading
