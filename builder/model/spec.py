"""What a module definition in YAML says, as a tree: nothing is built, nothing is evaluated, every name is resolved.

A definition is read once; every fault in it is found before the first layer is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from builder.errors import Origin, Path
from builder.lang.formula import Formula
from builder.lang.forward import Expression, Forward
from builder.weights.initialise import Rule

CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")

DEFINITION_KEYS = (
    "name", "description", "args", "inputs", "blocks", "parameters", "buffers", "layers", "forward", "tie", "init"
)  # fmt: skip
"""The keys of a module definition."""

NODE_KEYS = (*DEFINITION_KEYS, "type", "repeat", "layer", "unused")
"""Keys of a node that are the language's; a constructor argument of such a name goes under `args`."""

Kind = Literal["layer", "block", "definition", "choice", "Sequential", "ModuleList", "ModuleDict"]

Value = Any
"""A value of the config in which each `=…` text has become a `Formula` and each nested layer a `Node`."""


def class_name(text: str) -> str:
    """The name of the class of a definition that is called so in YAML: `resnet18` → `Resnet18`."""
    parts = "".join(char if char.isalnum() else "_" for char in text).split("_")
    name = "".join(part[:1].upper() + part[1:] for part in parts)
    return name if name.isidentifier() else f"Model{name}" if f"Model{name}".isidentifier() else "Model"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the config: its path, and where it was written."""

    origin: Origin
    path: Path


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a definition. Without a default it is required."""

    name: str
    default: Value
    required: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Input:
    """What `forward` takes by that name.

    `shape` holds sizes, formulas and names of free dimensions; it is None where nothing is said. A `dtype` of `int`,
    `float`, `bool` or `str` is a plain Python value, all others are dtypes of tensors.
    """

    name: str
    shape: tuple[int | str | Formula, ...] | None
    dtype: str
    optional: bool
    place: Place


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A parameter or buffer of a definition: a shape with an initialiser, or an expression that gives its value."""

    name: str
    role: Literal["parameter", "buffer"]
    place: Place
    shape: Value = None
    dtype: str | None = None
    init: str | None = None
    init_arguments: Mapping[str, Value] = field(default_factory=dict)
    value: Expression | None = None
    persistent: bool = True
    requires_grad: bool = True
    when: Value = True
    """Whether it is made. Where it isn't, it is None, as `register_parameter(name, None)` says it."""


@dataclass(frozen=True, slots=True)
class Node:
    """One entry of `layers`.

    `target` makes a layer; `definition` is a block's or the node's own; `children` are a container's layers, or
    `element` the one that it repeats. `arguments` are what the layer or block is given. A `choice` has a formula for
    its type: when it is made, `choose` gives the node of the layer or block that the formula's value describes.
    """

    name: str
    kind: Kind
    type: str
    place: Place
    arguments: Mapping[str, Value] = field(default_factory=dict)
    argument_places: Mapping[str, Place] = field(default_factory=dict)
    target: Callable[..., Any] | None = None
    definition: Definition | None = None
    children: tuple[Node, ...] = ()
    numbered: bool = False
    repeat: Value = None
    element: Node | None = None
    unused: bool = False
    when: Value = True
    """Whether the layer is made. Where it isn't, it is None for a `forward`, and left out of a stack or container."""
    init: tuple[Rule, ...] = ()
    """Rules for its initial values, applied when it has been made."""
    choice: Formula | None = None
    """The formula for the type; also of a node that it chose."""
    choose: Callable[[Any], Node] | None = None
    """Takes a name, or a mapping with a `type` and arguments. Raises ConfigError: it is neither, nothing has that name,
    or what has it doesn't take the arguments."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A module definition: the model, a block, or a node's own.

    `sections` gives the order in which `parameters`, `buffers` and `layers` are written, which is the order in which
    they are made, and so in which they draw random numbers.
    """

    name: str
    place: Place
    args: Mapping[str, Argument] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    parameters: tuple[TensorSpec, ...] = ()
    buffers: tuple[TensorSpec, ...] = ()
    layers: tuple[Node, ...] = ()
    numbered: bool = False
    forward: Forward | None = None
    sections: tuple[str, ...] = ("parameters", "buffers", "layers")
    tie: tuple[tuple[str, str, Place], ...] = ()
    outer_args: frozenset[str] = frozenset()
    """Arguments of the enclosing definitions that `forward` uses; only a node's own definition has them."""
    sees_data: bool = False
    """Whether its formulas see `data`: those of a whole model do."""
    frozen: bool = False
    """Whether its parameters take no gradients from the start."""
    init: tuple[Rule, ...] = ()
    """Rules for the initial values of all that it holds, applied when that has been made."""
    rules: bool = False
    """Whether it holds any such rule, those of its layers and blocks among them, a block that nothing uses too."""
    count: int = 0
    """How many layers it holds as written, those of its blocks among them."""
