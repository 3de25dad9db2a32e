"""Runs benchmarks, prints a table for each, writes outputs/benchmarks/<date>.json; exit 1 if a bound is missed.

Each file in rows/ is one: `TITLE` says what is divided by what, `rows(effort)` gives the comparisons.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

NAMES = tuple(sorted(path.stem.replace("_", "-") for path in (HERE / "rows").glob("*.py")))
WHOLE_RUNS = ("accuracy", "torture", "transfer")
"""Those that train in full, for minutes or an hour: each runs where it is named."""
COSTS = tuple(name for name in NAMES if name not in WHOLE_RUNS)
HELP = f"of {', '.join(NAMES)}; without any, all of them but {', '.join(WHOLE_RUNS)}, which train in full"


def main(arguments: list[str]) -> int:
    """Run those that are named, else all that measure what something costs."""
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description="Measures ratios side by side.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=HELP)
    parser.add_argument("--smoke", action="store_true", help="only see that they run: no bound counts")
    parser.add_argument("--folder", type=Path, default=Path("outputs/benchmarks"), help="where the figures are written")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.names if name not in NAMES]:
        parser.error(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    results = [_measured(name, chosen.smoke) for name in chosen.names or COSTS]
    print(_written(chosen.folder, results))
    missed = any(not row["holds"] for result in results for row in result["rows"])
    return int(missed and not chosen.smoke)


def _measured(name: str, smoke: bool) -> dict[str, Any]:
    """The figures of one benchmark; its table is printed."""
    import torch
    from measure import SMOKE, Effort

    torch.set_num_threads(1)
    module = _module(name)
    gc.freeze()  # what is imported by now is no garbage, and needn't be gone through at every collection
    start = time.monotonic()
    rows = [_figures(row) for row in module.rows(SMOKE if smoke else Effort())]
    seconds = time.monotonic() - start
    _print(name, f"{module.TITLE} ({seconds:.0f} s to measure)", rows)
    return {"name": name, "title": module.TITLE, "seconds": seconds, "rows": rows}


def _module(name: str) -> ModuleType:
    path = HERE / "rows" / f"{name.replace('-', '_')}.py"
    spec = importlib.util.spec_from_file_location(f"rows_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _figures(row: Any) -> dict[str, Any]:
    noise = statistics.median(row.noise) if row.noise else None
    return {
        "what": row.what, "bound": row.bound, "holds": row.holds, "median": row.median, "min": min(row.ratios),
        "max": max(row.ratios), "best": row.best, "control": noise, "control_min": min(row.noise, default=None),
        "control_max": max(row.noise, default=None), "ours": row.ours, "theirs": row.theirs, "unit": row.unit,
    }  # fmt: skip


def _print(name: str, title: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{name}: {title}", title_justify="left")
    for heading in ("", "median", "min to max", "of minima", "theirs / theirs", "bound", "", "ours, theirs at least"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(
            row["what"], f"{row['median']:.3f}", f"{row['min']:.3f} to {row['max']:.3f}", f"{row['best']:.3f}",
            _control(row), *_verdict(row),
            f"{_least(row, 'ours')}, {_least(row, 'theirs')} {row['unit']}",
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _control(row: dict[str, Any]) -> str:
    if row["control"] is None:
        return ""
    return f"{row['control']:.3f} ({row['control_min']:.3f} to {row['control_max']:.3f})"


def _verdict(row: dict[str, Any]) -> tuple[str, str]:
    """The bound, and what came of it; nothing for a row that has none."""
    if row["bound"] is None:
        return "", ""
    return f"{row['bound']:g}", "holds" if row["holds"] else "MISSED"


def _least(row: dict[str, Any], side: str) -> str:
    return f"{min(row[side]) * (1e3 if row['unit'] == 'ms' else 1):.3g}"


def _written(folder: Path, results: list[dict[str, Any]]) -> Path:
    import torch

    machine = {
        "platform": platform.platform(), "processor": _processor(), "cores": os.cpu_count(), "threads": 1,
        "python": platform.python_version(), "torch": torch.__version__,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now():%Y-%m-%d_%H-%M-%S}.json"
    path.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    return path


def _processor() -> str:
    """The processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
