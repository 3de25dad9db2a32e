"""Runs benchmarks, prints a table for each, writes outputs/benchmarks/<date>.json; exit 1 if a bound is missed."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path

import builds
import calls
import torch
from rich.console import Console
from rich.table import Table

BENCHMARKS = {"forward": calls.forward, "step": calls.step, "build": builds.build_file}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    results = {}
    for name in names or BENCHMARKS:
        rows = list(BENCHMARKS[name]())
        results[name] = [{"what": row.what, "ratios": row.ratios, "bound": row.bound} for row in rows]
        table = Table("model", "median", "min", "max", "bound", "", title=f"{name}: our time / by hand")
        for row in rows:
            figures = [f"{value:.3f}" for value in (row.median, min(row.ratios), max(row.ratios), row.bound)]
            table.add_row(row.what, *figures, "holds" if row.holds else "missed")
        Console().print(table)
        missed = [row for row in rows if not row.holds]
        results[name].append({"missed": len(missed)})
    folder = Path("outputs/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now():%Y-%m-%d_%H-%M-%S}.json"
    path.write_text(json.dumps({"torch": torch.__version__, "results": results}, indent=2))
    print(path)
    return int(any(rows[-1]["missed"] for rows in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
