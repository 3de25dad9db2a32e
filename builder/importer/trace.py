"""What a module's `forward` does, as a graph in which the modules that it holds are single steps.

Proxies carry the values of an example where there is one, so that a `forward` may ask for shapes and types. What a
value of a tensor decides is no graph, and refused.
"""

from __future__ import annotations

import contextlib
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from builder.importer.layers import Unsayable

UNKNOWN = object()
"""The value of a proxy of which there is no example."""

FACTORIES = (
    "arange", "zeros", "ones", "full", "eye", "empty", "linspace", "tril", "triu", "rand", "randn", "zeros_like",
    "ones_like", "full_like", "rand_like", "randn_like",
)  # fmt: skip
"""Functions of torch that make tensors: they are steps too, though no tensor goes in."""


SETTLED = ("is_nested", "requires_grad", "is_cuda", "is_sparse", "is_quantized", "layout", "is_meta", "names", "ndim")
"""Attributes of a tensor that are taken for granted as the example has them."""


@dataclass(frozen=True, slots=True)
class Call:
    """How a module was called: the inputs that are computed, by the names of its `forward`, and the other arguments."""

    inputs: Mapping[str, Any]
    constants: Mapping[str, Any] = field(default_factory=dict)


class ValueProxy(fx.Proxy):
    """A proxy that knows the value of an example."""

    @property
    def value(self) -> Any:
        """The example's value, or `UNKNOWN`."""
        return self.node.meta.get("value", UNKNOWN)

    def __getattr__(self, name: str) -> Any:
        value = self.node.meta.get("value", UNKNOWN)
        if name in SETTLED and isinstance(value, torch.Tensor):
            return getattr(value, name)
        if isinstance(value, Mapping) and name in vars(value):  # a field of a result
            return None if getattr(value, name) is None else self[name]
        return _Attribute(self, name)

    def __getitem__(self, key: Any) -> Any:
        value = self.node.meta.get("value", UNKNOWN)
        if isinstance(value, Mapping) and not isinstance(key, str):  # of a result by number, as if it were a tuple
            names = [name for name, item in value.items() if item is not None]
            return self[names[key]] if isinstance(key, int) else tuple(self[name] for name in names[key])
        return self.tracer.create_proxy("call_function", operator.getitem, (self, key), {})

    def _plain(self) -> Any:
        if self.value is UNKNOWN or isinstance(self.value, torch.Tensor):
            raise Unsayable(
                "its forward asks for the value of a tensor, or for a shape without an example of the input"
            )
        return self.value

    def __len__(self) -> int:
        value = self.value
        if value is UNKNOWN:
            raise Unsayable("its forward asks for a length, which needs an example of the input")
        return len(value)

    def __index__(self) -> int:
        return int(self._plain())

    def __int__(self) -> int:
        return int(self._plain())

    def __float__(self) -> float:
        return float(self._plain())

    def __hash__(self) -> int:
        return id(self)


class _Attribute(ValueProxy):
    """An attribute of a proxy: a method if it is called, else a step of its own once it is used."""

    def __init__(self, root: ValueProxy, name: str) -> None:
        self.root, self.attr, self.tracer = root, name, root.tracer
        self._node: fx.Node | None = None

    @property
    def node(self) -> fx.Node:  # type: ignore[override]
        """The step that asks for it."""
        if self._node is None:
            self._node = self.tracer.create_proxy("call_function", getattr, (self.root, self.attr), {}).node
        return self._node

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.tracer.create_proxy("call_method", self.attr, (self.root, *args), kwargs)


class _Tracer(fx.Tracer):
    """Records the steps of one `forward`."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.root = root
        self.graph = fx.Graph(tracer_cls=type(self))
        self.tensor_attrs = {}
        self.paths = {id(module): path for path, module in root.named_modules(remove_duplicate=True) if path}
        self.tensors = {
            id(tensor): name for name, tensor in (*root.named_parameters(remove_duplicate=True), *root.named_buffers())
        }

    def proxy(self, node: fx.Node) -> ValueProxy:
        return ValueProxy(node, self)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> Any:
        made = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        if kind not in ("placeholder", "output"):
            made.node.meta["value"] = self._computed(kind, target, args, kwargs)
        return made

    def create_arg(self, a: Any) -> Any:
        if issubclass(type(a), fx.Proxy):
            return a.node
        if isinstance(a, torch.Tensor):
            if id(a) in self.tensors:
                return self.create_node("get_attr", self.tensors[id(a)], (), {})
            if a.numel() == 1:
                return a.item()
            raise Unsayable("its forward uses a tensor that is neither a parameter nor a buffer")
        if isinstance(a, torch.device | torch.dtype) or a is None or isinstance(a, str):
            return a
        return super().create_arg(a)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(obj._plain()) if issubclass(type(obj), ValueProxy) else super().to_bool(obj)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        value = obj.node.meta.get("value", UNKNOWN)
        items: Any = obj
        return super().iter(obj) if value is UNKNOWN else iter([items[index] for index in range(len(value))])

    def _computed(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        found = _values((args, kwargs))
        if found is UNKNOWN:
            return UNKNOWN
        args, kwargs = found
        with _untraced(), torch.no_grad():
            if kind == "get_attr":
                return _attribute(self.root, target)
            if kind == "call_module":
                return self.root.get_submodule(target)(*args, **kwargs)
            if kind == "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)
            return target(*args, **kwargs)


def _values(value: Any) -> Any:
    """The example's values in place of proxies; `UNKNOWN` if one has none."""
    if issubclass(type(value), ValueProxy):
        return value.value
    if isinstance(value, tuple | list):
        items = [_values(item) for item in value]
        return UNKNOWN if any(item is UNKNOWN for item in items) else type(value)(items)
    if isinstance(value, dict):
        found = {key: _values(item) for key, item in value.items()}
        return UNKNOWN if any(item is UNKNOWN for item in found.values()) else found
    if isinstance(value, slice):
        parts = [_values(part) for part in (value.start, value.stop, value.step)]
        return UNKNOWN if any(part is UNKNOWN for part in parts) else slice(*parts)
    return value


