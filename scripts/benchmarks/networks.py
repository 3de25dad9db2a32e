"""The networks of the build benchmarks: the shipped YAML with arguments, and the same written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from by_hand import Gpt, ResNet50
from torch import nn

from builder.config.folders import shipped_configs


@dataclass(frozen=True)
class Network:
    """A shipped model with arguments, and the constructors that make the same."""

    what: str
    name: str
    args: Mapping[str, Any]
    by_hand: Callable[[], nn.Module]
    inputs: Mapping[str, tuple[int, ...]]

    @property
    def path(self) -> Path:
        """The model's file."""
        return shipped_configs() / f"model/{self.name}.yaml"


def transformer(width: int, depth: int = 48) -> Network:
    """A transformer; of 48 blocks it has 388 layers that hold no other."""
    args = {"vocab": 1000, "context": 64, "width": width, "depth": depth, "heads": 4}
    return Network(f"transformer, {8 * depth + 4} leaves of width {width}", "gpt", args, lambda: Gpt(**args), {})


def resnet50(width: int = 64) -> Network:
    """ResNet-50 for ImageNet; its own width is 64."""
    args = {"classes": 1000, "width": width}
    return Network("ResNet-50", "resnet50", args, lambda: ResNet50(**args), {"x": (1, 3, 224, 224)})
