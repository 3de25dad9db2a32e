"""Tree → `nn.Module`: makes the layers in the order in which they are written, as a hand-written constructor does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from builder.catalog.arguments import check_arguments
from builder.errors import ConfigError, Fault
from builder.lang.formula import Formula
from builder.lang.syntax import LangError
from builder.model.classes import DefinedModule, class_of
from builder.model.infer_bare import bare
from builder.model.init_rules import computed
from builder.model.make_tensors import add_tensor, first_line, tie
from builder.model.pending import Names, Pending, Refused, Sizes, Sketched, key_of
from builder.model.recall import Recall
from builder.model.scope import evaluate
from builder.model.sizes import infer_sizes, inferable
from builder.model.spec import Definition, Node, Place, TensorSpec, Value
from builder.model.stamp import Stamp, begin, is_watched, stamp_of
from builder.weights.init_check import Standing
from builder.weights.initialise import Rule, Touched, apply

PLAIN = frozenset({int, float, bool, str, type(None)})
"""Types of values without formulas in them."""

MAX_DEPTH = 64
"""How deep layers may lie in one another, where their types are chosen."""

MAX_MODULES = 100_000
"""Modules that one model may have; more is a mistake or an attack."""


@dataclass(slots=True)
class Maker:
    """Makes modules from a tree.

    When `exploring`, arguments are checked, faults are collected in `faults`, and a layer that lacks a size becomes a
    `Pending`, which enters it in `sizes` when it is first called. Otherwise `sizes` holds them all.
    """

    exploring: bool
    sizes: Sizes = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    nodes: dict[str, Node] = field(default_factory=dict)
    """Module path → the node that made it; filled when exploring."""
    made: dict[str, Definition] = field(default_factory=dict)
    """Module path → the definition that it is an instance of; filled when exploring."""
    keys: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Module path → what decides the shapes inside: its definition, and all that this sees; filled when exploring."""
    recall: Recall | None = None
    """With one, the maker is sketching: a block is made when it is called with inputs of a new shape."""
    data: Names = field(default_factory=dict)
    """Facts of the data set."""
    classes: dict[int, type[nn.Module]] = field(default_factory=dict)
    guessed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Module path → the sizes that another run contradicted."""
    rules: list[Standing] = field(default_factory=list)
    """Initialisation rules and the modules at which they stand; filled when exploring."""
    notes: bool = False
    """Whether rules are noted in `rules` and not applied, without exploring."""
    draws: bool = True
    """Whether rules are applied: not on the meta device, where it can only be noted what they would fill."""
    keeps: bool = False
    """Whether buffers that no state dict holds have their values, though all else is on the meta device."""
    touched: Touched | None = None
    """Where it is noted what rules filled."""
    count: int = 0
    """Modules made so far."""
    watched: bool = field(default_factory=is_watched)
    """Whether each module is to be registered as PyTorch does it."""
    stamps: dict[tuple[Any, str], Stamp | None] = field(default_factory=dict)
    """Class and arguments of the layers made so far, for those made twice with how to make more."""

    def root(self, definition: Definition, given: Names, data: Names) -> nn.Module:
        """The model itself, with values for some of its arguments.

        Raises:
            Refused: it can't be made.
        """
        self.data = data
        return self._definition(definition, given, {"data": data}, "")

    def definition(self, definition: Definition, given: Names, outer: Names, path: str) -> nn.Module:
        """An instance of a block or of a node's own definition.

        Raises:
            Refused: it can't be made.
        """
        return self._definition(definition, given, outer, path)

    def _definition(self, definition: Definition, given: Names, outer: Names, path: str) -> nn.Module:
        """An instance of a definition; `outer` is what it sees besides its own arguments."""
        if self.exploring:
            self.made[path] = definition
        names = self.names(definition, given, outer)
        if self.exploring:
            self.keys[path] = key_of(definition, names)
        cls = self._class_of(definition)
        module: Any = cls.__new__(cls)
        begin(module)
        # Plain values: past nn.Module.__setattr__, which would look for parameters in each.
        module.__dict__.update((name, names[name]) for name in (*definition.args, *sorted(definition.outer_args)))
        refused = False
        for section in definition.sections:
            try:
                if section == "layers":
                    self._children(module, definition.layers, names, path, definition.numbered)
                else:
                    for spec in definition.parameters if section == "parameters" else definition.buffers:
                        add_tensor(self, module, spec, names)
            except Refused:
                refused = True
        if refused:
            raise Refused
        for target, source, place in definition.tie:
            tie(self, module, target, source, place)
        if definition.init:
            self._initialise(definition.init, module, names)
        if definition.frozen:
            module.requires_grad_(False)
        return module

    def names(self, definition: Definition, given: Names, outer: Names) -> dict[str, Any]:
        """What the inside of a definition's instance sees.

        Raises:
            Refused: a default can't be computed.
        """
        names = dict(outer)
        for name, argument in definition.args.items():
            names[name] = given[name] if name in given else self.value(argument.default, argument.place, names)
        return names

    def _class_of(self, definition: Definition) -> type[nn.Module]:
        if id(definition) not in self.classes:
            self.classes[id(definition)] = class_of(definition, guarded=self.exploring)
        return self.classes[id(definition)]

    def _children(self, parent: nn.Module, nodes: tuple[Node, ...], names: Names, path: str, numbered: bool) -> None:
        refused = False
        for node in nodes:
            name = str(len(parent._modules)) if numbered else node.name
            try:
                if self.wanted(node, names):
                    if _is_taken(parent, name):
                        owner = "nn.Sequential" if isinstance(parent, nn.Sequential) else "nn.Module"
                        self.refuse(node.place, f"{name!r} can't be the name of a layer: every {owner} has it already")
                    child = self._node(node, names, f"{path}.{name}" if path else name)
                    if self.watched:
                        parent.add_module(name, child)
                    else:
                        parent._modules[name] = child  # whose name was checked above, as that would
                elif isinstance(parent, DefinedModule) and not isinstance(parent, nn.Sequential):
                    parent.add_module(name, None)
            except Refused:
                refused = True
        if refused:
            raise Refused

    def wanted(self, part: Node | TensorSpec, names: Names) -> bool:
        """Whether the condition holds on which a layer, parameter or buffer is made.

        Raises:
            Refused: it can't be computed, or is no condition.
        """
        if part.when is True:
            return True
        wanted = self.value(part.when, part.place, names)
        if not isinstance(wanted, bool):
            self.refuse(part.place, "'when' is true or false", found=wanted, expected="a condition, `=stride != 1`")
        return bool(wanted)

    def _node(self, node: Node, names: Names, path: str) -> nn.Module:
        self.count += 1
        if self.count > MAX_MODULES:
            place = node.place
            raise ConfigError(Fault(f"the model has more than {MAX_MODULES:,} modules", place.path, place.origin))
        if node.kind == "choice":
            node = self._chosen(node, names, path)
        if self.exploring:
            self.nodes[path] = node
        if node.kind == "layer":
            return self.layer(node, names, path)
        module = self._composed(node, names, path)
        if node.init and self.recall is None:
            self._initialise(node.init, module, names)
        return module

    def _chosen(self, node: Node, names: Names, path: str) -> Node:
        """The node of the layer or block that a formula chooses."""
        assert node.choice is not None and node.choose is not None
        if path.count(".") >= MAX_DEPTH:
            self.refuse(node.place, f"layers lie more than {MAX_DEPTH} deep", found=node.type)
        value = self.value(node.choice, node.place, names)
        try:
            return node.choose(value)
        except ConfigError as error:
            self.faults.extend(fault for fault in error.faults if fault not in self.faults)
            raise Refused from None

    def _composed(self, node: Node, names: Names, path: str) -> nn.Module:
        """A block, a definition of its own, or a container."""
        if node.definition is not None:
            given = {key: self.value(value, node.argument_places[key], names) for key, value in node.arguments.items()}
            outer = names if node.kind == "definition" else {"data": self.data} if node.definition.sees_data else {}
            if self.recall is not None:
                return Sketched(self, node.definition, given, outer, path)
            return self._definition(node.definition, given, outer, path)
        return self._container(node, names, path)

    def _initialise(self, rules: tuple[Rule, ...], module: nn.Module, names: Names) -> None:
        """Apply the rules that stand at a module; when exploring, note them for later, when all sizes are known."""
        compute = partial(computed, names)
        if self.exploring or self.notes:
            self.rules.extend(Standing(rule, module, compute) for rule in rules)
        elif self.draws or self.touched is not None:
            apply(rules, module, compute, self.touched)

    def _container(self, node: Node, names: Names, path: str) -> nn.Module:
        container: nn.Module = {"Sequential": nn.Sequential, "ModuleList": nn.ModuleList}.get(
            node.kind, nn.ModuleDict
        )()
        if node.element is None:
            self._children(container, node.children, names, path, node.numbered)
            return container
        for index in range(self._repeats(node, names)):
            container.add_module(str(index), self._node(node.element, {**names, "i": index}, f"{path}.{index}"))
        return container

    def _repeats(self, node: Node, names: Names) -> int:
        count = self.value(node.repeat, node.place, names)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_MODULES:
            self.refuse(node.place, "'repeat' counts copies", found=count, expected=f"a number from 0 to {MAX_MODULES}")
        return int(count)

    def layer(self, node: Node, names: Names, path: str, inputs: tuple[Any, ...] | None = None) -> nn.Module:
        """A layer from its class; `inputs` are those of its first call, where they are known.

        Raises:
            Refused: its class refuses the arguments.
        """
        assert node.target is not None
        arguments = {key: self._argument(node, key, names, path, inputs) for key in node.arguments}
        nested_missing = any(isinstance(value, Pending) for value in arguments.values())
        missing = set(inferable(node.target)) - set(arguments)
        if missing and path in self.sizes:
            arguments = self.sizes[path] | arguments
        elif missing and inputs is not None:
            self.sizes[path] = infer_sizes(node.target, missing, inputs)
            arguments = self.sizes[path] | arguments
        elif missing or nested_missing:
            assert self.exploring, f"no sizes for {path}"
            return Pending(self, node, names, path)
        if self.exploring:
            self._check(node, arguments)
        try:
            module = self._made(node.target, arguments)
        except Exception as error:  # the constructor of any layer, a user's among them
            if not self.exploring:
                raise
            self.refuse(node.place, f"{node.type} refuses its arguments: {first_line(error)}", found=arguments)
        if self.touched is not None:
            self._note_copies(arguments, module)
        if node.init and self.recall is None:
            self._initialise(node.init, module, names)
        return module

    def _made(self, target: Callable[..., Any], arguments: dict[str, Any]) -> nn.Module:
        """What a class makes of its arguments, by stamp from the third time on."""
        key = None if self.exploring or self.watched else (target, repr(arguments))
        stamp = None if key is None else self.stamps.get(key)
        if stamp is not None:
            return stamp.make(self.draws)
        module: nn.Module = target(**arguments) if self.draws else bare(target, arguments)
        if key is not None:
            self.stamps[key] = stamp_of(module) if key in self.stamps else None
        return module

    def _note_copies(self, arguments: Names, module: nn.Module) -> None:
        """Note what rules filled in a layer that is an argument of another, which may hold copies of it."""
        for value in arguments.values():
            if isinstance(value, nn.Module) and self.touched is not None:
                self.touched.copied(value, module)

    def _argument(self, node: Node, key: str, names: Names, path: str, inputs: tuple[Any, ...] | None) -> Any:
        """A constructor's argument; a layer that is one gets the inputs of the layer that it is given to."""
        assert node.target is not None
        value = node.arguments[key]
        if not isinstance(value, Node):
            return _as_written_by_hand(node.target, key, self.value(value, node.argument_places[key], names))
        if value.kind == "choice":
            value = self._chosen(value, names, f"{path}.{key}")
        if value.kind == "layer" and inputs is not None:
            return self.layer(value, names, f"{path}.{key}", inputs)
        return self._node(value, names, f"{path}.{key}")

    def _check(self, node: Node, arguments: Names) -> None:
        assert node.target is not None
        places = node.argument_places
        faults = check_arguments(
            "layer", node.type, node.target, arguments,
            path=node.place.path,
            origin_of=lambda key: places[key].origin if key in places else node.place.origin,
        )  # fmt: skip
        if faults:
            self.faults.extend(faults)
            raise Refused

    def tie_again(self, model: nn.Module) -> None:
        """Tie the parameters of layers that were pending when their definition was made."""
        for path, definition in self.made.items():
            for target, source, place in definition.tie:
                tie(self, model.get_submodule(path), target, source, place)

    def value(self, value: Value, place: Place, names: Names) -> Any:
        """A value of the config with its formulas computed.

        Raises:
            Refused: a formula can't be computed.
        """
        kind = type(value)
        if kind in PLAIN:
            return value
        try:
            return value.evaluate(names) if kind is Formula else evaluate(value, names)
        except LangError as error:
            text = f"={value.text}" if isinstance(value, Formula) else str(value)
            self.faults.append(error.fault(text, place.origin, place.path))
            raise Refused from None

    def refuse(self, place: Place, message: str, **details: Any) -> Any:
        """Note what is wrong at a place of the config, and give up the part.

        Raises:
            Refused: always.
        """
        self.faults.append(Fault(message, place.path, place.origin, **details))
        raise Refused


def _is_taken(parent: nn.Module, name: str) -> bool:
    """Whether something other than a layer has the name in a module; as `hasattr`, which is slow where nothing has."""
    own = parent.__dict__
    found = hasattr(type(parent), name) or name in own or name in own["_parameters"] or name in own["_buffers"]
    return found and name not in own["_modules"]


def _as_written_by_hand(target: Callable[..., Any], name: str, value: Any) -> Any:
    """A value from YAML as one would write it in Python: a dtype for its name, a tuple for a list."""
    if name == "dtype" and isinstance(value, str) and isinstance(getattr(torch, value, None), torch.dtype):
        return getattr(torch, value)
    if isinstance(value, list) and name not in list_parameters(target):
        return tuple(_as_written_by_hand(target, "", item) for item in value)
    return value


@cache
def list_parameters(target: Callable[..., Any]) -> frozenset[str]:
    """The parameters of a callable that are declared to be lists."""
    parameters = inspect.signature(target).parameters.values()
    return frozenset(item.name for item in parameters if "list" in str(item.annotation).lower())