def _attribute(root: nn.Module, name: str) -> Any:
    path, _, leaf = name.rpartition(".")
    return getattr(root.get_submodule(path), leaf)


_active: list[_Tracer] = []


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    held = _active[:]
    _active.clear()
    try:
        yield
    finally:
        _active[:] = held


@contextlib.contextmanager
def _tracing(tracer: _Tracer) -> Iterator[None]:
    """Calls of the modules below the root, their tensors, and functions that make tensors become steps."""
    call, get = nn.Module.__call__, nn.Module.__getattr__

    def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not _active or id(module) not in _active[-1].paths:
            return call(module, *args, **kwargs)
        return _active[-1].create_proxy("call_module", _active[-1].paths[id(module)], args, kwargs)

    def gotten(module: nn.Module, name: str) -> Any:
        value = get(module, name)
        if _active and isinstance(value, torch.Tensor) and id(value) in _active[-1].tensors:
            return _active[-1].create_proxy("get_attr", _active[-1].tensors[id(value)], (), {})
        return value

    def recorded(function: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **kwargs: Any) -> Any:
            if not _active:
                return function(*args, **kwargs)
            return _active[-1].create_proxy("call_function", function, args, kwargs)

        return made

    kept = {name: getattr(torch, name) for name in FACTORIES}
    nn.Module.__call__, nn.Module.__getattr__ = called, gotten  # type: ignore[method-assign]
    for name, function in kept.items():
        setattr(torch, name, recorded(function))
    _active.append(tracer)
    try:
        yield
    finally:
        _active.pop()
        nn.Module.__call__, nn.Module.__getattr__ = call, get  # type: ignore[method-assign]
        for name, function in kept.items():
            setattr(torch, name, function)


def trace(module: nn.Module, call: Call) -> fx.Graph:
    """The graph of a module's `forward`, called so.

    Raises:
        Unsayable: it can't be traced.
    """
    tracer = _Tracer(module)
    given: dict[str, Any] = {}
    try:
        with _tracing(tracer):
            for name, value in call.inputs.items():
                given[name] = tracer.create_proxy("placeholder", name, (), {})
                given[name].node.meta["value"] = value
            output = type(module).forward(module, **given, **call.constants)
            tracer.create_node("output", "output", (tracer.create_arg(_plain_output(output)),), {})
    except Unsayable:
        raise
    except Exception as error:  # a forward raises what it likes where it meets a proxy
        said = str(error).strip().splitlines() or [""]
        raise Unsayable(f"its forward can't be traced: {type(error).__name__}: {said[0][:160]}") from None
    tracer.graph.eliminate_dead_code(lambda node: node.op in ("output", "placeholder", "call_module") or _acts(node))
    return tracer.graph


def _acts(node: fx.Node) -> bool:
    """Whether a step changes something in place."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op == "call_method" and name.endswith("_") and not name.endswith("__")


def _plain_output(output: Any) -> Any:
    """An output whose mappings are plain ones: the fields of a result that are there."""
    if isinstance(output, Mapping):
        return {str(key): _plain_output(item) for key, item in output.items() if item is not None}
    return output


def bound(module: nn.Module, args: Any, kwargs: Any) -> tuple[Call, list[Any]]:
    """How a step calls a module: its inputs by the names of `forward`, and the nodes that they are, in that order.

    Raises:
        Unsayable: an argument is neither computed nor plain, or a `forward` takes any number.
    """
    signature = inspect.signature(type(module).forward)
    parameters = list(signature.parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        signature = None  # type: ignore[assignment]
    if signature is None:
        names = [f"x{index}" if index else "x" for index in range(len(args))]
        return Call({name: _value(arg) for name, arg in zip(names, args, strict=True)}), list(args)
    given = signature.bind(None, *args, **kwargs).arguments
    given.pop("self", None)
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            given.update(given.pop(parameter.name, {}))
    inputs = {name: arg for name, arg in given.items() if _holds_node(arg)}
    constants = {name: arg for name, arg in given.items() if name not in inputs}
    return Call({name: _value(arg) for name, arg in inputs.items()}, constants), list(inputs.values())


def _holds_node(arg: Any) -> bool:
    if isinstance(arg, tuple | list):
        return any(_holds_node(item) for item in arg)
    return isinstance(arg, fx.Node)


def _value(arg: Any) -> Any:
    if isinstance(arg, fx.Node):
        return arg.meta.get("value", UNKNOWN)
    if isinstance(arg, tuple | list):
        items = [_value(item) for item in arg]
        return UNKNOWN if any(item is UNKNOWN for item in items) else type(arg)(items)
    return arg
