"""The report of one run, made from what lies in its folder."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from builder.durable import told
from builder.report.attempts import attempts_section
from builder.report.charts import metric_charts, other_charts, rate_chart
from builder.report.config import config_section
from builder.report.markup import Markup, tag
from builder.report.model import model_section
from builder.report.page import Page, badge, details, shares
from builder.report.predictions import predictions_section
from builder.report.tables import facts, table, value
from builder.runs.compare import best_of, read_json
from builder.runs.curves import curves
from builder.runs.record import ABSENT, Record, record
from builder.runs.status import status
from builder.runs.table import lasted, shown

REPORT = "report.html"
REPORTS = {"init": "Initial weights", "load": "Loaded weights", "freeze": "Frozen", "groups": "Parameter groups"}
"""The files of the folder `reports/` that have sections of their own."""


def write_report(run: pathlib.Path, path: pathlib.Path | None = None) -> pathlib.Path:
    """Write the report of a run, `report.html` in its folder if no `path` is given; returns where it lies.

    Raises:
        RunError: the folder holds no run, or the system refuses.
    """
    status(run)
    path = run / REPORT if path is None else path
    run_page(run).write(path)
    return path


def run_page(run: pathlib.Path) -> Page:
    """The page of a run; what its folder lacks is left out.

    Raises:
        RunError: a file of it can't be read.
    """
    one, lines = record(run), curves(run)
    page = Page(f"{one.value('name')}", one.value("run"))
    page.section("Summary", *_summary(one, best_of(one, lines)))
    page.section("Attempts", attempts_section(run))
    page.section("Curves", page.charts(metric_charts(lines)))
    rates = rate_chart(lines)
    page.section("Learning rates", page.charts([rates] if rates is not None else []))
    page.section("Predictions", predictions_section(read_json(run / "predictions.json")))
    page.section("Model", *model_section(run))
    page.section("Config", *config_section(run))
    _reports(page, run)
    page.section("Data", _data(run))
    page.section("Also logged", page.charts(other_charts(lines)))
    page.section("Environment", *_environment(run))
    page.section("Files", _files(run))
    return page


def _summary(one: Record, best: Any) -> list[Markup]:
    """How the run stands, its figures, and its final metrics."""
    said = one.status
    state = str(one.value("state"))
    tiles: dict[str, object] = {"state": badge(state, state)}
    if best is not None:
        tiles[f"best {best.metric}, in epoch {best.epoch}"] = f"{best.value:.4g}"
    tiles |= {name: shown("", metric) for name, metric in one.metrics.items() if name.startswith("test/")}
    tiles |= {name: shown(key, one.value(key)) for name, key in (("epochs", "epoch"), ("steps", "step"))
              if one.value(key) not in (None, ABSENT)}  # fmt: skip
    if said is not None and said.seconds is not None:
        tiles["time"] = lasted(said.seconds)
    known = {
        "reason": one.value("reason"), "description": _given(one, "description"),
        "started": shown("started", one.value("started")), "ended": shown("ended", one.value("ended")),
        "command": None if said is None else " ".join(said.command), "folder": str(one.path),
        "host": one.value("host"), "seed": _given(one, "seed"),
    }  # fmt: skip
    made = [shares(tiles), facts({name: each for name, each in known.items() if each is not ABSENT})]
    return [*made, *_metrics(one.metrics)]


def _given(one: Record, name: str) -> Any:
    found = one.setting(name)
    return None if found is ABSENT else found


def _metrics(metrics: Mapping[str, Any]) -> list[Markup]:
    """The final metrics, a row for each and a column for each split."""
    if not metrics:
        return []
    splits = [split for split in ("train", "val", "test") if any(name.startswith(f"{split}/") for name in metrics)]
    names = dict.fromkeys(name.partition("/")[2] for name in metrics if name.partition("/")[0] in splits)
    rows = [[name, *(shown("", metrics.get(f"{split}/{name}")) for split in splits)] for name in names]
    return [tag("h3", "Final metrics"), table(["metric", *splits], rows, range(1, len(splits) + 1))]


def _reports(page: Page, run: pathlib.Path) -> None:
    """How weights began, what was loaded, what is frozen, the groups; and what else was kept."""
    others = sorted(path.stem for path in (run / "reports").glob("*.json"))
    for name in (*REPORTS, *(name for name in others if name not in REPORTS and name != "model")):
        found = read_json(run / "reports" / f"{name}.json")
        if found:
            title = REPORTS.get(name, name)
            page.section(title, _groups(found) if name == "groups" else details("show", value(found)))


def _groups(found: Any) -> Markup:
    """The optimiser's groups, a row each, with the arguments that are given a value."""
    groups = found.get("groups") if isinstance(found, dict) else None
    if not isinstance(groups, list):
        return value(found)
    rows = []
    for each in groups:
        given = [f"{name} {shown('', item)}" for name, item in (each.get("hyperparameters") or {}).items()
                 if item is not None and item is not False]  # fmt: skip
        rows.append([each.get("name"), each.get("type"), each.get("tensors"), value(each.get("parameters")),
                     ", ".join(given), value(each.get("holds") or [])])  # fmt: skip
    head = ["group", "optimiser", "tensors", "parameters", "arguments", "holds"]
    return table(head, rows, {2, 3}, "groups of parameters")


def _data(run: pathlib.Path) -> Markup | None:
    found = read_json(run / "data.json")
    if not isinstance(found, dict):
        return None
    return value({name: found[name] for name in ("facts", "fingerprint") if name in found})


def _environment(run: pathlib.Path) -> list[Markup]:
    """What it ran on, and what its code differed by from its commit."""
    found = read_json(run / "environment.json")
    made = []
    if isinstance(found, dict):
        made = [value({name: each for name, each in found.items() if name != "packages"}),
                details("versions of packages", value(found.get("packages") or {}))]  # fmt: skip
    patch = run / "git.patch"
    if patch.is_file():
        with told("read", patch), open(patch, encoding="utf-8", errors="replace") as file:
            text = file.read(100_000)
        made.append(details("uncommitted changes of the code", tag("pre", text)))
    return made


def _files(run: pathlib.Path) -> Markup | None:
    found = read_json(run / "manifest.json")
    files = found.get("files") if isinstance(found, dict) else None
    if not isinstance(files, dict):
        return None
    rows = [[name, each.get("bytes"), each.get("sha256")] for name, each in files.items() if isinstance(each, dict)]
    return table(["file", "bytes", "SHA-256"], rows, {1})
