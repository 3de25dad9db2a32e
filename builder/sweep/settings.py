"""The section `sweep:` and the varied overrides, as one checked value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.config.compose import Composed, compose
from builder.config.folders import search_path
from builder.config.kinds import Field, Section
from builder.config.origin import Origins
from builder.config.overrides import parse
from builder.config.schema import SWEEP
from builder.config.validate import faults_of
from builder.errors import ConfigError, Fault
from builder.sweep.axes import read_axes
from builder.sweep.objectives import Objective, read_objectives
from builder.sweep.search import Search, read_pruner, read_sampler
from builder.sweep.space import Axis, corners, is_finite, is_sweep, overrides_of, points


@dataclass(frozen=True, slots=True)
class Source:
    """Where configs come from: the start config, the users' folder and modules, as the command line says them."""

    config_name: str = "train"
    config_dir: str | None = None
    imports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole sweep.

    `base` are the overrides of every trial, `axes` what is varied. `replicates` are the overrides that each training of
    a trial has besides: one empty tuple where there are neither seeds nor folds. `section` is `sweep:` with defaults.
    """

    source: Source
    base: tuple[str, ...]
    axes: tuple[Axis, ...]
    section: Mapping[str, Any]
    origins: Origins
    objectives: tuple[Objective, ...]
    sampler: Search
    pruner: Search | None
    replicates: tuple[tuple[str, ...], ...]
    trials: int
    experiment: str
    output_dir: str

    @property
    def is_grid(self) -> bool:
        """Whether the trials are the points of a grid, in order."""
        return self.sampler.name == "grid"

    def compose(self, point: Mapping[str, str], extra: Sequence[str] = ()) -> Composed:
        """The config of a point.

        Raises:
            ConfigError: it can't be composed.
        """
        return composed(self.source, (*self.base, *overrides_of(self.axes, point), *extra))


def composed(source: Source, overrides: Sequence[str]) -> Composed:
    """The config of a trial: as `builder train` composes it, without the section on sweeps.

    Raises:
        ConfigError: it can't be composed.
    """
    folder = None if source.config_dir is None else Path(source.config_dir)
    found = compose(overrides, config_name=source.config_name, config_dir=folder)
    return replace(found, values={**found.values, "sweep": None}, unresolved={**found.unresolved, "sweep": None})


def read_settings(words: Sequence[str], source: Source) -> Settings:
    """The sweep that the words of a command line say.

    Raises:
        ConfigError: something is wrong with the section or with the space; all faults of it at once.
    """
    faults: list[Fault] = []
    folder = None if source.config_dir is None else Path(source.config_dir)
    folders = search_path(folder)
    varied = [word for word in words if is_sweep(word)]
    plain = [word for word in words if word not in varied]
    parsed = parse(plain, faults)
    if faults:
        raise ConfigError(*faults)
    names = [override.key_or_group for override in parsed]
    about = [word for word, name in zip(plain, names, strict=True) if _about_sweeps(name)]
    # Which files say what is varied doesn't depend on values; these may need a group that is varied.
    choosing = [word for word, name in zip(plain, names, strict=True) if "." not in name or _about_sweeps(name)]
    first = compose(choosing, config_name=source.config_name, config_dir=folder)
    section, origins = _checked(first)
    base = tuple(word for word in plain if word not in about and not word.startswith("output_dir="))
    pinned = {name: word.partition("=")[2] for word, name in zip(plain, names, strict=True) if word not in about}
    axes = read_axes(varied, section, origins, folders, pinned)
    point = _first_point(axes)
    whole = compose((*base, *about, *overrides_of(axes, point)), config_name=source.config_name, config_dir=folder)
    section, origins = _checked(whole)
    outputs = [word.partition("=")[2] for word in plain if word.startswith("output_dir=")]
    output_dir = outputs[-1] if outputs else whole.values["output_dir"]
    return _settings(source, base, axes, section, origins, whole, output_dir)


def _about_sweeps(name: str) -> bool:
    return name == "sweep" or name.startswith("sweep.")


def _checked(found: Composed) -> tuple[dict[str, Any], Origins]:
    """The section with its defaults.

    Raises:
        ConfigError: it is wrong.
    """
    values = {"sweep": found.values["sweep"] or {}}
    faults = [fault for fault in faults_of(values, found.origins) if fault.path[:1] == ("sweep",)]
    if faults:
        raise ConfigError(*faults)
    given = values["sweep"]
    return {name: given.get(name, _default(node)) for name, node in SWEEP.fields.items()}, found.origins


def _default(node: Any) -> Any:
    if isinstance(node, Field):
        return node.default
    return "serial" if isinstance(node, Section) and node.doc.startswith("where") else None


def _first_point(axes: Sequence[Axis]) -> dict[str, str]:
    return next(corners(axes, 0, 0))


def _settings(
    source: Source, base: tuple[str, ...], axes: tuple[Axis, ...], section: Mapping[str, Any], origins: Origins,
    whole: Composed, output_dir: str,
) -> Settings:  # fmt: skip
    faults: list[Fault] = []
    finite = is_finite(axes)
    trials = section["trials"]
    epochs = (whole.values.get("trainer") or {}).get("max_epochs")
    sampler = read_sampler(section["sampler"], origins, faults, finite=finite, all_points=finite and trials is None)
    pruner = read_pruner(section["pruner"], origins, faults, epochs if isinstance(epochs, int) else None)
    objectives = read_objectives(section["objectives"], origins, faults)
    replicates = _replicates(section, origins, faults)
    if pruner is not None and len(objectives) > 1:
        hint = "prune with one objective, or leave sweep.pruner out"
        faults.append(Fault("trials with several objectives can't be pruned", ("sweep", "pruner"),
                            origins.of(("sweep", "pruner")), hint=hint))  # fmt: skip
    if not faults and sampler is not None:
        if sampler.name == "grid":
            count = sum(1 for _ in points(axes))
            trials = count if trials is None else min(trials, count)
        elif trials is None:
            place = ("sweep", "trials")
            hint = "say how many: sweep.trials=40"
            faults.append(Fault("there are infinitely many points, or no order of them", place, origins.of(place),
                                hint=hint))  # fmt: skip
    if faults:
        raise ConfigError(*faults)
    assert sampler is not None and trials is not None
    return Settings(
        source, base, axes, section, origins, objectives, sampler, pruner, replicates, trials,
        whole.values["name"], output_dir,
    )  # fmt: skip


def _replicates(section: Mapping[str, Any], origins: Origins, faults: list[Fault]) -> tuple[tuple[str, ...], ...]:
    """The overrides of each training of a trial: every fold under every seed."""
    seeds = section["seeds"]
    listed = list(range(seeds)) if isinstance(seeds, int) else seeds
    if listed is not None and (not listed or not all(_is_seed(seed) for seed in listed) or _twice(listed)):
        place = ("sweep", "seeds")
        expected = "how many, or a list of different whole numbers from 0"
        faults.append(Fault("no seeds", place, origins.of(place), seeds, expected))
        listed = None
    folds = section["folds"]
    by_seed = [()] if listed is None else [(f"seed={seed}",) for seed in listed]
    by_fold = [()] if folds is None else [(f"data.num_folds={folds}", f"data.fold={fold}") for fold in range(folds)]
    return tuple((*seed, *fold) for seed in by_seed for fold in by_fold)


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _twice(items: Sequence[Any]) -> bool:
    return len(set(items)) < len(items)
