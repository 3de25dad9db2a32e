"""From the start of a process to the end of its first training step."""

from __future__ import annotations

from collections.abc import Iterator

from measure import Effort, Row
from processes import BUILDER, HERE, PYTHON, compare_commands

TITLE = "builder train / a minimal script with Hydra and Lightning, up to the first step"


def rows(effort: Effort) -> Iterator[Row]:
    """The digits MLP on both sides, with a table of metrics and checkpoints."""
    ours = (*BUILDER, "--quiet", "--import", "first_step", "train", "experiment=digits_mlp", "trainer=cpu",
            "logger.tensorboard=null", "+callbacks.end.type=FirstStep")  # fmt: skip
    theirs = (PYTHON, str(HERE / "minimal" / "train.py"))
    yield compare_commands("digits MLP", ours, theirs, bound=1.05, effort=effort, pairs=3)
