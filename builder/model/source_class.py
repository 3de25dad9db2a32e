"""One definition → the class that an expert would write for it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from builder import registry
from builder.catalog.signatures import signature_of
from builder.errors import DEFAULT, Path
from builder.lang.formula import Formula
from builder.model.infer import Exploration
from builder.model.make import Names, _list_parameters
from builder.model.scope import evaluate
from builder.model.source_forward import method
from builder.model.source_layout import INDENT, WIDTH, expression, header, statement
from builder.model.source_names import Formulas, Imports, free_names, literal, parsed, sequence
from builder.model.source_sizes import COUNTER, LOOPS, Found, Visit, inlined
from builder.model.spec import Definition, Node, TensorSpec, Value

POSITIONAL = 2
"""Arguments of PyTorch's layers that are written without their names, where they are required."""


@dataclass(slots=True)
class File:
    """What the classes of one file share. `names` and `captured` are filled in class by class, callees first."""

    imports: Imports
    data: Names
    found: Exploration
    sizes: Found
    first: Mapping[Path, Visit]
    """The first making of each node."""
    names: dict[Path, str] = field(default_factory=dict)
    """The name of each class."""
    captured: dict[Path, list[str]] = field(default_factory=dict)
    """What the class of a node's own definition takes of the arguments around it."""


