"""Drops the arguments that a changed `type` leaves behind: those that the new type doesn't take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau

from builder import registry
from builder.catalog.arguments import parameters_of
from builder.config.compose import Composed, resolved
from builder.config.folders import blocks
from builder.config.superseded import Superseded
from builder.config.tree import locate
from builder.data.load import RESERVED as DATA_KEYS
from builder.errors import Origin, Path, dotted
from builder.model.spec import CONTAINERS, NODE_KEYS
from builder.registry import Registry


@dataclass(frozen=True, slots=True)
class Dropped:
    """An argument that was dropped, the type that doesn't take it, and where it was written."""

    path: Path
    type: str
    origin: Origin

    def __str__(self) -> str:
        return f"{dotted(self.path)} dropped: {self.type} takes no {str(self.path[-1])!r} ({self.origin})"


def settle(composed: Composed) -> tuple[Composed, tuple[Dropped, ...]]:
    """A config without the superseded arguments that their new types don't take, and what was dropped.

    Raises:
        ConfigError: an interpolation refers to what was dropped.
    """
    dropped = tuple(filter(None, (_dropped(item, composed) for item in composed.superseded)))
    if not dropped:
        return composed, ()
    unresolved = _without(composed.unresolved, {item.path for item in dropped}, ())
    values = resolved(unresolved, composed.origins, bool(composed.open))
    return replace(composed, unresolved=unresolved, values=values, superseded=()), dropped


def _dropped(item: Superseded, composed: Composed) -> Dropped | None:
    name = _at(composed.values, (*item.owner, "type"))
    takes = _takes(item.owner, name, composed) if isinstance(name, str) else None
    if takes is None or item.path[len(item.owner) :] in takes:
        return None
    return Dropped(item.path, name, composed.origins.of(item.path))


def _without(value: Any, paths: Collection[Path], path: Path) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if (*path, key) not in paths}
        return {key: _without(item, paths, (*path, key)) for key, item in kept.items()}
    if isinstance(value, list):
        return [_without(item, paths, (*path, index)) for index, item in enumerate(value)]
    return value


def _takes(owner: Path, name: str, composed: Composed) -> Collection[Path] | None:
    """What the mapping at `owner` may hold with that type, as paths from there; None if it isn't known."""
    match owner:
        case ("model", *_):
            if _is_initialiser(owner):
                return _component_takes(registry.initialisers, name, ("gate",))
            return _layer_takes(owner, name, composed)
        case ("init", *_):
            return _component_takes(registry.initialisers, name, ("gate",))
        case ("optimizer",):
            return _component_takes(registry.optimizers, name, ("groups", "no_decay", "layer_decay"))
        case ("optimizer", "groups", _):
            return _component_takes(registry.optimizers, name, ("name", "select", "layer_decay"))
        case ("scheduler",):
            watches = name in registry.schedulers and issubclass(registry.schedulers.get(name), ReduceLROnPlateau)
            return _component_takes(
                registry.schedulers, name, ("interval", "frequency", *(["monitor"] if watches else []))
            )
        case ("data",):
            return _component_takes(registry.datasets, name, DATA_KEYS)
        case ("task", "loss"):
            return _component_takes(registry.losses, name, ("of",))
        case ("task", "metrics", _):
            return _component_takes(registry.metrics, name, ("of",))
        case ("callbacks", _):
            return _component_takes(registry.callbacks, name)
        case ("logger", _):
            return _component_takes(registry.loggers, name)
    return None


def _component_takes(kind: Registry, name: str, reserved: Sequence[str] = ()) -> Collection[Path] | None:
    parameters = parameters_of(kind.get(name)) if name in kind else None
    if parameters is None or parameters.open:
        return None
    return {(key,) for key in (*parameters.accepts, *reserved)}


def _is_initialiser(owner: Path) -> bool:
    """Whether a mapping of a model says how a tensor begins: `parameters.scale.init`, `layers.fc.init.weight`."""
    named = [index for index, key in enumerate(owner) if key == "init" and owner[index - 1] not in ("layers", "blocks")]
    return bool(named) and len(owner) - named[-1] <= 3


def _layer_takes(owner: Path, name: str, composed: Composed) -> Collection[Path] | None:
    keys: list[Path] = [("unused",), ("when",)]
    if name in CONTAINERS:
        return [*keys, ("layers",), *([] if name == "ModuleDict" else [("repeat",), ("layer",)])]
    arguments: Collection[str] | None = _block_arguments(owner, name, composed)
    if arguments is None:
        parameters = parameters_of(registry.layers.get(name)) if name in registry.layers else None
        if parameters is None or parameters.open:
            return None
        arguments = parameters.accepts
    beside = [(key,) for key in arguments if key not in NODE_KEYS]
    return [*keys, *beside, *(("args", key) for key in arguments)]


def _block_arguments(owner: Path, name: str, composed: Composed) -> Collection[str] | None:
    """The arguments of the block of that name in scope; None if there is none."""
    for end in range(len(owner) - 1, 0, -1):
        definition = _at(composed.values, (*owner[:end], "blocks", name))
        if definition is not None:
            return _arguments(definition)
    library = blocks(composed.search_path)
    return _arguments(library.get(name).value) if name in library else None


def _arguments(definition: Any) -> Collection[str]:
    args = definition.get("args") if isinstance(definition, Mapping) else None
    return list(args) if isinstance(args, Mapping) else []


def _at(values: Any, path: Path) -> Any:
    """The value at a path, None if there is none."""
    found, value = locate(values, [str(key) for key in path])
    return value if len(found) == len(path) else None
