"""A module as a tree of plain values: what a definition in YAML says, with marks where something can't be said."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from builder.importer.forward import Keyword, Printer, defaults_of
from builder.importer.layers import Unsayable, layer_node, registered
from builder.importer.tensors import buffer, parameter
from builder.importer.trace import UNKNOWN, Call, bound, trace
from builder.lang.names import MODULE_API, name_problem
from builder.registry import functions

MARK = "CANT_BE_SAID"
"""What stands in a `forward` that couldn't be translated; it is no name of the language, so that it is refused."""


@dataclass(slots=True)
class Described:
    """A definition that was found: its class, what it says, and whether all of it could be said."""

    kind: str
    raw: dict[str, Any]


@dataclass(slots=True)
class Describer:
    """Describes one model. `marks` are the places that can't be said, and why; `notes` what was taken for granted."""

    model: nn.Module
    marks: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    done: dict[int, str] = field(default_factory=dict)

    def definition(self, module: nn.Module, path: str, call: Call | None) -> Described:
        """The definition of a module with a forward of its own, called so; without a call nothing calls it."""
        raw: dict[str, Any] = {}
        try:
            raw |= self._tensors(module, path)
        except Unsayable as error:
            self._mark(path, str(error))
        calls, forward, inputs = self._forward(module, path, call)
        if inputs not in ([], ["x"]):
            raw = {"inputs": inputs, **raw}
        layers = {
            name: self.node(child, f"{path}.{name}" if path else name, calls.get(name), calls)
            for name, child in module.named_children()
        }
        if call is not None and MARK not in forward:
            layers = {name: node if _is_used(name, forward) else _unused(node) for name, node in layers.items()}
        for name in layers:
            if name in MODULE_API or not name.isprintable():
                self._mark(f"{path}.{name}", f"no layer can be called {name!r}")
        raw |= {"layers": layers} if layers else {}
        return Described(type(module).__name__, raw | {"forward": forward})

    def node(self, module: nn.Module, path: str, call: Call | None, calls: Mapping[str, Call]) -> Any:
        """A module as an entry of `layers`."""
        if id(module) in self.done:
            self._mark(path, f"it is the same module as {self.done[id(module)]}")
        self.done[id(module)] = path
        name = registered(module)
        if name is not None:
            return self._layer(module, path, name)
        kind = _container(module)
        below = {key: self._call_below(module, key, call, calls, path) for key, _ in module.named_children()}
        if kind is None and call is None and dict(module.named_children()) and not _own(module):
            kind = "ModuleDict" if not any(key.isdigit() for key, _ in module.named_children()) else None
        if kind is not None:
            return self._container(module, path, kind, below)
        return self.definition(module, path, call)

    def _layer(self, module: nn.Module, path: str, name: str) -> Any:
        try:
            return layer_node(module, name)
        except Unsayable as error:
            self._mark(path, str(error))
            return {"type": f"{MARK}_{type(module).__name__}"}

    def _container(self, module: nn.Module, path: str, kind: str, below: Mapping[str, Call | None]) -> Any:
        children = {
            key: self.node(child, f"{path}.{key}", below[key], _inside(below, key))
            for key, child in module.named_children()
        }
        numbered = kind != "ModuleDict" and list(children) == [str(index) for index in range(len(children))]
        return {"type": kind, "layers": list(children.values()) if numbered else children}

    def _call_below(
        self, module: nn.Module, key: str, call: Call | None, calls: Mapping[str, Call], path: str
    ) -> Call | None:
        """How a child of a container is called: in a Sequential with what the one before gives, else by name."""
        if type(module).forward is nn.Sequential.forward and isinstance(module, nn.Sequential) and call is not None:
            value: Any = next(iter(call.inputs.values()), UNKNOWN)
            for name, child in module.named_children():
                if name == key:
                    return Call({_first(child): value})
                with torch.no_grad():
                    value = UNKNOWN if value is UNKNOWN else child(value)
        name = path.rpartition(".")[2]
        return calls.get(f"{name}.{key}") or calls.get(f"{path}.{key}")

    def _tensors(self, module: nn.Module, path: str) -> dict[str, Any]:
        raw: dict[str, Any] = {}
        parameters = {name: parameter(value) for name, value in module._parameters.items() if value is not None}
        unsaved = module._non_persistent_buffers_set
        buffers = {name: buffer(value, name not in unsaved) for name, value in module._buffers.items()
                   if value is not None}  # fmt: skip
        for name in (*parameters, *buffers):
            problem = name_problem(name, attribute=False)
            if problem is not None or name in MODULE_API:
                self._mark(path, f"no tensor can be called {name!r}")
        return raw | ({"parameters": parameters} if parameters else {}) | ({"buffers": buffers} if buffers else {})

    def _forward(self, module: nn.Module, path: str, call: Call | None) -> tuple[dict[str, Call], str, list[str]]:
        """How the modules below are called, the text of `forward`, and the names of its inputs."""
        call = call or _guessed(module)
        inputs = self._input_names(module, call)
        try:
            graph = trace(module.eval(), call)
            calls, nodes = self._calls(module, graph)
            text = self._printed(module, graph, call, inputs, nodes)
        except Unsayable as error:
            self._mark(path, str(error))
            said = " ".join(str(error).split())
            return {}, f"# {said}\nreturn {MARK}({', '.join(inputs)})", list(inputs)
        return calls, text, list(inputs)

    def _input_names(self, module: nn.Module, call: Call) -> list[str]:
        own = {name for name, _ in module.named_children()} | set(module._parameters) | set(module._buffers)
        names: list[str] = []
        for index, name in enumerate(call.inputs):
            usable = name not in own and name_problem(name) is None and name not in ("i", "data")
            fresh = ("x" if not index else f"x{index}") if "x" not in own else f"input{index}"
            names.append(name if usable else fresh)
        return ["x"] if len(names) == 1 and "x" not in own and module is not self.model else names

    def _calls(self, module: nn.Module, graph: fx.Graph) -> tuple[dict[str, Call], dict[fx.Node, list[Any]]]:
        """The call of each module below, and the nodes that each step gives it.

        Raises:
            Unsayable: one is called in different ways.
        """
        calls: dict[str, Call] = {}
        nodes: dict[fx.Node, list[Any]] = {}
        for node in graph.nodes:
            if node.op != "call_module":
                continue
            target = str(node.target)
            child = module.get_submodule(target)
            if registered(child) is not None:
                nodes[node] = []
                calls.setdefault(target, Call({}))
                continue
            call, taken = bound(child, node.args, node.kwargs)
            before = calls.get(target)
            if before is not None and list(before.inputs) != list(call.inputs):
                raise Unsayable(f"{target} is called in different ways")
            calls.setdefault(target, call)
            nodes[node] = taken
        return calls, nodes

    def _printed(
        self, module: nn.Module, graph: fx.Graph, call: Call, inputs: list[str], nodes: Mapping[fx.Node, list[Any]]
    ) -> str:
        trained = self._trained(module, graph, call)
        own = [name for name, _ in module.named_children()]
        tensors = [*module._parameters, *module._buffers]
        taken = {*own, *tensors, *inputs, *functions, "training", "data", "i"}
        printer = Printer(
            graph, trained, lambda path: path_of(module, path), dict(zip(call.inputs, inputs, strict=True)), taken,
            {*own, *tensors, *inputs}, _taken(module),
        )  # fmt: skip
        return printer.text()

    def _trained(self, module: nn.Module, graph: fx.Graph, call: Call) -> fx.Graph | None:
        """The same steps in train mode; None where these are others, which is noted."""
        state = {key: value.clone() for key, value in module.state_dict().items()}
        try:
            with torch.random.fork_rng(devices=[]):
                found = trace(module.train(), call)
        except Unsayable:
            return None
        finally:
            module.eval()
            module.load_state_dict(state)
        ours, theirs = ([(node.op, node.target, len(node.args)) for node in one.nodes] for one in (graph, found))
        if ours == theirs:
            return found
        self.notes.append(f"{type(module).__name__} does something else in training; its forward is that of evaluation")
        return None

    def _mark(self, path: str, why: str) -> None:
        self.marks.setdefault(path or "the model", why)


