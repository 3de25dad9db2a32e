"""Tree → `nn.Module`: makes the layers in the order in which they are written, as a hand-written constructor does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from builder import registry
from builder.catalog.arguments import check_arguments
from builder.errors import ConfigError, Fault, nearest
from builder.lang.formula import Formula
from builder.lang.syntax import LangError
from builder.model.classes import DefinedModule, class_of
from builder.model.recall import Recall
from builder.model.scope import evaluate
from builder.model.sizes import infer_sizes, inferable
from builder.model.spec import Definition, Node, Place, TensorSpec, Value

MAX_MODULES = 100_000
"""Modules that one model may have; more is a mistake or an attack."""

Names = Mapping[str, Any]
"""What formulas see: arguments, `i`, `data`."""

Sizes = dict[str, dict[str, Any]]
"""Module path → the constructor arguments that were left out, with their values."""


class Refused(Exception):
    """A part can't be made; its fault is in the maker's list already."""


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
    count: int = 0
    """Modules made so far."""

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
        nn.Module.__init__(module)
        # Plain values: past nn.Module.__setattr__, which would look for parameters in each.
        module.__dict__.update((name, names[name]) for name in (*definition.args, *sorted(definition.outer_args)))
        refused = False
        for section in definition.sections:
            try:
                if section == "layers":
                    self._children(module, definition.layers, names, path, definition.numbered)
                else:
                    for spec in definition.parameters if section == "parameters" else definition.buffers:
                        self._tensor(module, spec, names)
            except Refused:
                refused = True
        if refused:
            raise Refused
        for target, source, place in definition.tie:
            self._tie(module, target, source, place)
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
            names[name] = given[name] if name in given else self._value(argument.default, argument.place, names)
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
                if self._wanted(node, names):
                    if hasattr(parent, name) and name not in parent._modules:
                        owner = "nn.Sequential" if isinstance(parent, nn.Sequential) else "nn.Module"
                        self._refuse(node.place, f"{name!r} can't be the name of a layer: every {owner} has it already")
                    parent.add_module(name, self._node(node, names, f"{path}.{name}" if path else name))
                elif isinstance(parent, DefinedModule) and not isinstance(parent, nn.Sequential):
                    parent.add_module(name, None)
            except Refused:
                refused = True
        if refused:
            raise Refused

    def _wanted(self, node: Node, names: Names) -> bool:
        """Whether the condition holds on which a layer is made."""
        wanted = self._value(node.when, node.place, names)
        if not isinstance(wanted, bool):
            self._refuse(node.place, "'when' is true or false", found=wanted, expected="a condition, `=stride != 1`")
        return bool(wanted)

    def _node(self, node: Node, names: Names, path: str) -> nn.Module:
        self.count += 1
        if self.count > MAX_MODULES:
            place = node.place
            raise ConfigError(Fault(f"the model has more than {MAX_MODULES:,} modules", place.path, place.origin))
        if self.exploring:
            self.nodes[path] = node
        if node.kind == "layer":
            return self.layer(node, names, path)
        if node.definition is not None:
            given = {key: self._value(value, node.argument_places[key], names) for key, value in node.arguments.items()}
            outer = names if node.kind == "definition" else {"data": self.data} if node.definition.sees_data else {}
            if self.recall is not None:
                return Sketched(self, node.definition, given, outer, path)
            return self._definition(node.definition, given, outer, path)
        return self._container(node, names, path)

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
        count = self._value(node.repeat, node.place, names)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_MODULES:
            self._refuse(
                node.place, "'repeat' counts copies", found=count, expected=f"a number from 0 to {MAX_MODULES}"
            )
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
            module: nn.Module = node.target(**arguments)
        except Exception as error:  # the constructor of any layer, a user's among them
            if not self.exploring:
                raise
            self._refuse(node.place, f"{node.type} refuses its arguments: {_first_line(error)}", found=arguments)
        return module

    def _argument(self, node: Node, key: str, names: Names, path: str, inputs: tuple[Any, ...] | None) -> Any:
        """A constructor's argument; a layer that is one gets the inputs of the layer that it is given to."""
        assert node.target is not None
        value = node.arguments[key]
        if not isinstance(value, Node):
            return _as_written_by_hand(node.target, key, self._value(value, node.argument_places[key], names))
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

    def _tensor(self, module: nn.Module, spec: TensorSpec, names: Names) -> None:
        if spec.value is not None:
            functions = {name: registry.functions.get(name) for name in spec.value.functions}
            try:
                tensor = torch.as_tensor(spec.value.bind(functions, guarded=self.exploring)(names))
            except Exception as error:  # whatever the expression's functions raise
                self._refuse(spec.place, f"the value of buffer {spec.name!r} can't be computed: {_first_line(error)}")
        else:
            tensor = self._initialised(spec, names)
        if spec.dtype is not None:
            tensor = tensor.to(getattr(torch, spec.dtype))
        if spec.role == "parameter":
            module.register_parameter(spec.name, nn.Parameter(tensor, requires_grad=spec.requires_grad))
        else:
            module.register_buffer(spec.name, tensor, persistent=spec.persistent)

    def _initialised(self, spec: TensorSpec, names: Names) -> torch.Tensor:
        shape = self._value(spec.shape, spec.place, names)
        if not isinstance(shape, list | tuple) or not all(type(size) is int and size >= 0 for size in shape):
            self._refuse(spec.place, f"the shape of {spec.role} {spec.name!r} is not a list of sizes", found=shape)
        dtype = None if spec.dtype is None else getattr(torch, spec.dtype)
        try:
            tensor = torch.zeros(shape, dtype=dtype) if spec.init is None else torch.empty(shape, dtype=dtype)
        except (TypeError, RuntimeError) as error:  # too large a size, or all of them together
            self._refuse(spec.place, f"{spec.role} {spec.name!r} can't be made: {_first_line(error)}", found=shape)
        if spec.init is not None:
            arguments = {key: self._value(value, spec.place, names) for key, value in spec.init_arguments.items()}
            try:
                registry.initialisers.get(spec.init)(tensor, **arguments)
            except (TypeError, ValueError, RuntimeError) as error:
                self._refuse(
                    spec.place, f"{spec.init} can't initialise {spec.role} {spec.name!r}: {_first_line(error)}"
                )
        return tensor

    def _tie(self, module: nn.Module, target: str, source: str, place: Place) -> None:
        """Let the parameter `target` be the parameter `source`; either may be missing by a typing error."""
        known = dict(module.named_parameters(remove_duplicate=False))
        pending = any(isinstance(part, Pending) for part in module.modules())
        for name in (source, target):
            if name not in known and not pending:
                self._refuse(place, f"no parameter {name!r} to tie", nearest=nearest(name, known))
        if source not in known or target.rpartition(".")[0] not in dict(module.named_modules()):
            return
        owner, _, leaf = target.rpartition(".")
        parent = module.get_submodule(owner)
        if not isinstance(parent, Pending) and leaf in parent._parameters:
            setattr(parent, leaf, known[source])

    def tie_again(self, model: nn.Module) -> None:
        """Tie the parameters of layers that were pending when their definition was made."""
        for path, definition in self.made.items():
            for target, source, place in definition.tie:
                self._tie(model.get_submodule(path), target, source, place)

    def _value(self, value: Value, place: Place, names: Names) -> Any:
        try:
            return evaluate(value, names)
        except LangError as error:
            text = f"={value.text}" if isinstance(value, Formula) else str(value)
            self.faults.append(error.fault(text, place.origin, place.path))
            raise Refused from None

    def _refuse(self, place: Place, message: str, **details: Any) -> Any:
        self.faults.append(Fault(message, place.path, place.origin, **details))
        raise Refused


