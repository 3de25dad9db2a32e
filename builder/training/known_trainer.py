"""What Lightning's Trainer is known to take where a CPU trains, without importing it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from builder.catalog.known import NotKnown
from builder.precision import settled_precision

BEGINNINGS = ("PL_", "SLURM_", "TORCHELASTIC_", "LSB_", "JSM_", "OMPI_", "PMI_", "XLA_", "TPU_")
VARIABLES = ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE")
"""Variables by which Lightning is given defaults or finds that somebody else starts its processes; and beginnings."""


def _one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(value == each and type(value) is type(each) for each in values)


def _count(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= least


def _limit(value: Any) -> bool:
    return value is None or _count(0)(value) or (type(value) is float and 0 <= value <= 1)


FINE: dict[str, Callable[[Any], bool]] = {
    "accelerator": _one_of("auto", "cpu"),
    "devices": _one_of("auto", 1),
    "strategy": _one_of("auto"),
    "num_nodes": _one_of(1),
    "max_epochs": _count(0),
    "max_steps": _count(-1),
    "limit_train_batches": _limit,
    "limit_val_batches": _limit,
    "limit_test_batches": _limit,
    "check_val_every_n_epoch": _count(1),
    "num_sanity_val_steps": _count(0),
    "log_every_n_steps": _count(1),
    "accumulate_grad_batches": _count(1),
    "gradient_clip_val": lambda value: value is None or (type(value) in (int, float) and value > 0),
    "gradient_clip_algorithm": _one_of(None, "norm", "value"),
    "deterministic": _one_of(True, False),
    "enable_progress_bar": _one_of(True, False),
    "enable_model_summary": _one_of(True, False),
    "shard": _one_of(None),
    "compile": _one_of(False),
}
"""By argument: the values that are surely fine, together with any of the others."""
PRECISIONS = (None, 32, "32", "32-true")


def _has_more_than_its_cpu() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available() or bool(importlib.util.find_spec("torch_xla"))


def require_fine(arguments: Mapping[str, Any]) -> None:
    """See that Lightning would surely make a Trainer of these arguments.

    Raises:
        NotKnown: it isn't known whether it would.
    """
    if any(name.startswith(BEGINNINGS) or name in VARIABLES for name in os.environ):
        raise NotKnown("processes that somebody else starts")
    if arguments.get("accelerator", "auto") != "cpu" and _has_more_than_its_cpu():
        raise NotKnown("a machine with more than its CPU")
    given = dict(arguments)
    precision = settled_precision(given.pop("precision", None), given.get("accelerator", "auto"))
    if precision not in PRECISIONS:
        raise NotKnown(f"precision {precision!r}")
    for name, value in given.items():
        if name not in FINE or not FINE[name](value):
            raise NotKnown(f"{name}={value!r}")
