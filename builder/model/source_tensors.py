"""Parameters, buffers and ties of a definition → the statements of a constructor."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from builder import registry
from builder.model.pending import Names
from builder.model.source_file import File
from builder.model.source_layout import INDENT
from builder.model.source_names import parsed, sequence
from builder.model.spec import Definition, TensorSpec

FILLED = {None: "zeros", "zeros_": "zeros", "ones_": "ones"}
"""Initialisers that are functions of torch which make the tensor."""


def tensor(file: File, spec: TensorSpec, names: Names) -> Iterator[str]:
    """The statements that make a parameter or buffer; `names` are what formulas see in some instance."""
    if spec.when is True:
        yield from _made(file, spec, names)
        return
    made = "\n".join(f"{INDENT}{line}" for text in _made(file, spec, names) for line in text.splitlines())
    none = f"{INDENT}self.register_{spec.role}({spec.name!r}, None)"
    yield f"if {file.value(spec.when)}:\n{made}\nelse:\n{none}"


def _made(file: File, spec: TensorSpec, names: Names) -> Iterator[str]:
    """The statements, whatever the condition."""
    if spec.value is not None:
        yield _registered(file, spec, _computed(file, spec, names))
    elif (filled := _filled(file, spec)) is not None:
        yield _registered(file, spec, filled)
    else:
        yield from _initialised(file, spec)


def _registered(file: File, spec: TensorSpec, text: str) -> str:
    if spec.role == "parameter":
        grad = "" if spec.requires_grad else ", requires_grad=False"
        return f"self.{spec.name} = {file.nn}.Parameter({text}{grad})"
    return f"self.register_buffer({spec.name!r}, {text}{'' if spec.persistent else ', persistent=False'})"


def _computed(file: File, spec: TensorSpec, names: Names) -> str:
    """A buffer's value from its expression; made a tensor where it isn't one."""
    assert spec.value is not None
    functions = {name: registry.functions.get(name) for name in spec.value.functions if name in registry.functions}
    tree: Any = ast.parse(spec.value.text.strip(), mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in functions:
            node.id = file.imports.of(functions[node.id], node.id)
    text = ast.unparse(tree)
    with torch.device("meta"):  # computes nothing
        made = isinstance(spec.value.bind(functions)(names), torch.Tensor)
    if not made:
        text = f"{file.torch}.{'tensor' if isinstance(tree, ast.Constant | ast.List) else 'as_tensor'}({text})"
    return text if spec.dtype is None else f"({text}).to({file.torch}.{spec.dtype})"


def _sized(file: File, spec: TensorSpec) -> tuple[str, str]:
    """The arguments of `torch.empty` for the spec's shape, and its dtype as a further one."""
    dtype = "" if spec.dtype is None else f", dtype={file.torch}.{spec.dtype}"
    if not isinstance(spec.shape, list):
        return file.value(spec.shape), dtype
    return ", ".join(file.value(size) for size in spec.shape) or "()", dtype


def _filled(file: File, spec: TensorSpec) -> str | None:
    """`torch.ones(width)`, where torch has a function that makes what the initialiser would."""
    shape, dtype = _sized(file, spec)
    if spec.init in FILLED and not spec.init_arguments:
        return f"{file.torch}.{FILLED[spec.init]}({shape}{dtype})"
    value = spec.init_arguments.get("val")
    if spec.init != "constant_" or not isinstance(value, int | float) or dtype or not isinstance(spec.shape, list):
        return None
    sizes = [file.value(size) for size in spec.shape]
    return f"{file.torch}.full({sequence(sizes, False) if sizes else '()'}, {float(value)!r})"


def _initialised(file: File, spec: TensorSpec) -> Iterator[str]:
    """Make a tensor and call the initialiser; on the tensor itself if it is a user's, who may not know of gradients."""
    shape, dtype = _sized(file, spec)
    assert spec.init is not None
    arguments = "".join(f", {key}={file.value(item, lists=True)}" for key, item in spec.init_arguments.items())
    initialiser = registry.initialisers.get(spec.init)
    shown = file.imports.of(initialiser, spec.init)
    empty = f"{file.torch}.empty({shape}{dtype})"
    if getattr(nn.init, spec.init, None) is initialiser:
        yield _registered(file, spec, empty)
        yield f"{shown}(self.{spec.name}{arguments})"
    else:
        yield f"{spec.name} = {empty}"
        yield f"{shown}({spec.name}{arguments})"
        yield _registered(file, spec, spec.name)


def ties(file: File, definition: Definition, path: str) -> Iterator[str]:
    """`self.head.weight = self.tok.weight`; `path` is that of an instance."""
    try:
        module: nn.Module | None = file.found.model.get_submodule(path)
    except AttributeError:  # inside a layer that is an argument of another
        module = None
    for target, source, _ in definition.tie:
        yield f"{member(module, target)} = {member(module, source)}"


def member(module: Any, name: str, root: str = "self") -> str:
    """A dotted name of a state_dict as Python: `blocks.0.weight` → `self.blocks[0].weight`."""
    text = root
    for part in name.split("."):
        if isinstance(module, nn.ModuleDict):
            text += f"[{part!r}]"
        elif isinstance(module, nn.ModuleList | nn.Sequential) or module is None:
            text += f"[{part}]" if part.isdigit() else f".{part}"
        else:
            text += f".{part}" if parsed_name(part) else f".get_submodule({part!r})"
        module = getattr(module, "_modules", {}).get(part)
    return text


def parsed_name(text: str) -> bool:
    """Whether Python takes a text as a name."""
    try:
        return text.isidentifier() and isinstance(parsed(text), ast.Name)
    except SyntaxError:
        return False
