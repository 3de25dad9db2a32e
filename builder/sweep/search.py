"""Samplers and pruners: Optuna's, by short names, with their own arguments."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from builder.config.origin import Origins
from builder.errors import Fault, nearest
from builder.hashing import derive
from builder.optional import require

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

SAMPLERS = {
    "grid": None, "random": "RandomSampler", "tpe": "TPESampler", "gp": "GPSampler", "cmaes": "CmaEsSampler",
    "nsga2": "NSGAIISampler", "nsga3": "NSGAIIISampler", "qmc": "QMCSampler",
}  # fmt: skip
"""Classes of `optuna.samplers`; a grid is listed here, all points in order."""
PRUNERS = {
    "none": None, "median": "MedianPruner", "percentile": "PercentilePruner", "hyperband": "HyperbandPruner",
    "asha": "SuccessiveHalvingPruner", "patient": "PatientPruner", "threshold": "ThresholdPruner",
    "wilcoxon": "WilcoxonPruner",
}  # fmt: skip
"""Classes of `optuna.pruners`."""


@dataclass(frozen=True, slots=True)
class Search:
    """A sampler or pruner by its name here, and its arguments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def optuna() -> Any:
    """The package, without its log of every trial.

    Raises:
        MissingExtra: it isn't installed.
    """
    package = require("optuna", "sweep", "a sweep")
    package.logging.set_verbosity(package.logging.ERROR)
    # Arguments of samplers and pruners that Optuna may still change: a note that helps nobody who named one.
    warnings.filterwarnings("ignore", category=package.exceptions.ExperimentalWarning)
    return package


def read_sampler(given: Any, origins: Origins, faults: list[Fault], *, finite: bool, all_points: bool) -> Search | None:
    """The sampler of `sweep.sampler`; where none is given, all points of a grid in order, else TPE."""
    if given is None:
        return Search("grid" if all_points else "tpe")
    found = _read(given, "sampler", SAMPLERS, lambda name: _target("samplers", SAMPLERS, name), origins, faults)
    if found is not None and found.name == "grid" and not finite:
        place = ("sweep", "sampler")
        faults.append(Fault("a grid has no intervals", place, origins.of(place), hint="use range, choice, or another"))
    return found


def read_pruner(given: Any, origins: Origins, faults: list[Fault], epochs: int | None) -> Search | None:
    """The pruner of `sweep.pruner`, if there is one; hyperband is told how many epochs there are."""
    if given is None:
        return None
    found = _read(given, "pruner", PRUNERS, lambda name: _target("pruners", PRUNERS, name), origins, faults)
    if found is None or found.name == "none":
        return None
    arguments = dict(found.arguments)
    if found.name == "hyperband" and epochs is not None and epochs > 0:
        arguments.setdefault("max_resource", epochs)
    if found.name == "patient":
        arguments.setdefault("wrapped_pruner", None)
        arguments.setdefault("patience", 5)
    return Search(found.name, arguments)


def make_sampler(search: Search, seed: int, number: int) -> BaseSampler:
    """The sampler for one trial: what it draws follows from the seed, the trial's number and the trials before it."""
    name = "random" if search.name == "grid" else search.name
    target = _target("samplers", SAMPLERS, name)
    drawn = derive(seed, "sampler", 0 if name in ("qmc", "cmaes") else number) % 2**32
    sampler: BaseSampler = target(**{"seed": drawn, **search.arguments})
    return sampler


def make_pruner(search: Search | None) -> BasePruner:
    """The pruner; one that prunes nothing for none."""
    if search is None:
        never: BasePruner = optuna().pruners.NopPruner()
        return never
    arguments = dict(search.arguments)
    inner = arguments.get("wrapped_pruner")
    if isinstance(inner, str):
        arguments["wrapped_pruner"] = make_pruner(Search(inner))
    pruner: BasePruner = _target("pruners", PRUNERS, search.name)(**arguments)
    return pruner


def _target(module: str, names: Mapping[str, str | None], name: str) -> Any:
    return getattr(getattr(optuna(), module), names[name] or "BaseSampler")


def _read(
    given: Any, kind: str, names: Mapping[str, str | None], target_of: Callable[[str], Any], origins: Origins,
    faults: list[Fault],
) -> Search | None:  # fmt: skip
    place = ("sweep", kind)
    section = {"type": given} if isinstance(given, str) else dict(given)
    name = section.pop("type", None)
    if name not in names:
        faults.append(Fault(f"unknown {kind} {name!r}", place, origins.of(place), expected=f"one of {', '.join(names)}",
                            nearest=nearest(name, names)))  # fmt: skip
        return None
    known = [] if names[name] is None else list(inspect.signature(target_of(name)).parameters)
    for key in section:
        if key not in known:
            path = (*place, str(key))
            expected = None if nearest(key, known) else f"one of {', '.join(known)}" if known else "no arguments"
            faults.append(Fault(f"{kind} {name} has no argument {key!r}", path, origins.of(path), expected=expected,
                                nearest=nearest(key, known)))  # fmt: skip
    if not faults and names[name] is not None:
        _try(kind, name, section, target_of(name), origins, faults)
    return Search(name, section)


def _try(
    kind: str, name: str, arguments: Mapping[str, Any], target: Any, origins: Origins, faults: list[Fault]
) -> None:
    """Make it once, to see that it takes its arguments."""
    if kind == "pruner" and name == "patient":
        return
    try:
        target(**arguments)
    except Exception as error:  # whatever Optuna raises against an argument
        place = ("sweep", kind)
        faults.append(Fault(f"{kind} {name} can't be made: {error}", place, origins.of(place)))
