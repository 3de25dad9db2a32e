"""The precision of the numbers that a model computes with, where the config leaves the choice to the machine."""

from __future__ import annotations

from typing import Any

import torch

AUTO = "auto"
OLD_NAMES = {"64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
"""Lightning's former names, which it still takes, but for a warning."""


def settled_precision(precision: Any, accelerator: Any = "auto") -> Any:
    """A precision by Lightning's name: for `auto`, bf16-mixed on a GPU that has bfloat16, else 32-true.

    Args:
        precision: as the section `trainer` says it; None is 32-true.
        accelerator: where the model runs, as that section says it, or a device's type.
    """
    if precision is None:
        return "32-true"
    if precision != AUTO:
        return OLD_NAMES.get(str(precision), precision)
    cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if cuda and torch.cuda.is_bf16_supported() else "32-true"