class Pending(nn.Module):
    """A layer whose sizes are not known yet. Its first call finds them, makes the layer and runs that."""

    def __init__(self, maker: Maker, node: Node, names: Names, path: str) -> None:
        super().__init__()
        self._maker, self._node, self._names, self._path = maker, node, names, path
        self._made: tuple[nn.Module, ...] = ()  # in a tuple, so that it is no submodule

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer, made to fit these inputs.

        Raises:
            Refused: inputs of another run gave other sizes; they are noted as guessed.
        """
        inputs = (*args, *kwargs.values())
        maker, path = self._maker, self._path
        if path in maker.sizes and self._node.target is not None:
            sizes = maker.sizes[path]
            again = infer_sizes(self._node.target, set(sizes), inputs)
            if again != sizes:
                maker.guessed[path] = tuple(name for name in sizes if sizes[name] != again[name])
                raise Refused
        return self.made(inputs)(*args, **kwargs)

    def made(self, inputs: tuple[Any, ...] | None = None) -> nn.Module:
        """The layer itself, made when it is first asked for.

        Raises:
            Refused: its class refuses the arguments.
        """
        if not self._made:
            self._made = (self._maker.layer(self._node, self._names, self._path, inputs),)
        return self._made[0]

    @property
    def layer(self) -> nn.Module | None:
        """The layer itself, if it was made."""
        return self._made[0] if self._made else None

    @property
    def idle(self) -> bool:
        """Whether it was neither called nor is equal to one that was."""
        return not self._made and self._path not in self._maker.sizes


class Sketched(nn.Module):
    """A block that stands for its kind: made only when it is called with inputs for which no equal block has run."""

    def __init__(self, maker: Maker, definition: Definition, given: Names, outer: Names, path: str) -> None:
        super().__init__()
        self._maker, self._path = maker, path
        self._key = key_of(definition, maker.names(definition, given, outer))
        self._make = partial(maker.definition, definition, given, outer, path)
        self._made: tuple[nn.Module, ...] = ()
        self._called = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the block gives, or an equal one gave."""
        self.__dict__["_called"] = True
        assert self._maker.recall is not None
        return self._maker.recall.call(self._path, self._key, self._run, *args, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        return self.made()(*args, **kwargs)

    def made(self) -> nn.Module:
        """The block itself."""
        if not self._made:
            self.__dict__["_made"] = (self._make(),)
        return self._made[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.made(), name)

    @property
    def untouched(self) -> bool:
        """Whether something in the block may lack sizes: it was never called, or parts of it were not."""
        return not self._called or any(untouched(module) for module in self._made)


def untouched(model: nn.Module) -> bool:
    """Whether a sketch leaves open if all sizes are known."""
    return bool(idle(model)) or any(part.untouched for part in model.modules() if isinstance(part, Sketched))


def key_of(definition: Definition, names: Names) -> tuple[Any, ...]:
    """What decides all shapes inside an instance of a definition, besides those of its inputs."""
    return id(definition), repr([(name, value) for name, value in names.items() if name != "data"])


def idle(model: nn.Module) -> list[str]:
    """The paths of the layers whose sizes are still not known."""
    return [path for path, module in model.named_modules() if isinstance(module, Pending) and module.idle]


def settle(model: nn.Module) -> None:
    """Put made layers in the place of the pending ones, all of whose sizes are known."""
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            if isinstance(child, Pending):
                module._modules[name] = child.made()


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


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
