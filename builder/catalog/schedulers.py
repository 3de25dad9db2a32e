"""Schedulers: the classes of `torch.optim.lr_scheduler`, by their own names."""

from __future__ import annotations

from torch.optim import lr_scheduler

from builder.registry import schedulers

EXCLUDED = {
    "ChainedScheduler": "takes scheduler objects",
    "LRScheduler": "the base class",
    "LambdaLR": "takes a function, which a config can't say",
    "MultiplicativeLR": "takes a function, which a config can't say",
    "SequentialLR": "takes scheduler objects",
}
"""Public classes of `torch.optim.lr_scheduler` that aren't schedulers of a config, and why."""

for _name in lr_scheduler.__all__:
    if _name not in EXCLUDED:
        schedulers.register(_name, getattr(lr_scheduler, _name))
