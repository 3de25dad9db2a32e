"""What the names in a `forward` stand for, told statically by whoever read the definition."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from builder.errors import Fault, Origin, nearest
from builder.lang.names import TENSOR_ATTRIBUTES

Kind = Literal["layer", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "part"]

ANY = "*"
"""In a reference's path: some element of a container, which one is known only when the model runs."""


@dataclass(frozen=True, slots=True)
class LayerName:
    """What is known of a layer before it is built.

    `kind` is "layer" for all that is called. `children` are its submodules by name, in order; `element` is the one that
    a container repeats, where the number of copies isn't known. `tensors` are the names of its parameters and buffers.
    `opaque`: there may be submodules and tensors beyond these (a layer of torch). `unused`: `forward` need not name it.
    "part" is the checker's own: a submodule or tensor below an opaque layer.
    """

    kind: Kind = "layer"
    children: Mapping[str, LayerName] = field(default_factory=dict)
    element: LayerName | None = None
    tensors: Collection[str] = frozenset()
    opaque: bool = False
    unused: bool = False
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """The names of one definition. `inputs` maps each input, in order, to whether it is optional.

    `functions` are the registered functions, `constants` registered values that aren't called (dtypes, `inf`).
    `origins` says where inputs were declared, for faults about them.
    """

    inputs: Mapping[str, bool] = field(default_factory=dict)
    args: Collection[str] = frozenset()
    layers: Mapping[str, LayerName] = field(default_factory=dict)
    parameters: Collection[str] = frozenset()
    buffers: Collection[str] = frozenset()
    functions: Collection[str] = frozenset()
    constants: Collection[str] = frozenset()
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def owned(self) -> dict[str, str]:
        """Names that are attributes of the module, and what each is in plain words."""
        return {
            **dict.fromkeys(self.args, "an arg"),
            **dict.fromkeys(self.parameters, "a parameter"),
            **dict.fromkeys(self.buffers, "a buffer"),
            **dict.fromkeys(self.layers, "a layer"),
        }


@dataclass(frozen=True, slots=True)
class Reference:
    """A path from a module's self through a layer whose inside isn't known until it is built.

    `path` holds names, indices (of a container or a tensor, which of both isn't known) and `ANY`.
    """

    path: tuple[str | int, ...]
    origin: Origin
    config_path: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) or part == ANY else f".{part}" if text else part
        return text

    def fault(self, modules: Iterable[str], tensors: Iterable[str]) -> Fault | None:
        """What is wrong with it in the built module, if anything.

        Args:
            modules: dotted names of all submodules, as `named_modules` gives them.
            tensors: dotted names of all parameters and buffers, tied ones under each of their names.
        """
        known = {tuple(name.split(".")): False for name in modules if name}
        known |= {tuple(name.split(".")): True for name in tensors}
        here: set[tuple[str, ...]] = {()}
        for index, part in enumerate(self.path):
            there = {name for name in known if name[:-1] in here and part in (name[-1], ANY, _index(name[-1]))}
            if not there:
                return self._missing(index, here, known)
            if all(known[name] for name in there):
                return self._after_tensor(index + 1)
            here = there
        return None

    def _missing(self, index: int, here: set[tuple[str, ...]], known: Mapping[tuple[str, ...], bool]) -> Fault:
        owner = Reference(self.path[:index], self.origin)
        valid = [name[-1] for name in known if name[:-1] in here]
        return Fault(
            f"{str(owner)!r} has no submodule, parameter or buffer {str(self.path[index])!r}",
            self.config_path,
            self.origin,
            found=str(self),
            expected=f"one of {', '.join(dict.fromkeys(valid))}" if valid else "nothing below it",
            nearest=nearest(self.path[index], valid),
        )

    def _after_tensor(self, start: int) -> Fault | None:
        for index, part in enumerate(self.path[start:], start):
            if isinstance(part, str) and part != ANY and part not in TENSOR_ATTRIBUTES:
                return Fault(
                    f"tensor {str(Reference(self.path[:index], self.origin))!r} has no {part!r} that forward may use",
                    self.config_path,
                    self.origin,
                    found=str(self),
                    nearest=nearest(part, TENSOR_ATTRIBUTES),
                )
        return None


def _index(name: str) -> int | None:
    return int(name) if name.isascii() and name.isdigit() else None
