"""`status.json`: how a run stands, and whether a run that says it is running still is."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal, cast

from builder.durable import told, write_json
from builder.errors import RunError
from builder.runs.process import Process, this_process

FILE = "status.json"
LOG = "metrics.jsonl"
TAIL = 1 << 16
"""Bytes at the end of a log that are read to see how far a killed run came."""
Ending = Literal["finished", "failed", "interrupted"]
State = Literal["running", "finished", "failed", "interrupted", "killed"]
"""`running` until sealed with an `Ending`. `killed` is never written: the process of a `running` one is gone."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a run stands.

    `started` and `ended` are ISO 8601 in UTC; `reason` is one line, null for a
    finished run; `epoch` and `step` are the last completed ones, of a killed run those that it logged; `metrics` the
    final values by name; `attempts` how often it was begun or went on. `started` is when it was begun, `seconds` the
    time of all attempts that were sealed.
    """

    state: State
    started: str
    process: Process
    command: Sequence[str] = ()
    ended: str | None = None
    seconds: float | None = None
    reason: str | None = None
    epoch: int | None = None
    step: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 1


def now() -> str:
    """The time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def status(run: pathlib.Path | str) -> Status:
    """How the run in a folder stands, `killed` if it was and its process is known to be gone.

    Raises:
        RunError: the folder holds no run, or its `status.json` can't be read.
    """
    found = read(pathlib.Path(run))
    if found.state == "running" and found.process.is_gone():
        epoch, step = reached(pathlib.Path(run) / LOG)
        return _with(found, state="killed", reason="its process ended without sealing it", epoch=epoch, step=step)
    return found


def reached(log: pathlib.Path) -> tuple[int | None, int | None]:
    """The epochs and steps that are done according to the end of `metrics.jsonl`; None for what it doesn't say."""
    epoch: int | None = None
    step: int | None = None
    for row in _last_rows(log):
        at, number = row.get("epoch"), row.get("step")
        tested = any(name.startswith("test/") for name in row)
        if isinstance(number, int) and number >= 0:
            step = max(step or 0, number + (not tested))  # a step is logged before it is counted
        if isinstance(at, int):
            epoch = max(epoch or 0, at + ("train/loss" in row))  # which comes when the epoch is over
    return epoch, step


def _last_rows(log: pathlib.Path) -> list[dict[str, Any]]:
    """The rows at the end of a log that are whole; none if it can't be read."""
    try:
        with open(log, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            lines = file.read().split(b"\n")[size > TAIL : -1]
        return [row for row in map(json.loads, lines) if isinstance(row, dict)]
    except (OSError, ValueError):
        return []


def read(run: pathlib.Path) -> Status:
    """`status.json` as it was written.

    Raises:
        RunError: the folder holds no run, or its `status.json` can't be read.
    """
    path = run / FILE
    if not path.is_file():
        raise RunError(f"{run} is not a run folder: it holds no {FILE}")
    with told("read", path):
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return _from_json(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise RunError(f"cannot read {path}: it is damaged") from None


def write(run: pathlib.Path, value: Status) -> None:
    """Write `status.json` in one step.

    Raises:
        RunError: the system refuses.
    """
    parts = asdict(value)
    process = parts.pop("process")
    head = {"state": parts.pop("state"), "started": parts.pop("started"), "command": parts.pop("command")}
    write_json(run / FILE, {**head, **process, **parts})


def _from_json(parts: dict[str, Any]) -> Status:
    process = Process(*(parts[one.name] for one in fields(Process)))
    parts = {"attempts": 1, **parts}  # what was written before runs could go on
    rest = {one.name: parts[one.name] for one in fields(Status) if one.name != "process"}
    if rest["state"] not in ("running", "finished", "failed", "interrupted"):
        raise ValueError(rest["state"])
    return Status(process=process, **rest)


def _with(value: Status, **changes: Any) -> Status:
    return Status(**{one.name: changes.get(one.name, getattr(value, one.name)) for one in fields(Status)})


def begun(before: Status | None, command: Sequence[str]) -> Status:
    """The status of a run that this process begins, or goes on with after it stood as `before` says."""
    if before is None:
        return Status("running", now(), this_process(), tuple(command))
    return Status("running", before.started, this_process(), tuple(command), attempts=before.attempts + 1)


def sealed(opened: Status, state: Ending, seconds: float, **result: Any) -> Status:
    """The status of a run that ends now; `result` is `reason`, `epoch`, `step` and `metrics`."""
    return _with(opened, state=cast(State, state), ended=now(), seconds=round(seconds, 3), **result)
