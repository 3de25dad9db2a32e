"""Schedulers: the classes of `torch.optim.lr_scheduler` by their own names, and schedules with a warm-up."""

from __future__ import annotations

from torch.optim import lr_scheduler

from builder.catalog.warmup import WarmupCosine, WarmupLinear, WarmupStableDecay
from builder.registry import schedulers

EXCLUDED = {"LRScheduler": "the base class"}
"""Public classes of `torch.optim.lr_scheduler` that aren't schedulers of a config, and why."""

for _name in lr_scheduler.__all__:
    if _name not in EXCLUDED:
        schedulers.register(_name, getattr(lr_scheduler, _name))
for _class in (WarmupCosine, WarmupLinear, WarmupStableDecay):
    schedulers.register(_class)
