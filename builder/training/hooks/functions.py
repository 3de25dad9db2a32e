"""Hook functions that are shipped, and what every hook function is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from builder.registry import hooks


@dataclass(frozen=True, slots=True)
class HookPlace:
    """Where a hook function is called: for which module or parameter, of what, at which step of which epoch.

    `log(key, value)` gives a number, or a tensor with one element, to the loggers at that step; values of a key of one
    step overwrite each other.
    """

    name: str
    of: str
    step: int
    epoch: int
    log: Callable[[str, float | Tensor], None]


@hooks.register
def dead_units(value: Any, place: HookPlace, dim: int = 1) -> None:
    """Logs `dead_units/MODULE`: the share of units (along `dim`) that are zero for everything in the batch."""
    if isinstance(value, Tensor) and value.ndim > 1:
        dead = (value == 0).transpose(0, dim).flatten(1).all(dim=1)
        place.log(f"dead_units/{place.name or 'model'}", dead.float().mean())
