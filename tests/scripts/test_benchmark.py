"""The benchmarks run; their figures are never a test's business."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("build", "build-meta", "build-peer", "forward", "help", "scale", "step")
"""Those that neither train nor start one process after the other."""
NAMES = sorted(path.stem.replace("_", "-") for path in (ROOT / "scripts/benchmarks/rows").glob("*.py"))


def run(*arguments):
    command = [sys.executable, ROOT / "scripts/benchmarks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"COLUMNS": "200"})


def test_each_benchmark_runs_and_is_written_down(tmp_path):
    done = run("--smoke", "--folder", tmp_path, *QUICK)
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("*.json")
    figures = json.loads(written.read_text())
    assert figures["machine"]["torch"]
    assert tuple(result["name"] for result in figures["results"]) == QUICK
    for result in figures["results"]:
        assert result["title"] in done.stdout
        assert all(row["min"] <= row["median"] <= row["max"] for row in result["rows"])
        assert all(row["bound"] is None or row["bound"] > 0 for row in result["rows"])
        assert result["rows"][0]["bound"] is not None


def test_an_unknown_benchmark_is_refused_with_the_known_ones():
    done = run("forwards")
    assert done.returncode == 2
    assert f"unknown benchmark forwards; there are {', '.join(NAMES)}" in done.stderr


@pytest.fixture
def row(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts" / "benchmarks")
    import measure

    return lambda ours, theirs, bound=1.1: measure.Row("this", bound, ours, theirs)


def test_a_bound_holds_for_the_median_of_the_ratios(row):
    assert not row((1.2, 1.3, 1.4), (1.0, 1.0, 1.0)).holds
    assert not row((1.2, 1.3, 1.05), (1.0, 1.0, 1.0)).holds
    assert row((1.0, 1.0, 1.3), (1.0, 1.0, 0.8)).holds
    assert row((9.0,), (1.0,), None).holds
