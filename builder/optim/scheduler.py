"""The learning-rate scheduler that the section `scheduler:` describes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from builder.catalog.component import Component, read_component
from builder.config.formulas import evaluate_formulas
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Path, nearest
from builder.registry import schedulers

RESERVED = ("interval", "frequency", "monitor")
"""Keys of `scheduler:` that aren't arguments of its `type`."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A scheduler, and when it steps: after every `frequency`-th epoch or step; `monitor` is what a plateau watches."""

    scheduler: LRScheduler
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None


def build_scheduler(
    optimizer: Optimizer,
    section: Mapping[str, Any] | None,
    origins: Origins,
    path: Path = ("scheduler",),
    *,
    steps: Mapping[str, int] | None = None,
    metrics: Collection[str] | None = None,
) -> Schedule | None:
    """The scheduler of the section, None if there is no section.

    `steps` are the numbers that formulas may use where they are known: `total_steps`, `steps_per_epoch`, `max_epochs`.
    `metrics` are the names that `monitor` may have; None leaves it unchecked.

    Raises:
        ConfigError: the section is wrong.
    """
    if section is None:
        return None
    values, faults = evaluate_formulas(section, steps or {}, path, origins)
    component, more = read_component(schedulers, values, path, origins.of, withheld=("optimizer",), reserved=RESERVED)
    interval, frequency, monitor = values.get("interval", "epoch"), values.get("frequency", 1), values.get("monitor")
    without_value = {fault.path for fault in faults}
    faults += [fault for fault in more if fault.path not in without_value] + _check_timing(
        interval, frequency, origins, path
    )
    if component is not None:
        faults += _check_monitor(component, monitor, metrics, origins)
    if component is None or faults:
        raise ConfigError(*faults)
    return Schedule(component.make(optimizer), interval, frequency, monitor)


def _check_timing(interval: object, frequency: object, origins: Origins, path: Path) -> list[Fault]:
    faults = []
    if interval not in ("epoch", "step"):
        place = (*path, "interval")
        faults.append(Fault("unknown interval", place, origins.of(place), interval, "epoch | step"))
    if not isinstance(frequency, int) or isinstance(frequency, bool) or frequency < 1:
        place = (*path, "frequency")
        faults.append(Fault("frequency can't be used", place, origins.of(place), frequency, "a whole number from 1"))
    return faults


def _check_monitor(
    component: Component, monitor: Any, metrics: Collection[str] | None, origins: Origins
) -> list[Fault]:
    place = (*component.path, "monitor")
    if not issubclass(component.target, ReduceLROnPlateau):
        if monitor is None:
            return []
        return [Fault(f"{component.name} watches no metric", place, origins.of(place), monitor, "no monitor")]
    if monitor is None:
        message = f"{component.name} needs a metric to watch"
        return [Fault(message, component.path, component.origin, expected="monitor: val/loss")]
    if metrics is not None and monitor not in metrics:
        near, expected = nearest(monitor, metrics), " | ".join(metrics)
        return [Fault(f"there will be no metric {monitor!r}", place, origins.of(place), None, expected, near)]
    return []
