"""Many runs as a table: found, filtered, sorted, and reduced to columns."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from builder.durable import plain
from builder.errors import UsageError, nearest
from builder.runs.find import runs_in
from builder.runs.query import check_names, read_condition, those
from builder.runs.record import ABSENT, FACTS, Record, record
from builder.runs.status import FILE

MONITOR = "task.monitor"
"""The key of a config that names the metric by which checkpoints are chosen."""


def records_in(folders: Sequence[str], output_dir: str = "outputs") -> list[Record]:
    """The runs in some folders, newest first: those of `output_dir`, of one experiment, or run folders themselves.

    A name that is no folder is that of an experiment in `output_dir`. Without any, all of `output_dir`.

    Raises:
        UsageError: there is no such folder.
        RunError: a folder can't be read.
    """
    found = dict.fromkeys(run for name in folders or [output_dir] for run in _runs(name, output_dir, bool(folders)))
    records = [record(run) for run in found]
    return sorted(records, key=lambda one: (one.status.started if one.status else "", one.path.name), reverse=True)


def _runs(name: str, output_dir: str, asked: bool) -> list[pathlib.Path]:
    folder = pathlib.Path(name)
    inside = pathlib.Path(output_dir) / name
    if not folder.is_dir() and inside.is_dir():
        folder = inside
    if not folder.is_dir():
        if not asked:
            return []
        known = {run.parent.name for run in runs_in(output_dir)}
        near = nearest(name, known)
        asks = f"; did you mean {' or '.join(repr(one) for one in near)}?" if near else ""
        raise UsageError(f"no folder {name!r}, and no experiment of that name in {output_dir}{asks}")
    if (folder / FILE).is_file():
        return [folder]
    own = runs_in(folder.parent, only=folder.name) if folder.name else []
    return own or runs_in(folder)


def chosen(
    records: Sequence[Record],
    *,
    where: Iterable[str] = (),
    sort: str | None = None,
    reverse: bool = False,
    limit: int | None = None,
) -> list[Record]:
    """The runs for which all of `where` holds, by the value of `sort`, the first `limit` of them.

    Runs without a value come last in either direction.

    Raises:
        UsageError: a condition is none, or something is named that no run has.
    """
    kept = those(records, [read_condition(text) for text in where])
    if sort is not None:
        check_names([sort], records, f"--sort {sort!r}")
        with_value = [one for one in kept if one.value(sort) not in (ABSENT, None)]
        without = [one for one in kept if one.value(sort) in (ABSENT, None)]
        kept = sorted(with_value, key=lambda one: _order(one.value(sort)), reverse=reverse) + without
    elif reverse:
        kept.reverse()
    return kept[:limit]


def _order(value: Any) -> tuple[int, Any]:
    """Numbers before texts, texts before all else."""
    if isinstance(value, int | float):
        return 0, value
    return (1, value) if isinstance(value, str) else (2, str(value))


def monitored(one: Record) -> str | None:
    """The metric by which the run's checkpoints are chosen, of those that it has."""
    name = one.setting(MONITOR)
    return name if isinstance(name, str) and name in one.metrics else None


def usual_columns(records: Sequence[Record]) -> list[str]:
    """The metrics that are shown where none are named: what is monitored, and the same of the test."""
    watched = dict.fromkeys(filter(None, map(monitored, records)))
    tested = [f"test/{name.partition('/')[2]}" for name in watched]
    return [*watched, *(name for name in tested if any(name in one.metrics for one in records))]


def as_json(one: Record, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """A run for programs: its folder, and the columns that are named; without any, all facts and metrics."""
    if columns:
        return {"folder": str(one.path), **{name: _plain(one.value(name)) for name in columns}}
    facts = {name: _plain(one.value(name)) for name in FACTS}
    return {"folder": str(one.path), **facts, "metrics": plain(one.metrics)}


def _plain(value: Any) -> Any:
    return None if value is ABSENT else plain(value)


def shown(name: str, value: Any) -> str:
    """A value as people read it."""
    if value is ABSENT or value is None:
        return ""
    if name in ("started", "ended"):
        return f"{datetime.fromisoformat(value).astimezone():%Y-%m-%d %H:%M}"
    if name == "seconds":
        return lasted(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list | tuple):
        return json.dumps(plain(value), ensure_ascii=False)
    return " ".join(str(value).split()) if "\n" in str(value) else str(value)


def lasted(seconds: float) -> str:
    """A duration as people read it: `9.8 s`, `3 min 5 s`, `2 h 7 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
