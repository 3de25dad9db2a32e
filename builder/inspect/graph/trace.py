"""Notes what flows where while a model runs on the meta device: calls of modules inside each other, functions, tensors.

A level is what happens inside one call of a module. A tensor that comes from outside enters a level by a port of its
first item, `entry`, and leaves it by one of its last, `exit`, so that each level can be drawn by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from builder.model.record import Call, Shape, shapes, tensors

Kind = Literal["entry", "exit", "module", "function", "tensor"]

Port = tuple[int, int]
"""An item of a level by its index, and which of the tensors that it gives or takes."""


@dataclass(slots=True)
class Item:
    """One thing in a level: a call of a module or of a function, a parameter, or where tensors enter and leave.

    `key` is the same in every run of the model that goes the same way; `shapes` are those of the tensors that it gives.
    """

    kind: Kind
    key: str
    name: str
    path: str = ""
    module: nn.Module | None = None
    shapes: list[Shape] = field(default_factory=list)
    inside: Level | None = None


@dataclass(slots=True)
class Level:
    """What happened in one call of a module: items in the order in which they ran, and what flowed between them."""

    items: list[Item] = field(default_factory=list)
    edges: dict[tuple[Port, int], int] = field(default_factory=dict)
    """From which port into which item, and which of the tensors there it is."""


@dataclass(slots=True)
class _Frame:
    """A call that is running: its level, and where in it each tensor came from by identity."""

    path: str
    level: Level
    parent: _Frame | None = None
    index: int = -1
    """Of the call among its parent's items."""
    givers: dict[int, Port] = field(default_factory=dict)


