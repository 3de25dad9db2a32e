"""Names that a config may use, and what they stand for. This is the only way from a config to a Python object."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeVar, overload

from builder.errors import DuplicateName, UnknownName

T = TypeVar("T")


class Registry:
    """Named objects of one kind.

    `sources` are the project's own modules that register entries when they are imported; they are imported at the first
    look-up, so that making a registry (and adding to it) imports nothing.
    """

    def __init__(self, kind: str, sources: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self._sources = sources
        self._loaded = not sources
        self._entries: dict[str, Any] = {}

    @overload
    def register(self, entry: str | None = None, value: None = None) -> Callable[[T], T]: ...
    @overload
    def register(self, entry: T) -> T: ...
    @overload
    def register(self, entry: str, value: T) -> T: ...
    def register(self, entry: Any = None, value: Any = None) -> Any:
        """Add an entry: `@register`, `@register("name")` or `register("name", value)`.

        Raises:
            DuplicateName: the name is taken by another object.
        """
        if value is not None:
            return self._add(entry, value)
        if entry is None or isinstance(entry, str):
            return lambda obj: self._add(entry or obj.__name__, obj)
        return self._add(entry.__name__, entry)

    def get(self, name: str) -> Any:
        """The object of that name.

        Raises:
            UnknownName: there is none; names the nearest.
        """
        self._load()
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownName(self.kind, name, self._entries) from None

    def names(self) -> list[str]:
        """All names, sorted."""
        self._load()
        return sorted(self._entries)

    def name_of(self, value: object) -> str | None:
        """The name under which an object is registered, if it is."""
        self._load()
        return next((name for name, entry in self._entries.items() if entry is value), None)

    def signature(self, name: str) -> inspect.Signature:
        """The signature by which the object of that name is called.

        Raises:
            UnknownName: there is none.
            ValueError: it is written in C and has none.
        """
        return inspect.signature(self.get(name))

    def doc(self, name: str) -> str:
        """The first paragraph of the object's docstring, on one line; empty if it has none.

        Raises:
            UnknownName: there is none.
        """
        return " ".join((inspect.getdoc(self.get(name)) or "").split("\n\n")[0].split())

    def added(self, name: str) -> bool:
        """Whether somebody else took that name before what the registry loads itself; nothing is imported to see."""
        return name in self._entries and not any(source in sys.modules for source in self._sources)

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def _add(self, name: str, value: T) -> T:
        known = self._entries.get(name, value)
        if known is not value:
            raise DuplicateName(
                f"{self.kind} {name!r} is registered twice: by {_described(known)} and by {_described(value)}"
            )
        self._entries[name] = value
        return value

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        try:
            for source in self._sources:
                importlib.import_module(source)
        except BaseException:
            self._loaded = False
            raise


def _described(value: object) -> str:
    return f"{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', type(value).__name__)}"


layers = Registry("layer", ("builder.catalog.layers",))
functions = Registry("function", ("builder.catalog.functions",))
initialisers = Registry("initialiser", ("builder.catalog.initialisers",))
losses = Registry("loss", ("builder.catalog.losses",))
metrics = Registry("metric", ("builder.catalog.metrics",))
optimizers = Registry("optimizer", ("builder.catalog.optimizers",))
schedulers = Registry("scheduler", ("builder.catalog.schedulers",))
datasets = Registry("dataset", ("builder.data.datasets",))
transforms = Registry("transform", ("builder.data.transforms",))
callbacks = Registry("callback", ("builder.training.callbacks",))
loggers = Registry("logger", ("builder.training.loggers",))
hooks = Registry("hook", ("builder.training.hooks.functions",))
executors = Registry("executor", ("builder.sweep.executors",))

registries: dict[str, Registry] = {
    registry.kind: registry
    for registry in (
        layers, functions, initialisers, losses, metrics, optimizers, schedulers, datasets, transforms,
        callbacks, loggers, hooks, executors,
    )
}  # fmt: skip
"""All registries by kind, in the order in which they are listed."""

register = SimpleNamespace(**{kind: registry.register for kind, registry in registries.items()})
"""`@register.layer`, `@register.function`, `@register.initialiser`, …: how users add their own."""
