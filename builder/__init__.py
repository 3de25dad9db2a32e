"""Neural networks described whole in YAML, built as the `nn.Module` an expert would have written, and trained."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.errors import BuilderError, ConfigError
    from builder.model.build import build
    from builder.registry import register
    from builder.use.loaded import load

__all__ = ["BuilderError", "ConfigError", "__version__", "build", "load", "register"]

__version__ = "0.1.0"

_HOMES = {
    "BuilderError": "builder.errors",
    "ConfigError": "builder.errors",
    "build": "builder.model.build",
    "load": "builder.use.loaded",
    "register": "builder.registry",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import builder` loads nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