class Tracer:
    """Notes a run of `model`, to be given to `rerun`; `inputs` are the names of what the model is called with.

    Attributes:
        root: the level of the model's own call, once it ran.
    """

    def __init__(self, model: nn.Module, inputs: Sequence[str]) -> None:
        self.model, self.inputs = model, tuple(inputs)
        self.root = Level()
        self.inputs_named: list[str] = []
        self.outputs_named: list[str] = []
        self._owned = {id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())}
        self._frames: list[_Frame] = []
        self._alive: list[Tensor] = []  # so that no two tensors share an identity
        self._count = 0
        self._quiet = False
        self._stack = ExitStack()

    def __enter__(self) -> Tracer:
        self._stack.enter_context(_Functions(self))
        for path, module in self.model.named_modules():
            for handle in self._hooked(path, module):
                self._stack.callback(handle.remove)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def enter(self, path: str) -> None:
        """Nothing: the tracer's own hooks are given the tensors."""

    def leave(self, path: str) -> None:
        """Nothing: the tracer's own hooks are given the tensors."""

    def calls(self) -> dict[str, Call]:
        """Each item of the run by its key, as a call of which the outputs are known."""
        return {item.key: Call(item.key, (), tuple(item.shapes)) for item in _items(self.root)}

    def _hooked(self, path: str, module: nn.Module) -> Iterator[Any]:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._begin(path, module, args, kwargs)

        def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            return self._end(path, module, output)

        yield module.register_forward_pre_hook(enter, with_kwargs=True)
        yield module.register_forward_hook(leave, with_kwargs=True)

    def _begin(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = tensors((args, kwargs))
        self._alive.extend(given)
        if not self._frames:
            self.root = Level()
            frame = _Frame(path, self.root)
            self.inputs_named = [name for name, _ in named_tensors(dict(zip(self.inputs, args, strict=False)))]
        else:
            parent = self._frames[-1]
            item = self._add(parent, Item("module", "", _below(path, parent.path), path, module, inside=Level()))
            assert item.inside is not None
            frame = _Frame(path, item.inside, parent, len(parent.level.items) - 1)
            for index, tensor in enumerate(given):
                self._join(parent, tensor, (frame.index, index))
        entry = self._add(frame, Item("entry", "", ""))
        for index, tensor in enumerate(given):
            frame.givers.setdefault(id(tensor), (0, index))
            entry.shapes.append(tuple(tensor.shape))
        self._frames.append(frame)

    def _end(self, path: str, module: nn.Module, output: Any) -> Any:
        frame = self._frames.pop()
        output, changed = self._own(frame, output)
        given = tensors(output)
        self._alive.extend(given)
        self._add(frame, Item("exit", "", ""))
        for index, tensor in enumerate(given):
            self._join(frame, tensor, (len(frame.level.items) - 1, index))
        if frame.parent is None:
            self.outputs_named = [name for name, _ in named_tensors(output)]
            return None
        item = frame.parent.level.items[frame.index]
        item.shapes.extend(shapes(output))
        if _is_closed(module, frame.level):
            item.inside = None
        for index, tensor in enumerate(given):
            frame.parent.givers[id(tensor)] = (frame.index, index)
        return output if changed else None

    def _own(self, frame: _Frame, output: Any) -> tuple[Any, bool]:
        """An output that is an input unchanged as a tensor of its own, so that it is told apart from that one."""
        port = frame.givers.get(id(output))
        if not isinstance(output, Tensor) or frame.parent is None or port is None or port[0] != 0:
            return output, False
        self._quiet = True
        alias = output.view(output.shape)
        self._quiet = False
        self._alive.append(alias)
        frame.givers[id(alias)] = port
        return alias, True

    def function(self, func: Callable[..., Any], given: Any, output: Any) -> None:
        """Note a call of a function of PyTorch, if tensors come out of it."""
        if not self._frames or self._quiet:
            return
        frame, made = self._frames[-1], tensors(output)
        taken = tensors(given)
        name = _function_name(func)
        if not made or (not _is_in_place(func) and {id(tensor) for tensor in made} <= {id(tensor) for tensor in taken}):
            return
        self._alive.extend((*taken, *made))
        item = Item("function", "", name, shapes=[tuple(tensor.shape) for tensor in made])
        sources = [self._giver(frame, tensor) for tensor in taken]  # parameters become items before it
        self._add(frame, item)
        index = len(frame.level.items) - 1
        for at, source in enumerate(sources):
            if source is not None:
                _connect(frame.level, source, (index, at))
        for port, tensor in enumerate(made):
            frame.givers[id(tensor)] = (index, port)

    def _join(self, frame: _Frame, tensor: Tensor, target: Port) -> None:
        source = self._giver(frame, tensor)
        if source is not None:
            _connect(frame.level, source, target)

    def _giver(self, frame: _Frame, tensor: Tensor) -> Port | None:
        """Where in a frame's level a tensor comes from; it enters by a port of its own if that is further out."""
        known = frame.givers.get(id(tensor))
        if known is not None:
            return known
        if id(tensor) in self._owned:
            name = _below(self._owned[id(tensor)], frame.path)
            self._add(frame, Item("tensor", "", name, self._owned[id(tensor)], shapes=[tuple(tensor.shape)]))
            found: Port = (len(frame.level.items) - 1, 0)
        else:
            outer = None if frame.parent is None else self._giver(frame.parent, tensor)
            if outer is None or frame.parent is None:
                return None
            entry = frame.level.items[0]
            found = (0, len(entry.shapes))
            entry.shapes.append(tuple(tensor.shape))
            _connect(frame.parent.level, outer, (frame.index, found[1]))
        frame.givers[id(tensor)] = found
        return found

    def _add(self, frame: _Frame, item: Item) -> Item:
        item.key = f"{self._count}:{item.kind}:{item.path or item.name}"
        self._count += 1
        frame.level.items.append(item)
        return item


class _Functions(TorchFunctionMode):
    """Tells a tracer of each call of a function of PyTorch."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call, and tell."""
        output = func(*args, **(kwargs or {}))
        self.tracer.function(func, (args, dict(kwargs or {})), output)
        return output


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in a value, in the order of `tensors`, each with the keys and numbers that lead to it."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from named_tensors(item, f"{name}.{key}" if name else str(key))


def _items(level: Level) -> Iterator[Item]:
    for item in level.items:
        yield item
        if item.inside is not None:
            yield from _items(item.inside)


def _connect(level: Level, source: Port, target: Port) -> None:
    """Note that a tensor flows into an item; once, though the item may be given it several times."""
    level.edges.setdefault((source, target[0]), target[1])


def _is_closed(module: nn.Module, level: Level) -> bool:
    """Whether what a module does inside is its own matter: a layer of PyTorch that calls no others."""
    return type(module).__module__.startswith("torch.nn.") and all(item.kind != "module" for item in level.items)


def _below(path: str, outer: str) -> str:
    return path.removeprefix(f"{outer}.") if outer else path


def _function_name(func: Callable[..., Any]) -> str:
    """`add` for `torch.add`, `Tensor.__radd__` and `Tensor.add_`; `T` for the property."""
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", name)
    bare = name.strip("_")
    return next((bare[1:] for word in _REFLECTED if name == f"__r{word}__" or name == f"__i{word}__"), bare)


_REFLECTED = ("add", "sub", "mul", "truediv", "floordiv", "div", "pow", "matmul", "mod", "and", "or", "xor")
"""Operators that have a reflected form and one in place."""


def _is_in_place(func: Callable[..., Any]) -> bool:
    name = getattr(func, "__name__", "")
    return (name.endswith("_") and not name.startswith("__")) or (
        name.startswith("__i") and name.removeprefix("__i").removesuffix("__") in _REFLECTED
    )