def _taken(module: nn.Module) -> Any:
    """For a step that calls a module: what it gives it, in the order of the definition's inputs."""

    def arguments(node: fx.Node) -> list[Any]:
        child = module.get_submodule(str(node.target))
        if registered(child) is None:
            return bound(child, node.args, node.kwargs)[1]
        names = list(inspect.signature(type(child).forward).parameters)[1:]
        given = [*node.args]
        for name in names[len(given) :]:
            if name not in node.kwargs:
                break
            given.append(node.kwargs[name])
        defaults = defaults_of(type(child).forward)
        while given and len(given) > len(node.args) and given[-1] is defaults.get(names[len(given) - 1], inspect):
            given.pop()
        left = {
            key: value
            for key, value in node.kwargs.items()
            if key not in names[: len(given)] and value is not defaults.get(key, inspect)
        }
        return [*given, *(Keyword(key, value) for key, value in left.items())]

    return arguments


def _container(module: nn.Module) -> str | None:
    """The container that a module is, whatever its class is called."""
    if _own(module):
        return None
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        return "Sequential"
    if isinstance(module, nn.ModuleList) and type(module).forward is nn.Module.forward:
        return "ModuleList"
    return "ModuleDict" if isinstance(module, nn.ModuleDict) and type(module).forward is nn.Module.forward else None


def _is_used(name: str, forward: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", forward) is not None


def _unused(node: Any) -> Any:
    """A layer that no forward calls."""
    if isinstance(node, Described):
        return node
    return {**({"type": node} if isinstance(node, str) else node), "unused": True}


def _own(module: nn.Module) -> bool:
    """Whether it has tensors of its own."""
    tensors = (*module._parameters.values(), *module._buffers.values())
    return any(tensor is not None for tensor in tensors)


def _inside(below: Mapping[str, Call | None], key: str) -> dict[str, Call]:
    return {name: call for name, call in below.items() if call is not None and name == key}


def _first(module: nn.Module) -> str:
    names = list(inspect.signature(type(module).forward).parameters)[1:]
    return names[0] if names else "x"


def _guessed(module: nn.Module) -> Call:
    """The call of a module that nothing calls: what has no default is computed."""
    parameters = list(inspect.signature(type(module).forward).parameters.values())[1:]
    required = [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    return Call(dict.fromkeys(required, UNKNOWN))


def path_of(module: nn.Module, path: str) -> str:
    """How `forward` names what lies at a path: `trunk[0].conv`, `heads["classes"]`.

    Raises:
        Unsayable: a name in it is none of Python's.
    """
    text, here = "", module
    for key in path.split("."):
        kind = _container(here) if text else None
        if (
            kind is None
            and text
            and not _own(here)
            and registered(here) is None
            and not key.isdigit()
            and (type(here).forward is nn.Module.forward)
        ):
            kind = "ModuleDict"
        if kind == "ModuleDict":
            text += f'["{key}"]'
        elif key.isdigit() and text:
            text += f"[{key}]"
        elif not key.isidentifier():
            raise Unsayable(f"{key!r} is no name of Python's")
        else:
            text += f".{key}" if text else key
        here = getattr(here, key) if not isinstance(here, torch.Tensor) else here
    return text
