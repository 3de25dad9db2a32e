"""What has to be the same for a run to go on bit for bit."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Any

import pytorch_lightning as pl
import torch

from builder.errors import RunError

PACKAGES = ("builder", "torch", "pytorch-lightning", "torchmetrics", "numpy")
"""Those whose code decides the bits."""


class CannotGoOn(RunError):
    """A run can't go on as it began. Nothing of it was touched."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is other than it was."""

    what: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.what}: {self.then} then, {self.now} now"


@dataclass(frozen=True, slots=True)
class Context:
    """What of a run isn't known to the trainer: `data` and `config` are hashes.

    With `inexact` a run goes on though something differs. `on_begin` is told what does, before anything is changed.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""
    seed: int = 0
    inexact: bool = False
    on_begin: Callable[[list[Difference]], None] | None = None


def fingerprint(context: Context, trainer: pl.Trainer) -> dict[str, Any]:
    """What decides the bits besides weights and counters, as plain values."""
    return {
        "seed": context.seed,
        "config": context.config,
        "data": dict(context.data),
        "processes": trainer.world_size,
        "device": _device(trainer.strategy.root_device),
        "precision": str(trainer.precision),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _device(device: torch.device) -> str:
    """The kind of a device: on the CPU what instructions it has and how many threads share the work."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {threads} threads"
    return device.type


@cache  # each look reads files, and there is one a checkpoint
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def differences(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[Difference]:
    """All that differs, by dotted names."""
    found = []
    for key in dict.fromkeys([*then, *now]):
        before, after = then.get(key), now.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(Difference(f"{prefix}{key}", before, after))
    return found


def begin(context: Context, then: Mapping[str, Any], trainer: pl.Trainer) -> None:
    """See that a run goes on as it began; `then` is empty for one that begins.

    Raises:
        CannotGoOn: something differs, and `inexact` wasn't asked for.
    """
    found = differences(then, fingerprint(context, trainer)) if then else []
    if found and not context.inexact:
        lines = "\n".join(f"  {difference}" for difference in found)
        raise CannotGoOn(
            f"the run can't go on bit for bit, since something differs:\n{lines}\n"
            "  hint:     with --inexact it goes on all the same, and that is recorded"
        )
    if context.on_begin is not None:
        context.on_begin(found)
