"""What the source of a layer tells without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from builder.inspect.doctor.finding import Finding
from builder.inspect.doctor.source import Source, assigned

FACTORIES = (
    "zeros", "ones", "empty", "full", "rand", "randn", "randint", "randperm", "arange", "linspace", "eye", "tensor",
)  # fmt: skip
"""Functions of torch that make a tensor on the default device unless they are told one."""

PLAIN = {
    ast.List: "list", ast.ListComp: "list", ast.Tuple: "tuple", ast.Dict: "dict", ast.DictComp: "dict", ast.Set: "set",
    ast.SetComp: "set",
}  # fmt: skip


def findings(source: Source) -> Iterator[Finding]:
    """All that is found in a class's source."""
    for rule in (_super, _attributes, _appended, _forward, _devices):
        for finding in rule(source):
            if not source.is_fine(finding.line):
                yield finding


def _found(source: Source, rule: str, line: int, name: str = "", kind: str = "") -> Finding:
    return Finding(rule, source.cls.__name__, source.file, line, name, kind)


def _super(source: Source) -> Iterator[Finding]:
    method = source.method("__init__")
    if method is not None and not any(_calls_init(node) for node in ast.walk(method)):
        yield _found(source, "super", method.lineno)


def _calls_init(node: ast.AST) -> bool:
    """Whether this is `super().__init__(…)`, or `Base.__init__(self, …)`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "__init__"


def _attributes(source: Source) -> Iterator[Finding]:
    """Attributes that `__init__` assigns what a module doesn't take charge of."""
    method = source.method("__init__")
    if method is None:
        return
    inner = {node.name for node in ast.walk(method) if isinstance(node, ast.FunctionDef)} - {"__init__"}
    for name, value, line in assigned(method):
        if value is not None and type(value) in PLAIN:
            kinds = {_made(source, node) for node in ast.walk(value) if isinstance(node, ast.Call)}
            rule = "modules" if "module" in kinds else "tensors" if kinds & {"tensor", "parameter"} else None
            if rule is not None:
                yield _found(source, rule, line, name, PLAIN[type(value)])
        elif isinstance(value, ast.Call) and _made(source, value) == "tensor":
            yield _found(source, "parameter" if _needs_gradient(value) else "buffer", line, name)
        elif isinstance(value, ast.Lambda | ast.GeneratorExp):
            yield _found(source, "pickle", line, name, "a lambda" if isinstance(value, ast.Lambda) else "a generator")
        elif isinstance(value, ast.Name) and value.id in inner:
            yield _found(source, "pickle", line, name, "a function inside of a function")
        elif isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "open":
            yield _found(source, "pickle", line, name, "an open file")


def _appended(source: Source) -> Iterator[Finding]:
    """Modules and tensors that are put into a plain list of the layer."""
    lists = {name for method in source.methods for name, value, _ in assigned(method) if isinstance(value, ast.List)}
    for node in ast.walk(source.tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_own(node.func.value)):
            continue
        name = node.func.value.attr  # type: ignore[attr-defined]
        if node.func.attr in ("append", "insert", "extend") and name in lists:
            kinds = {_made(source, each) for each in ast.walk(node) if isinstance(each, ast.Call)}
            if kinds & {"module", "tensor", "parameter"}:
                rule = "modules" if "module" in kinds else "tensors"
                yield _found(source, rule, source.line_of(name) or node.lineno, name, "list")


def _is_own(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _forward(source: Source) -> Iterator[Finding]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "forward":
            owner = node.func.value
            is_super = isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super"
            is_class = isinstance(source.named(owner), type)  # Base.forward(self, x)
            if not is_super and not is_class:
                yield _found(source, "forward", node.lineno, ast.unparse(owner))


def _devices(source: Source) -> Iterator[Finding]:
    """Tensors that `forward` makes on the default device, and devices that are written out."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
            yield _found(source, "device", node.lineno, ast.unparse(node))
        named = [*(each.value for each in node.keywords if each.arg == "device"),
                 *(node.args if isinstance(node.func, ast.Attribute) and node.func.attr == "to" else [])]  # fmt: skip
        if any(isinstance(each, ast.Constant) and _is_device(each.value) for each in named):
            yield _found(source, "device", node.lineno, ast.unparse(node))
    method = source.method("forward")
    for node in _left_alone(method) if method is not None else ():
        if _factory(source, node) and not any(each.arg in ("device", None) for each in node.keywords):
            yield _found(source, "device", node.lineno, ast.unparse(node))


def _is_device(value: Any) -> bool:
    return isinstance(value, str) and value.partition(":")[0] in ("cuda", "cpu", "mps", "xpu")


def _left_alone(node: ast.AST) -> Iterator[ast.Call]:
    """The calls in a tree, but those whose results are moved or only used as numbers: `torch.zeros(3).to(x)`."""
    for child in ast.iter_child_nodes(node):
        is_moved = isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr in (
            "to", "type_as", "cuda", "item", "tolist",
        )  # fmt: skip
        if not is_moved:
            if isinstance(child, ast.Call):
                yield child
            yield from _left_alone(child)


def _made(source: Source, call: ast.Call) -> str | None:
    """What a call makes: a `module`, a `parameter`, a plain `tensor`."""
    target = source.named(call.func)
    if isinstance(target, type):
        if issubclass(target, nn.Module):
            return "module"
        return "parameter" if target is nn.Parameter or issubclass(target, nn.Parameter) else None
    return "tensor" if _factory(source, call) else None


def _factory(source: Source, call: ast.Call) -> bool:
    target = source.named(call.func)
    return target is not None and any(target is getattr(torch, name) for name in FACTORIES)


def _needs_gradient(call: ast.Call) -> bool:
    return any(
        each.arg == "requires_grad" and isinstance(each.value, ast.Constant) and each.value.value is True
        for each in call.keywords
    )
