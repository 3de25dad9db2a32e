"""Writes what `builder.catalog.known` says of callbacks and loggers: `python -m builder.training.known_parts`."""

from __future__ import annotations

import json
from typing import Any

from builder.catalog.arguments import parameters_of
from builder.catalog.known import FILE, KINDS, versions
from builder.registry import Registry, callbacks, loggers

SAMPLES: dict[str, Any] = {"null": None, "bool": True, "int": 1, "float": 0.5, "str": "text"}
"""A value of each kind that is judged."""
assert SAMPLES.keys() == set(KINDS.values())


def known_parts() -> dict[str, Any]:
    """The arguments of each callback and logger of the project and of Lightning, with the kinds of value they take.

    An argument that takes only certain values takes no kind as a whole.
    """
    return {
        "versions": versions(),
        **{
            registry.kind: {name: _known(registry, name) for name in _own(registry)}
            for registry in (callbacks, loggers)
        },
    }


def _own(registry: Registry) -> list[str]:
    """The names that aren't users' own."""
    return [name for name in registry if registry.get(name).__module__.startswith(("builder.", "pytorch_lightning."))]


def _known(registry: Registry, name: str) -> dict[str, Any]:
    parameters = parameters_of(registry.get(name))
    assert parameters is not None, f"{registry.kind} {name} says its arguments"
    takes = {
        argument: " ".join(kind for kind, sample in SAMPLES.items() if accepted is None or accepted.test(sample))
        for argument, accepted in parameters.accepts.items()
    }
    return {"arguments": takes, "required": list(parameters.required)}


if __name__ == "__main__":
    FILE.write_text(json.dumps(known_parts(), indent=1) + "\n")
