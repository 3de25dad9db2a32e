"""Whether a run could be made again: what differs from then, and whether metrics are the same in each bit."""

from __future__ import annotations

import csv
import hashlib
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.durable import told
from builder.runs.compare import read_json
from builder.runs.curves import FILE as TABLE
from builder.runs.record import CONFIG
from builder.runs.status import status

DECIDING = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "scikit-learn", "builder")
"""Packages whose versions can decide the bits of a run; of the others a difference is not told."""
TIMES = ("time/",)
"""Beginnings of the names of what is measured with a clock, and so is never the same."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that was another when the run was made; `hint` is a way back, if there is a plain one.

    What doesn't `count` is only told: the same comes out all the same.
    """

    what: str
    then: Any
    now: Any
    hint: str | None = None
    counts: bool = True

    def __str__(self) -> str:
        way = f"\n    to go back: {self.hint}" if self.hint else ""
        return f"{self.what}: {_text(self.then)} then, {_text(self.now)} now{way}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def changes(run: pathlib.Path, now: Mapping[str, Any]) -> list[Change]:
    """What differs from when a run was made.

    Args:
        run: its folder.
        now: what `environment.environment` returns, `patch` (bytes or None) and the `data`'s fingerprint beside it.

    Raises:
        RunError: a file of the run can't be read.
    """
    then = read_json(run / "environment.json") or {}
    data = (read_json(run / "data.json") or {}).get("fingerprint") or {}
    found = [*_edited(run), *_code(run, then, now), *_versions(then, now), *_machine(then, now)]
    for split in dict.fromkeys((*data, *now["data"])):
        if data.get(split) != now["data"].get(split):
            found.append(Change(f"data, {split}", data.get(split), now["data"].get(split)))
    return found


def _edited(run: pathlib.Path) -> list[Change]:
    """The config, if it isn't what it was when the run ended."""
    files = (read_json(run / "manifest.json") or {}).get("files") or {}
    then = (files.get(CONFIG) or {}).get("sha256")
    with told("read", run / CONFIG):
        now = hashlib.sha256((run / CONFIG).read_bytes()).hexdigest()
    return [Change(CONFIG, then[:12], f"{now[:12]}, edited since")] if then not in (None, now) else []


def _code(run: pathlib.Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The commit that the code was at, and what was changed since it."""
    old, new = then.get("git") or {}, now.get("git") or {}
    found = []
    if old.get("commit") != new.get("commit"):
        hint = f"git checkout {old['commit']}" if old.get("commit") and new.get("commit") else None
        found.append(Change("commit", old.get("commit"), new.get("commit"), hint))
    patch = run / "git.patch"
    before = None
    if patch.is_file():
        with told("read", patch):
            before = patch.read_bytes()
    if before != now.get("patch"):
        hint = f"git stash, then git apply {patch}" if before else "git stash"
        found.append(Change("uncommitted changes", _digest(before), _digest(now.get("patch")), hint))
    if "patch_left_out" in old:
        found.append(Change("uncommitted changes", f"not kept, {old['patch_left_out']}", "not known to be the same"))
    return found


def _digest(patch: bytes | None) -> str | None:
    return None if patch is None else f"{len(patch)} bytes of {hashlib.sha256(patch).hexdigest()[:8]}"


def _versions(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    old, new = then.get("packages") or {}, now.get("packages") or {}
    found = [
        Change(name, old.get(name), new.get(name), _install(name, old.get(name)))
        for name in DECIDING
        if old.get(name) != new.get(name)
    ]
    pythons = [(facts.get("python") or {}).get("version") for facts in (then, now)]
    return found if pythons[0] == pythons[1] else [*found, Change("python", pythons[0], pythons[1])]


def _install(name: str, version: Any) -> str | None:
    return (
        f"pip install {name}=={version.partition('+')[0]}" if isinstance(version, str) and name != "builder" else None
    )


def _machine(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """What of the machine decides bits: its devices, processor and libraries. Threads are set as they were."""
    pairs = {"processor": [(facts.get("cpu") or {}).get("model") for facts in (then, now)],
             "machine": [facts.get("machine") for facts in (then, now)]}  # fmt: skip
    for name in ("devices", "cuda", "cudnn"):
        pairs[name] = [(facts.get("torch") or {}).get(name) for facts in (then, now)]
    return [Change(name, old, new) for name, (old, new) in pairs.items() if old != new]


def metric_differences(run: pathlib.Path, other: pathlib.Path) -> tuple[list[str], list[str]]:
    """What metrics of two runs are the same, digit by digit, and which aren't, as lines for people.

    Raises:
        RunError: a file of theirs can't be read.
    """
    same: list[str] = []
    different: list[str] = []
    _sort("final metric", _finals(run), _finals(other), same, different)
    _sort("curve", _table(run / TABLE), _table(other / TABLE), same, different)
    return same, different


def _finals(run: pathlib.Path) -> dict[str, Any]:
    return {name: value for name, value in status(run).metrics.items() if not name.startswith(TIMES)}


def _sort(kind: str, then: Mapping[str, Any], now: Mapping[str, Any], same: list[str], different: list[str]) -> None:
    """Each name to what is the same or to what isn't; all that is the same in one line."""
    equal = [name for name in then if name in now and then[name] == now[name]]
    if equal:
        same.append(f"{len(equal)} {kind}s" if len(equal) != 1 else f"1 {kind}")
    for name in dict.fromkeys((*then, *now)):
        if name not in equal:
            different.append(f"{kind} {name}: {_first(then.get(name), now.get(name))}")


def _first(then: Any, now: Any) -> str:
    """How two values differ, or where two columns first do."""
    if then is None or now is None:
        return "only then" if now is None else "only now"
    if isinstance(then, dict) and isinstance(now, dict):
        steps = [step for step in dict.fromkeys((*then, *now)) if then.get(step) != now.get(step)]
        return f"from step {steps[0]} on, {_text(then.get(steps[0]))} then, {_text(now.get(steps[0]))} now"
    return f"{then} then, {now} now"


def _table(path: pathlib.Path) -> dict[str, dict[str, str]]:
    """A table's columns, each from step to the text of its value; without what a clock measured."""
    if not path.is_file():
        return {}
    columns: dict[str, dict[str, str]] = {}
    with told("read", path), open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                if name != "step" and text and not name.startswith(TIMES):
                    columns.setdefault(name, {})[row.get("step") or ""] = text
    return columns
