"""Makes PyTorch's layers without initial values, for the meta device, where there are no values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

RESET = "reset_parameters"
"""The method with which PyTorch's layers give themselves their initial values."""


def bare(target: Callable[..., Any], arguments: Mapping[str, Any]) -> nn.Module:
    """What `target` makes; a layer of PyTorch's doesn't initialise itself."""
    kind: Any = target
    if not isinstance(target, type) or not target.__module__.startswith("torch.nn.") or not hasattr(target, RESET):
        made: nn.Module = kind(**arguments)
        return made
    module = kind.__new__(kind)
    module.__dict__[RESET] = _nothing  # found before the method of the class
    module.__init__(**arguments)
    del module.__dict__[RESET]
    whole: nn.Module = module
    return whole


def _nothing() -> None:
    """In place of initial values."""
