"""What stands in a model for parts that aren't made yet: layers that lack a size, and blocks equal to others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from builder.model.sizes import infer_sizes
from builder.model.spec import Definition, Node

if TYPE_CHECKING:
    from builder.model.make import Maker

Names = Mapping[str, Any]
"""What formulas see: arguments, `i`, `data`."""

Sizes = dict[str, dict[str, Any]]
"""Module path → the constructor arguments that were left out, with their values."""


class Refused(Exception):
    """A part can't be made; its fault is in the maker's list already."""


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
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Pending):
            if part.idle:
                return True
        elif isinstance(part, Sketched) and part.untouched:
            return True
        waiting.extend(child for child in part._modules.values() if child is not None)
    return False


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
