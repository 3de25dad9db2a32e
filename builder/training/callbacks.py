"""Callbacks: Lightning's own by their names, and ours; and how those of a config are made."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path as Folder
from typing import Any

import pytorch_lightning.callbacks
from pytorch_lightning.callbacks import Callback, EarlyStopping, StochasticWeightAveraging, WeightAveraging
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from builder.catalog.component import Component, read_component
from builder.config.origin import Origins
from builder.errors import Fault, Path, dotted, nearest
from builder.registry import callbacks
from builder.training.averaging import EMAWeightAveraging, MeanWeightAveraging
from builder.training.compiled import Compile
from builder.training.exact import ExactResume
from builder.training.finders import BatchSizeFinder, LearningRateFinder
from builder.training.finite import NanGuard
from builder.training.norms import ActivationNorms, ClipGradients, GradientNorms
from builder.training.pictures import Pictures
from builder.training.placed import PlacedCallback
from builder.training.places import PROVIDED, in_run, misplaced
from builder.training.profile import Profile
from builder.training.progress import ProgressBar
from builder.training.timing import Timing

EXCLUDED = {
    "BackboneFinetuning": "needs a model with an attribute `backbone`",
    "BatchSizeFinder": "needs a data module with an attribute `batch_size`; the name is ours",
    "BaseFinetuning": "a base class",
    "BasePredictionWriter": "a base class",
    "Callback": "the base class",
    "Checkpoint": "a base class",
    "EMAWeightAveraging": "a test takes the weights, not their average; the name is ours",
    "LambdaCallback": "takes functions, which a config can't say",
    "LearningRateFinder": "needs a model with an attribute `lr`; the name is ours",
    "ProgressBar": "a base class; the name is ours",
    "SpikeDetection": "needs a step that returns more than the loss",
    "ThroughputMonitor": "takes a function, which a config can't say",
    "WeightAveraging": "takes functions; EMAWeightAveraging is one of its kind",
}
"""Public classes of `pytorch_lightning.callbacks` that a config can't use, and why."""

AVERAGES = (WeightAveraging, StochasticWeightAveraging)

OURS = (
    ActivationNorms, BatchSizeFinder, ClipGradients, Compile, EMAWeightAveraging, ExactResume, GradientNorms,
    LearningRateFinder, NanGuard, Pictures, Profile, ProgressBar, MeanWeightAveraging, Timing,
)  # fmt: skip

for _name in pytorch_lightning.callbacks.__all__:
    if _name not in EXCLUDED:
        callbacks.register(_name, getattr(pytorch_lightning.callbacks, _name))
for _callback in OURS:
    callbacks.register(_callback.__name__, _callback)


def read_callbacks(
    section: Mapping[str, Any] | None,
    metrics: Collection[str],
    origins: Origins,
    path: Path = ("callbacks",),
) -> tuple[list[Component], list[Fault]]:
    """The callbacks of the section `callbacks:` in its order, and what is wrong with them; null leaves one out.

    `metrics` are the names that a `monitor` may have.
    """
    components, faults = [], []
    for name, part in (section or {}).items():
        if part is None:
            continue
        place = (*path, name)
        component, more = read_component(callbacks, part, place, origins.of, provided=PROVIDED["callbacks"])
        faults += more
        if component is not None:
            components.append(component)
            faults += misplaced(component, origins.of)
            faults += _check_monitor(component.arguments.get("monitor"), metrics, (*place, "monitor"), origins)
    return components, [*faults, *_second_averages(components)]


def _second_averages(components: Sequence[Component]) -> list[Fault]:
    """Faults of averages of the weights besides the first: one alone can stand in their place."""
    averages = [part for part in components if isinstance(part.target, type) and issubclass(part.target, AVERAGES)]
    return [
        Fault("a second average of the weights", part.path, part.origin, part.name, f"one, as {dotted(first.path)} is")
        for first in averages[:1]
        for part in averages[1:]
    ]


def make_callback(component: Component, run_dir: Folder, monitor: str, mode: str) -> Callback:
    """The callback itself. Checkpoints go into `run_dir`/checkpoints, what ours write into a folder of its own there,
    or into the folder of `run_dir` that the config says; early stopping watches what the task watches.

    Raises:
        ConfigError: it refuses its arguments.
    """
    component = in_run(component, run_dir)
    defaults: dict[str, Any] = {}
    if "dirpath" in inspect.signature(component.target).parameters:
        defaults["dirpath"] = run_dir / getattr(component.target, "FOLDER", "checkpoints")
    if issubclass(component.target, EarlyStopping) and "monitor" not in component.arguments:
        defaults |= {"monitor": monitor, "mode": mode}
    try:
        callback = component.make(**{key: value for key, value in defaults.items() if key not in component.arguments})
    except MisconfigurationException as error:
        raise component.refused(error) from error
    if isinstance(callback, PlacedCallback):
        callback.path, callback.origin = component.path, component.origin
    return callback


def _check_monitor(monitor: Any, metrics: Collection[str], path: Path, origins: Origins) -> list[Fault]:
    if monitor is None or monitor in metrics:
        return []
    near, expected = nearest(monitor, metrics), " | ".join(metrics)
    return [Fault(f"there will be no metric {monitor!r}", path, origins.of(path), None, expected, near)]
