"""Whether the shipped experiments reach the scores that they state, each trained in full by `builder train`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

from measure import Effort, Row

from builder.cli.main import main

TITLE = "what a training in full leaves to be learnt / what the stated score leaves, a seed a ratio"
SHORT = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1")


class Stated(NamedTuple):
    """A score that an experiment reaches: of 1 at most, or a loss."""

    metric: str
    score: float
    seeds: int = 3

    def left(self, value: float) -> float:
        """What is left to be learnt."""
        return value if self.metric.endswith("loss") else max(1 - value, 1e-3)


STATED = {
    "digits_cnn": Stated("test/accuracy", 0.98),
    "digits_mlp": Stated("test/accuracy", 0.96),
    "breast_cancer_mlp": Stated("test/accuracy", 0.96),
    "wine_mlp": Stated("test/accuracy", 0.95),
    "diabetes_mlp": Stated("test/r2", 0.45),
    "topics_gpt": Stated("val/loss", 2.1, seeds=1),
}
"""By experiment. The seed also divides the data, so that each measures other samples."""


def rows(effort: Effort) -> Iterator[Row]:
    """One experiment a row."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for experiment, stated in STATED.items():
            start = time.process_time()
            seeds = range(stated.seeds if effort.full else 1)
            reached = [_trained(experiment, seed, () if effort.full else SHORT)[stated.metric] for seed in seeds]
            seconds = (time.process_time() - start) / len(seeds)
            shown = ", ".join(f"{value:.3f}" for value in reached)
            what = f"{experiment} {stated.metric} {shown} (stated {stated.score}, {seconds:.0f} s of a processor)"
            ours, theirs = tuple(map(stated.left, reached)), (stated.left(stated.score),) * len(reached)
            yield Row(what, 1.0, ours, theirs, unit="left")


def _trained(experiment: str, seed: int, words: tuple[str, ...]) -> dict[str, float]:
    """The metrics of a training by the command line."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(["train", "--json", f"experiment={experiment}", f"seed={seed}", "trainer=cpu", *words])
    if code != 0:
        raise SystemExit(f"{experiment}: {errors.getvalue()}{os.linesep}{out.getvalue()}")
    metrics: dict[str, float] = json.loads(out.getvalue())["metrics"]
    return metrics
