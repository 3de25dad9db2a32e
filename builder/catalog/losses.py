"""Losses: the loss classes of `torch.nn`, by their own names."""

from __future__ import annotations

import torch.nn
from torch.nn import modules

from builder.registry import losses

EXCLUDED = {
    "AdaptiveLogSoftmaxWithLoss": "returns the output with the loss; a layer",
    "LinearCrossEntropyLoss": "has weights of its own; a layer",
}
"""Public names of `torch.nn.modules` that end in Loss and aren't losses of a config, and why."""


def is_loss(name: str) -> bool:
    """Whether a public name of `torch.nn.modules` is a loss for configs."""
    return name.endswith("Loss") and name not in EXCLUDED


for _name in filter(is_loss, modules.__all__):
    losses.register(_name, getattr(torch.nn, _name))
