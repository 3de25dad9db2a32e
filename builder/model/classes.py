"""The classes of built modules: one for each definition, made once, picklable anywhere."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from builder import registry
from builder.catalog.functions import constants
from builder.errors import Origin, Path
from builder.lang.forward import Forward, parse_forward
from builder.lang.guard import needs_guard
from builder.lang.scope import LayerName, Scope
from builder.model.dynamo import tolerate_yaml
from builder.model.read_forward import callables, layer_name
from builder.model.spec import Definition


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """All that a definition's class depends on, as plain values: what a pickled module carries in place of a class.

    Without `text` the class is a Sequential.
    """

    name: str
    args: tuple[str, ...]
    text: str | None = None
    inputs: tuple[tuple[str, bool], ...] = ()
    names: tuple[str, ...] = ()
    layers: Mapping[str, LayerName] | None = None
    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    origin: Origin = Origin()
    path: Path = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Recipe:
        return self

    @property
    def digest(self) -> str:
        """A hash of all fields."""
        return hashlib.blake2b(repr(self).encode(), digest_size=16).hexdigest()

    def parse(self) -> Forward:
        """The forward pass, read again from its text."""
        assert self.text is not None and self.layers is not None
        scope = Scope(
            inputs=dict(self.inputs), args=frozenset(self.names), layers=self.layers,
            parameters=frozenset(self.parameters), buffers=frozenset(self.buffers),
            functions=callables(), constants=constants(),
        )  # fmt: skip
        return parse_forward(self.text, scope, origin=self.origin, path=self.path)


class DefinedModule(nn.Module):
    """What the classes of all definitions share. Their own part is `forward`; their arguments are attributes."""

    _recipe: Recipe

    def extra_repr(self) -> str:
        """The definition's arguments, as a hand-written class would show them."""
        return ", ".join(f"{name}={self.__dict__[name]!r}" for name in self._recipe.args)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickles (and copies) by recipe, since the class can't be imported by name."""
        return _restore, (self._recipe,), self.__getstate__()


def _restore(recipe: Recipe) -> DefinedModule:
    """An instance without any state, as `object.__new__` gives one: how a pickled module begins."""
    cls = _class_of(recipe, recipe.parse if recipe.text is not None else None)
    module: DefinedModule = cls.__new__(cls)
    return module


tolerate_yaml()

_CLASSES: weakref.WeakValueDictionary[str, type[DefinedModule]] = weakref.WeakValueDictionary()


def class_of(definition: Definition, *, guarded: bool = False) -> type[DefinedModule]:
    """The class of a definition's modules; the same for equal definitions, however often they are read.

    With `guarded`, where its forward may go on for ever, another one that pays for its steps.
    """
    forward, args = definition.forward, tuple(definition.args)
    if forward is None:
        return _class_of(Recipe(definition.name, args), None)
    place = definition.place
    recipe = Recipe(
        definition.name, args, forward.text, tuple((item.name, item.optional) for item in definition.inputs),
        tuple(sorted({*definition.args, *definition.outer_args})),
        {node.name: layer_name(node) for node in definition.layers},
        tuple(item.name for item in definition.parameters), tuple(item.name for item in definition.buffers),
        forward.origin, (*place.path, "forward"),
    )  # fmt: skip
    return _class_of(recipe, lambda: forward, guarded and needs_guard(forward.function))


def _class_of(recipe: Recipe, forward: Callable[[], Forward] | None, guarded: bool = False) -> type[DefinedModule]:
    digest = recipe.digest + ("guarded" if guarded else "")
    cls = _CLASSES.get(digest)
    if cls is None:
        cls = _CLASSES[digest] = _make_class(recipe, forward() if forward is not None else None, guarded)
    return cls


def _make_class(recipe: Recipe, forward: Forward | None, guarded: bool = False) -> type[DefinedModule]:
    members: dict[str, Any] = {"_recipe": recipe, "__module__": __name__, "__doc__": None}
    if forward is None:
        return type(recipe.name, (DefinedModule, nn.Sequential), members)
    functions = {name: registry.functions.get(name) for name in forward.functions}
    members["forward"] = forward.bind(functions, recipe.name, guarded=guarded)
    return type(recipe.name, (DefinedModule,), members)
