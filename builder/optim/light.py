"""Optimisers that are only looked at, made without importing torch.compile: that takes as long as importing PyTorch."""

from __future__ import annotations

import sys
from dataclasses import replace

from torch.optim import Optimizer

from builder.catalog.component import Component


def light(component: Component) -> Component:
    """The component of an optimiser that never takes a step; it takes and refuses what the optimiser itself does.

    `Optimizer.add_param_group` is wrapped, to keep torch.compile away from it; the wrapper imports torch._dynamo at its
    first call. Here it is called without its wrapper, as long as nothing else imported that.
    """
    target = component.target
    if "torch._dynamo" in sys.modules or not (isinstance(target, type) and issubclass(target, Optimizer)):
        return component
    inner = getattr(target.add_param_group, "__wrapped__", None)
    if inner is None:
        return component
    names = {"__module__": target.__module__, "__qualname__": target.__qualname__, "__doc__": target.__doc__}
    return replace(component, target=type(target.__name__, (target,), {**names, "add_param_group": inner}))
