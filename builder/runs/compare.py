"""Runs side by side: what their configs, their code and their surroundings differ in, their metrics, their curves."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.durable import plain, told
from builder.errors import dotted
from builder.runs.curves import Curve, curves
from builder.runs.differences import DefaultOf, Difference, differences
from builder.runs.record import ABSENT, Record, config_of, record
from builder.runs.table import monitored


@dataclass(frozen=True, slots=True)
class Best:
    """The best value of the monitored metric, and the epoch (from 1) that it was reached in."""

    metric: str
    value: float
    epoch: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two or more runs: their records, labels that tell them apart, and all that differs.

    `settings` are differences of the configs, `surroundings` those of code, data, versions and machine, by what they
    are called; `bests` has None for a run without a monitored metric.
    """

    records: tuple[Record, ...]
    labels: tuple[str, ...]
    settings: tuple[Difference, ...]
    surroundings: Mapping[str, tuple[Any, ...]]
    bests: tuple[Best | None, ...]
    curves: tuple[Mapping[str, Curve], ...]

    @property
    def metrics(self) -> list[str]:
        """The names of all final metrics."""
        return list(dict.fromkeys(name for one in self.records for name in one.metrics))


def compare(runs: Sequence[pathlib.Path], default_of: DefaultOf | None = None) -> Comparison:
    """Compare runs; see `differences` for `default_of`.

    Raises:
        RunError: a file of theirs can't be read.
        ConfigError: a saved config isn't YAML.
    """
    records = [record(run) for run in runs]
    lines = [curves(one.path) for one in records]
    return Comparison(
        tuple(records), tuple(labels(runs)),
        tuple(differences([config_of(one.path) for one in records], default_of)),
        _surroundings(records), tuple(map(best_of, records, lines)), tuple(lines),
    )  # fmt: skip


def labels(runs: Sequence[pathlib.Path]) -> list[str]:
    """Names for runs, as short as tell them apart: the hash, the folder's name, with the experiment's, the path."""
    ways = (
        [run.name.rsplit("_", 1)[-1] for run in runs],
        [run.name for run in runs],
        [f"{run.parent.name}/{run.name}" for run in runs],
        [str(run) for run in runs],
    )
    return next((names for names in ways if len(set(names)) == len(set(runs))), ways[-1])


def read_json(path: pathlib.Path) -> Any:
    """A JSON file of a run folder; None if it isn't there, or damaged.

    Raises:
        RunError: the system refuses.
    """
    if not path.is_file():
        return None
    with told("read", path):
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return None


def _surroundings(records: Sequence[Record]) -> dict[str, tuple[Any, ...]]:
    """What runs differ in besides their configs."""
    facts = [_facts(one.path) for one in records]
    names = dict.fromkeys(name for each in facts for name in each)
    found = {name: tuple(each.get(name, ABSENT) for each in facts) for name in names}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}


def _facts(run: pathlib.Path) -> dict[str, Any]:
    """What a run's code, data, versions and machine were."""
    environment = read_json(run / "environment.json") or {}
    data = read_json(run / "data.json") or {}
    git, torch = environment.get("git") or {}, environment.get("torch") or {}
    facts = {"commit": git.get("commit"), "uncommitted changes": _digest(run / "git.patch")}
    facts |= {f"data, {split}": mark for split, mark in (data.get("fingerprint") or {}).items()}
    facts |= {"python": (environment.get("python") or {}).get("version"), "platform": environment.get("platform")}
    facts |= {"device": torch.get("devices"), "threads": torch.get("threads"), "cuda": torch.get("cuda")}
    return facts | {f"{name} version": version for name, version in (environment.get("packages") or {}).items()}


def _digest(path: pathlib.Path) -> str | None:
    import hashlib

    if not path.is_file():
        return None
    with told("read", path):
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def best_of(one: Record, lines: Mapping[str, Curve]) -> Best | None:
    """The best value of the metric that a run's checkpoints are chosen by; None if it has none."""
    metric = monitored(one)
    curve = lines.get(metric) if metric is not None else None
    if metric is None or curve is None:
        return None
    pick = max if one.setting("task.mode") == "max" else min
    real = [index for index, value in enumerate(curve.values) if value == value]
    if not real:
        return None
    index = pick(real, key=curve.values.__getitem__)
    return Best(metric, curve.values[index], curve.epochs[index] + 1)


def as_json(found: Comparison) -> dict[str, Any]:
    """The comparison for programs."""

    def values(of: Sequence[Any]) -> list[Any]:
        return [None if value is ABSENT else plain(value) for value in of]

    return {
        "runs": [{"folder": str(one.path), "label": label, "state": one.value("state")}
                 for one, label in zip(found.records, found.labels, strict=True)],
        "config": {dotted(one.path): values(one.values) for one in found.settings},
        "environment": {name: values(each) for name, each in found.surroundings.items()},
        "metrics": {name: values([one.metrics.get(name, ABSENT) for one in found.records]) for name in found.metrics},
        "best": [None if best is None else {"metric": best.metric, "value": plain(best.value), "epoch": best.epoch}
                 for best in found.bests],
    }  # fmt: skip
