"""Defaults of arguments that a config leaves out: those of the signature of what its `type` names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from builder import registry
from builder.catalog.signatures import signature_of
from builder.config.tree import locate
from builder.errors import Path
from builder.registry import Registry
from builder.runs.record import ABSENT

_PLAIN = (bool, int, float, str, tuple, list, type(None))


def default_of(config: Mapping[str, Any], path: Path) -> Any:
    """The default of the argument at `path`; `ABSENT` if its owner names no known type, or it has none."""
    owner, name = path[:-1], path[-1]
    if owner and owner[0] == "model" and owner[-1] == "args":
        owner = owner[:-1]  # a layer's arguments whose names are words of the language
    kind = _registry_of(owner)
    found, section = locate(config, [str(key) for key in owner])
    type_name = section.get("type") if len(found) == len(owner) and isinstance(section, Mapping) else None
    if kind is None or not isinstance(type_name, str) or type_name not in kind:
        return ABSENT
    try:
        parameter = signature_of(kind.get(type_name)).parameters.get(str(name))
    except ValueError:
        return ABSENT
    if parameter is None or parameter.default is inspect.Parameter.empty or not isinstance(parameter.default, _PLAIN):
        return ABSENT
    return parameter.default


def _registry_of(owner: Path) -> Registry | None:
    """What the mapping at a path names a type of."""
    match owner:
        case ("model", *_):
            return registry.layers
        case ("optimizer",) | ("optimizer", "groups", _):
            return registry.optimizers
        case ("scheduler",):
            return registry.schedulers
        case ("data",):
            return registry.datasets
        case ("task", "loss"):
            return registry.losses
        case ("task", "metrics", _):
            return registry.metrics
        case ("callbacks", _):
            return registry.callbacks
        case ("logger", _):
            return registry.loggers
    return None
