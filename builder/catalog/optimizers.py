"""Optimizers: every optimizer class of `torch.optim`, by its own name."""

from __future__ import annotations

import torch.optim
from torch.optim import Optimizer

from builder.registry import optimizers

EXCLUDED = {"Optimizer": "the base class"}
"""Public classes of `torch.optim` that aren't optimizers of a config, and why."""


def is_optimizer(name: str) -> bool:
    """Whether a public name of `torch.optim` is an optimizer for configs."""
    value = getattr(torch.optim, name)
    return isinstance(value, type) and issubclass(value, Optimizer) and name not in EXCLUDED


for _name in filter(is_optimizer, (name for name in dir(torch.optim) if not name.startswith("_"))):
    optimizers.register(_name, getattr(torch.optim, _name))
