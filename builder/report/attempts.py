"""The attempts at a run in its report: when it was begun, and how it went on, if it did."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from builder.report.markup import Markup
from builder.report.tables import table
from builder.runs.attempts import FOLDER
from builder.runs.compare import read_json
from builder.runs.table import shown

HEAD = ("attempt", "begun", "from", "step", "after it was", "changed", "differed")


def attempts_section(run: pathlib.Path) -> Markup | None:
    """A row for each attempt; None where there was but one."""
    rows = [_row(number, each) for number, each in enumerate(_attempts(run), 1)]
    return table(HEAD, rows, {0, 3}, "attempts") if len(rows) > 1 else None


def changed_keys(run: pathlib.Path) -> dict[str, str]:
    """The keys of the config that were changed when the run went on, each with the attempt."""
    found = enumerate(_attempts(run), 1)
    return {
        str(each.get("key")): f"attempt {number}" for number, attempt in found for each in _list(attempt, "changes")
    }


def _attempts(run: pathlib.Path) -> Iterator[Mapping[str, Any]]:
    """What is kept of each; nothing of one whose file is damaged."""
    for path in sorted((run / FOLDER).glob("[0-9]*.json")):
        found = read_json(path)
        yield found if isinstance(found, Mapping) else {}


def _row(number: int, each: Mapping[str, Any]) -> list[object]:
    changes = [f"{one.get('key')}: {_change(one)}" for one in _list(each, "changes")]
    others = [f"{one.get('what')}: {_change(one)}" for one in _list(each, "differences")]
    before = each.get("before") or {}
    after = [before.get("state"), f"({before['reason']})" if before.get("reason") else None]
    return [
        number, shown("started", each.get("started")), each.get("from") or "the beginning", each.get("step", 0),
        " ".join(filter(None, after)), "\n".join(changes), "\n".join([*others, *map(str, each.get("damaged") or ())]),
    ]  # fmt: skip


def _change(one: Mapping[str, Any]) -> str:
    return f"{shown('', one.get('then'))} → {shown('', one.get('now'))}"


def _list(each: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [one for one in each.get(name) or () if isinstance(one, Mapping)]