@dataclass(slots=True)
class ClassPrinter:
    """Prints the class of one definition; `names` are what formulas see in its first instance, at `path`."""

    file: File
    definition: Definition
    names: Names
    path: str
    given: Names | None = None
    """Values for the arguments of the model itself; None for all other classes."""

    def lines(self, name: str) -> list[str]:
        """The class's text."""
        definition = self.definition
        body = self._body()
        parameters = self._parameters(body)
        base = "nn.Module" if definition.forward is not None else "nn.Sequential"
        out = [*_place(definition), f"class {name}({base.replace('nn', self.file.imports.module('nn'))}):"]
        out += self._init(parameters, body) if body or parameters else []
        if definition.forward is not None:
            out += ([""] if body or parameters else []) + method(definition.forward, self.file.imports)
        return out if body or parameters or definition.forward is not None else [*out, f"{INDENT}pass"]

    def _init(self, parameters: list[tuple[str, str | None]], body: list[str]) -> list[str]:
        """`__init__`; what is unused of counters is named `_`."""
        texts = [name if default is None else f"{name}={expression(parsed(default))}" for name, default in parameters]
        head = f"{INDENT}def __init__(self{', *' if texts else ''}{''.join(', ' + text for text in texts)}):"
        signature = [head] if len(head) <= WIDTH else [
            f"{INDENT}def __init__(", *(f"{INDENT * 2}{text}," for text in ("self", "*", *texts)), f"{INDENT}):"
        ]  # fmt: skip
        return [*signature, *_statements("\n".join(body), 2, self._counters(parameters))]

    def _counters(self, parameters: list[tuple[str, str | None]]) -> list[str]:
        return [name for name in LOOPS if name not in dict(parameters)]

    def _parameters(self, body: list[str]) -> list[tuple[str, str | None]]:
        """The constructor's parameters with their defaults; completes `captured`."""
        definition, place = self.definition, self.definition.place.path
        parameters: list[tuple[str, str | None]] = []
        for name, argument in definition.args.items():
            if self.given is not None and (name in self.given or argument.required):
                parameters.append((name, literal(self.names[name])))
            elif argument.required:
                parameters.append((name, None))
            elif free_names(argument.default):
                parameters.append((name, "None"))
            else:
                parameters.append((name, self._value(argument.default, 0)))
        own = {name for name, _ in parameters}
        loaded = {node.id for node in ast.walk(ast.parse("\n".join(body))) if isinstance(node, ast.Name)}
        captured = [name for name in self.names if name in loaded and name not in own and name != "data"]
        self.file.captured[place] = captured
        extra = [*self.file.sizes.parameters.get(place, {}), *captured]
        return [*((name, None) for name in extra), *parameters]

    def _body(self) -> list[str]:
        """The statements of `__init__`, not laid out yet."""
        definition = self.definition
        defaults = [
            f"if {name} is None:\n{INDENT}{name} = {self._value(argument.default, 0)}"
            for name, argument in definition.args.items()
            if free_names(argument.default) and not (self.given is not None and name in self.given)
        ]
        stacked = definition.forward is None and definition.numbered and definition.sections == ("layers",)
        if stacked:
            layers = ", ".join(self._node(node, 0) for node in definition.layers)
            return [*defaults, f"super().__init__({layers})", *self._ties()]
        lines = [*defaults, "super().__init__()", *self._attributes()]
        for section in definition.sections:
            if section == "layers":
                lines += [self._layer(node) for node in definition.layers]
            else:
                for spec in definition.parameters if section == "parameters" else definition.buffers:
                    lines += self._tensor(spec)
        lines += self._ties()
        return [] if lines == ["super().__init__()"] else lines

    def _attributes(self) -> Iterator[str]:
        """`self.heads = heads`, for what `forward` uses."""
        forward = self.definition.forward
        for name in self.names if forward is not None else ():
            if forward is not None and name in forward.args:
                yield f"self.{name} = {_as_lists(name, self.names[name])}"

    def _layer(self, node: Node) -> str:
        text = self._node(node, 0)
        if node.name.isidentifier() and not node.name.startswith("__") and _assignable(node.name):
            return f"self.{node.name} = {text}"
        if self.definition.forward is None and self.definition.numbered:
            return f"self.append({text})"
        return f"self.add_module({node.name!r}, {text})"

    def _node(self, node: Node, depth: int) -> str:
        """The expression that makes a node inside `depth` repeats."""
        if node.kind == "layer":
            return self._call(node, depth)
        if node.kind in ("block", "definition") and not inlined(node):
            return self._instance(node, depth)
        nn_ = self.file.imports.module("nn")
        kind = "Sequential" if inlined(node) else node.kind
        if node.element is not None:
            if node.element.place.path not in self.file.first:
                return f"{nn_}.{kind}()"  # no copies
            counter = f"{COUNTER}{depth}"
            copies = (
                f"[{self._node(node.element, depth + 1)} for {counter} in range({self._value(node.repeat, depth)})]"
            )
            return f"{nn_}.{kind}({'*' if kind == 'Sequential' else ''}{copies})"
        own = node.definition
        children = own.layers if own is not None else node.children
        numbered = own.numbered if own is not None else node.numbered
        return f"{nn_}.{kind}({self._children(kind, children, numbered, depth)})"

    def _children(self, kind: str, children: tuple[Node, ...], numbered: bool, depth: int) -> str:
        texts = [self._node(child, depth) for child in children]
        if numbered or not children:
            inside = ", ".join(texts)
            return f"[{inside}]" if kind == "ModuleList" and children else inside
        names = [child.name for child in children]
        if kind == "ModuleDict":
            return "{" + ", ".join(f"{name!r}: {text}" for name, text in zip(names, texts, strict=True)) + "}"
        ordered = self.file.imports.module("OrderedDict")
        if all(_assignable(name) for name in names):
            return f"{ordered}({', '.join(f'{name}={text}' for name, text in zip(names, texts, strict=True))})"
        return f"{ordered}({{{', '.join(f'{name!r}: {text}' for name, text in zip(names, texts, strict=True))}}})"

    def _instance(self, node: Node, depth: int) -> str:
        """The call that makes a block or a node's own definition."""
        assert node.definition is not None
        place = node.definition.place.path
        texts = [f"{name}={self._slot(node, name)}" for name in self.file.sizes.parameters.get(place, {})]
        for name in self.file.captured[place]:
            texts.append(f"{name}={COUNTER}{depth - 1}" if name == "i" and depth else f"{name}={name}")
        texts += [f"{key}={self._value(value, depth)}" for key, value in node.arguments.items()]
        return f"{self.file.names[place]}({', '.join(texts)})"

    def _slot(self, node: Node, argument: str) -> str:
        tree = self.file.sizes.slots[node.place.path, argument]
        return ast.unparse(tree)

    def _call(self, node: Node, depth: int) -> str:
        """The call that makes a layer of PyTorch or of a user."""
        target, sizes = node.target, self.file.sizes.slots
        assert target is not None
        missing = [argument for place, argument in sizes if place == node.place.path]
        texts = {argument: self._slot(node, argument) for argument in missing}
        texts |= {key: self._argument(node, key, value, depth) for key, value in node.arguments.items()}
        shown = self.file.imports.of(target, node.type)
        nested = sum(isinstance(value, Node) for value in node.arguments.values())
        first = _leading(target, texts) if _is_torchs(target) and nested < 2 else []
        inside = [*(texts[key] for key in first), *(f"{k}={text}" for k, text in texts.items() if k not in first)]
        return f"{shown}({', '.join(inside)})"

    def _argument(self, node: Node, key: str, value: Value, depth: int) -> str:
        """An argument of a layer: a tuple for a list, a dtype for its name."""
        assert node.target is not None
        if isinstance(value, Node):
            return self._node(value, depth)
        as_list = key in _list_parameters(node.target)
        now = evaluate(value, self.file.first[node.place.path].names)
        text = self._value(value, depth, lists=as_list)
        if key == "dtype" and isinstance(now, str) and isinstance(getattr(torch, now, None), torch.dtype):
            torch_ = self.file.imports.module("torch")
            return f"getattr({torch_}, {text})" if isinstance(value, Formula) else f"{torch_}.{now}"
        return f"list({text})" if isinstance(value, Formula) and isinstance(now, list) and as_list else text

    def _value(self, value: Value, depth: int, *, lists: bool = False) -> str:
        """A value of the config, inside `depth` repeats."""
        if isinstance(value, Formula):
            renamed = {"i": f"{COUNTER}{depth - 1}"} if depth else {}
            return Formulas(self.file.data, renamed, self.file.imports).text(value)
        if isinstance(value, list):
            return sequence([self._value(item, depth, lists=lists) for item in value], lists)
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key!r}: {self._value(item, depth)}" for key, item in value.items()) + "}"
        return literal(value, lists=lists)

    def _tensor(self, spec: TensorSpec) -> Iterator[str]:
        """The statements that make a parameter or buffer."""
        if spec.value is not None:
            tensor, after = self._computed(spec), None
        else:
            tensor, after = self._begun(spec)
        user = after is not None and not after[0].startswith(f"{self.file.imports.module('nn')}.init.")
        if after is not None and user:
            yield f"{spec.name} = {tensor}"
            yield f"{after[0]}({', '.join([spec.name, *after[1]])})"
            tensor = spec.name
        if spec.role == "parameter":
            grad = "" if spec.requires_grad else ", requires_grad=False"
            yield f"self.{spec.name} = {self.file.imports.module('nn')}.Parameter({tensor}{grad})"
        else:
            kept = "" if spec.persistent else ", persistent=False"
            yield f"self.register_buffer({spec.name!r}, {tensor}{kept})"
        if after is not None and not user:
            yield f"{after[0]}({', '.join([f'self.{spec.name}', *after[1]])})"

    def _computed(self, spec: TensorSpec) -> str:
        """A buffer's value from its expression; made a tensor where it isn't one."""
        assert spec.value is not None
        torch_ = self.file.imports.module("torch")
        functions = {name: registry.functions.get(name) for name in spec.value.functions if name in registry.functions}
        texts = {name: self.file.imports.of(value, name) for name, value in functions.items()}
        tree = _Renamed(texts).visit(ast.parse(spec.value.text.strip(), mode="eval").body)
        text = ast.unparse(tree)
        if not _is_tensor(spec, self.names):
            text = f"{torch_}.{'tensor' if isinstance(tree, ast.Constant | ast.List) else 'as_tensor'}({text})"
        return text if spec.dtype is None else f"{ast.unparse(parsed(f'({text}).to({torch_}.{spec.dtype})'))}"

    def _begun(self, spec: TensorSpec) -> tuple[str, tuple[str, list[str]] | None]:
        """A tensor of the spec's shape, and the initialiser still to be called with its arguments."""
        torch_ = self.file.imports.module("torch")
        dtype = "" if spec.dtype is None else f", dtype={torch_}.{spec.dtype}"
        sizes = [self._value(size, 0) for size in spec.shape] if isinstance(spec.shape, list) else None
        shape = "()" if sizes == [] else ", ".join(sizes) if sizes is not None else self._value(spec.shape, 0)
        if spec.init is None or (spec.init in ("zeros_", "ones_") and not spec.init_arguments):
            return f"{torch_}.{(spec.init or 'zeros_')[:-1]}({shape}{dtype})", None
        value = spec.init_arguments.get("val")
        if spec.init == "constant_" and isinstance(value, int | float) and not dtype and sizes is not None:
            return f"{torch_}.full({sequence(sizes, False) if sizes else '()'}, {float(value)!r})", None
        arguments = [f"{key}={self._value(item, 0, lists=True)}" for key, item in spec.init_arguments.items()]
        shown = self.file.imports.of(registry.initialisers.get(spec.init), spec.init)
        return f"{torch_}.empty({shape}{dtype})", (shown, arguments)

    def _ties(self) -> Iterator[str]:
        """`self.head.weight = self.tok.weight`."""
        try:
            module: nn.Module | None = self.file.found.model.get_submodule(self.path)
        except AttributeError:  # inside a layer that is an argument of another
            module = None
        for target, source, _ in self.definition.tie:
            yield f"{_path(module, target)} = {_path(module, source)}"


