"""What of a config differs from another, and which of it may change in a run that goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.config.origin import Origins
from builder.errors import Fault, Path, dotted, nearest

FREE = (
    "trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "trainer.devices", "trainer.log_every_n_steps",
    "trainer.enable_progress_bar", "data.num_workers", "data.in_memory", "data.device", "optimizer.lr",
    "optimizer.groups[N].lr", "logger", "description", "report",
)  # fmt: skip
"""Keys that change no bits of a run, or change it in a way that is asked for; what is below them is free too."""

REPORTING = (
    "ActivationNorms", "DeviceStatsMonitor", "ExactResume", "GradientNorms", "LearningRateMonitor", "ModelSummary",
    "Pictures", "Profile", "ProgressBar", "RichModelSummary", "RichProgressBar", "Timing", "TQDMProgressBar", "Timer",
)  # fmt: skip
"""Callbacks that only look on, save, or end training."""

ABSENT = "(nothing)"


@dataclass(frozen=True, slots=True)
class Change:
    """A value that is another one now; `ABSENT` where there is or was none."""

    path: Path
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.then} → {self.now}"


def changes(then: Mapping[str, Any], now: Mapping[str, Any], path: Path = ()) -> Iterator[Change]:
    """All values in which two configs differ."""
    for key in dict.fromkeys([*then, *now]):
        before, after = then.get(key, ABSENT), now.get(key, ABSENT)
        if before == after and type(before) is type(after):
            continue
        pair = (before, after)
        if all(isinstance(value, list) for value in pair) and len(before) == len(after):
            before, after = (dict(enumerate(value)) for value in pair)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from changes(before, after, (*path, key))
        else:
            yield Change((*path, key), *pair)


def refused(found: Sequence[Change], then: Mapping[str, Any], now: Mapping[str, Any], origins: Origins) -> list[Fault]:
    """A fault for each change that a run can't go on with."""
    return [_fault(change, origins) for change in found if not _is_free(change.path, then, now)]


def fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without all that may change."""
    return _without_free(config, (), config)


def _without_free(value: Any, path: Path, config: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _without_free(item, (*path, key), config)
            for key, item in value.items()
            if not _is_free((*path, key), config, config)
        }
    if isinstance(value, list):
        return [_without_free(item, (*path, index), config) for index, item in enumerate(value)]
    return value


def _is_free(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if path[0] == "callbacks" and len(path) > 1:
        return all(_only_reports(config.get("callbacks"), path[1]) for config in (then, now))
    name = re.sub(r"\[\d+\]", "[N]", dotted(path))
    return any(name == free or name.startswith((f"{free}.", f"{free}[")) for free in FREE)


def _only_reports(callbacks: Any, name: Any) -> bool:
    """Whether the callback of a name is none, or one that changes no bits."""
    part = callbacks.get(name) if isinstance(callbacks, Mapping) else None
    return part is None or (isinstance(part, Mapping) and part.get("type") in REPORTING)


def _fault(change: Change, origins: Origins) -> Fault:
    if change.path[0] == "callbacks":
        hint = f"callbacks that only report may: {', '.join(REPORTING)}"
    else:
        hint = f"these may: {', '.join(FREE)}, callbacks that only report"
    near = nearest(dotted(change.path), FREE)
    expected = f"as it was: {change.then!r}; a new run can begin with another: builder train"
    return Fault(
        "can't change in a run that goes on", change.path, origins.of(change.path), change.now, expected, near, hint
    )
