"""What the classes of one printed file share: imports, names of classes, sizes, and values of the config as text."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from builder.errors import Path
from builder.lang.formula import Formula
from builder.model.infer import Exploration
from builder.model.make import list_parameters
from builder.model.pending import Names
from builder.model.scope import evaluate
from builder.model.source_names import Formulas, Imports, literal, parsed, sequence
from builder.model.source_sizes import COUNTER, Found
from builder.model.source_visits import Visit
from builder.model.spec import Definition, Node, Value

NAMED, WALK, RESET = "_named", "_parameters", "_reset"
"""Helpers that a file holds if it needs them."""

HELPERS = {
    NAMED: f'''def {NAMED}(container, **layers):
    """The container with layers under names of their own."""
    for name, layer in layers.items():
        container.add_module(name, layer)
    return container''',
    WALK: f'''def {WALK}(module):
    """Each parameter once: its name, the layer that holds it, its name there, and itself."""
    for name, parameter in module.named_parameters():
        path, _, leaf = name.rpartition(".")
        yield name, module.get_submodule(path), leaf, parameter''',
    RESET: f'''def {RESET}(layer, *names):
    """Let a layer fill these parameters as when it was made; all its other values stay."""
    tensors = [*layer.named_parameters(), *layer.named_buffers()]
    kept = [(tensor, tensor.clone()) for name, tensor in tensors if name not in names]
    getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))()
    for tensor, value in kept:
        tensor.detach().copy_(value)''',
}


@dataclass(slots=True)
class File:
    """The file's state. `names` and `captured` are filled in class by class, callees first.

    `first` is the first making of each node. `captured` are the names that the class of a node's own definition takes
    of those around it. `helpers` are the names of those that the file needs, `functions` those that initialise a layer
    that stands inside an expression. `standings` are the modules at which each rule stands, by its identity.
    """

    imports: Imports
    data: Names
    found: Exploration
    sizes: Found
    first: Mapping[Path, Visit]
    names: dict[Path, str] = field(default_factory=dict)
    captured: dict[Path, list[str]] = field(default_factory=dict)
    standings: Mapping[int, list[nn.Module]] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)
    functions: list[list[str]] = field(default_factory=list)

    @property
    def nn(self) -> str:
        """The name of `torch.nn`."""
        return self.imports.module("nn")

    @property
    def torch(self) -> str:
        """The name of `torch`."""
        return self.imports.module("torch")

    def class_of(self, kind: type) -> str | None:
        """The name of the class that is printed for a block's; None if there is none."""
        recipe = getattr(kind, "_recipe", None)
        return self.names.get(recipe.path[:-1]) if recipe is not None else None

    def slot(self, node: Node, argument: str) -> str:
        """What is filled in for an argument that was left out."""
        tree = parsed(ast.unparse(self.sizes.slots[node.place.path, argument]))
        return ast.unparse(Formulas(self.data, {}, self.imports).visit(tree))

    def absent(self, definition: Definition, name: str) -> str:
        """The default that stands for an argument's formula: `None`, unless the config gives that as a value."""
        places = (visit.node for visit in self.first.values() if visit.node.definition is definition)
        return "..." if any(node.arguments.get(name, 0) is None for node in places) else "None"

    def value(self, value: Value, depth: int = 0, *, lists: bool = False) -> str:
        """A value of the config, inside `depth` repeats; its lists as tuples, unless `lists`."""
        if isinstance(value, Formula):
            renamed = {"i": f"{COUNTER}{depth - 1}"} if depth else {}
            return Formulas(self.data, renamed, self.imports).text(value)
        if isinstance(value, list):
            return sequence([self.value(item, depth, lists=lists) for item in value], lists)
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key!r}: {self.value(item, depth)}" for key, item in value.items()) + "}"
        return literal(value, lists=lists)

    def argument(self, node: Node, key: str, depth: int) -> str:
        """An argument of a layer that is no layer itself: tuples for lists, a dtype for its name."""
        assert node.target is not None
        value, lists = node.arguments[key], key in list_parameters(node.target)
        now = evaluate(value, self.first[node.place.path].names)
        text = self.value(value, depth, lists=lists)
        if key == "dtype" and isinstance(now, str) and isinstance(getattr(torch, now, None), torch.dtype):
            return f"getattr({self.torch}, {text})" if isinstance(value, Formula) else f"{self.torch}.{now}"
        return f"list({text})" if lists and isinstance(value, Formula) and isinstance(now, list) else text