class _Renamed(ast.NodeTransformer):
    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return parsed(self.texts[node.id]) if node.id in self.texts else node


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
        if node.id.startswith(COUNTER):
            return ast.Name(self.names[int(node.id.removeprefix(COUNTER)) % len(self.names)], node.ctx)
        return node


def _statements(text: str, depth: int, counters: list[str]) -> Iterator[str]:
    """Statements laid out."""
    for node in ast.parse(text).body:
        node = _Counters(counters).visit(node)
        if isinstance(node, ast.If):
            yield from header(node, depth)
            for inner in node.body:
                yield from statement(inner, depth + 1)
        else:
            yield from statement(node, depth)


def _as_lists(name: str, value: Any) -> str:
    """A tuple as the list that it was in the config, since `x[[0, 1]]` and `x[0, 1]` are not the same."""
    if not isinstance(value, list):
        return name
    return (
        f"[list(item) for item in {name}]"
        if value and all(isinstance(item, list) for item in value)
        else f"list({name})"
    )


def _place(definition: Definition) -> list[str]:
    origin = definition.place.origin
    return [f"# {origin}"] if origin.line is not None or origin.override is not None else []


def _assignable(name: str) -> bool:
    """Whether Python takes it as a name."""
    try:
        return name.isidentifier() and isinstance(parsed(name), ast.Name)
    except SyntaxError:
        return False


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


def _is_tensor(spec: TensorSpec, names: Names) -> bool:
    """Whether a buffer's expression gives a tensor; tried on the meta device, where that costs nothing."""
    assert spec.value is not None
    functions = {name: registry.functions.get(name) for name in spec.value.functions if name in registry.functions}
    with torch.device("meta"):
        return isinstance(spec.value.bind(functions)(names), torch.Tensor)


def _path(module: Any, name: str) -> str:
    """A dotted name of a state_dict as Python: `blocks.0.weight` → `self.blocks[0].weight`."""
    text = "self"
    for part in name.split("."):
        if isinstance(module, nn.ModuleDict):
            text += f"[{part!r}]"
        else:
            text += f"[{part}]" if part.isdigit() else f".{part}"
        module = getattr(module, "_modules", {}).get(part)
    return text
