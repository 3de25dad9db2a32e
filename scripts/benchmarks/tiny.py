"""Networks so small that what is measured of them is Python, not arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from by_hand import Cnn, Gpt, Mlp
from torch import nn

from builder import build
from builder.config.folders import shipped_configs


@dataclass(frozen=True)
class Tiny:
    """A network from YAML, the same by hand, and what they are called with."""

    name: str
    ours: Callable[[], nn.Module]
    theirs: Callable[[], nn.Module]
    inputs: Callable[[], torch.Tensor]


def _built(name: str, **args: object) -> Callable[[], nn.Module]:
    return lambda: build(shipped_configs() / f"model/{name}.yaml", **args)


TINY = (
    Tiny(
        "mlp",
        _built("mlp", data={"num_outputs": 10}, inputs={"x": (1, 64)}, hidden=8),
        lambda: Mlp(hidden=8),
        lambda: torch.randn(1, 64),
    ),
    Tiny(
        "cnn",
        _built("cnn", inputs={"x": (1, 1, 4, 4)}, classes=10, channels=4),
        lambda: Cnn(channels=4),
        lambda: torch.randn(1, 1, 4, 4),
    ),
    Tiny(
        "gpt",
        _built("gpt", vocab=50, context=32, width=16),
        lambda: Gpt(width=16),
        lambda: torch.randint(0, 50, (1, 8)),
    ),
)
