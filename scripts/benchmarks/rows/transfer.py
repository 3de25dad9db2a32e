"""What transfer is worth: digits_transfer against the same network from scratch, for the same three epochs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from statistics import mean

from measure import Effort, Row

from builder.cli.main import main

TITLE = "test error with what was learnt from other digits / from scratch, a seed a ratio"
SCRATCH = ("load=null", "freeze=null", "~optimizer.layer_decay")
RATES = (0.001, 0.003, 0.006, 0.012)
"""Learning rates that are tried from scratch; the one with the least mean error stands for it."""
SHORT = ("trainer.max_epochs=1", "trainer.limit_train_batches=1")


def rows(effort: Effort) -> Iterator[Row]:
    """One comparison: a pair of test errors a seed."""
    short = () if effort.full else SHORT
    seeds = range(5) if effort.full else range(2)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        ours = []
        for seed in seeds:
            _train("digits_pretrain", f"seed={seed}", *short)
            ours.append(_error("digits_transfer", f"seed={seed}", *short))
        tried = {
            rate: [
                _error("digits_transfer", f"seed={seed}", *SCRATCH, f"optimizer.lr={rate}", *short) for seed in seeds
            ]
            for rate in RATES
        }
    best = min(tried, key=lambda rate: mean(tried[rate]))
    what = f"mean error {mean(ours):.3f}, from scratch {mean(tried[best]):.3f} at its best rate {best}"
    yield Row(what, 1.0, tuple(ours), tuple(tried[best]), unit="of 1")


def _error(*words: str) -> float:
    """The share of test samples that a run gets wrong; of none, half a sample."""
    metrics = _train(*words)["metrics"]
    return max(1 - metrics["test/accuracy"], 0.5 / 134)


def _train(experiment: str, *words: str) -> dict[str, dict[str, float]]:
    """What `builder train --json` says."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(["train", "--json", f"experiment={experiment}", "trainer=cpu", *words])
    if code != 0:
        raise SystemExit(f"{experiment} {' '.join(words)}: {errors.getvalue()}{os.linesep}{out.getvalue()}")
    report: dict[str, dict[str, float]] = json.loads(out.getvalue())
    return report
