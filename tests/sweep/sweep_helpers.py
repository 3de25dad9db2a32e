"""Sweeps that take little: a small model, a few batches, and how their results are read."""

import csv

from command_line import run

TINY = (
    "model=mlp", "trainer=cpu", "trainer.limit_train_batches=4", "trainer.limit_val_batches=1", "logger.tensorboard=null", "trainer.max_epochs=2",
)  # fmt: skip
"""Overrides for a trial of a blink."""


def sweep(folder, *words, tiny=TINY, name="s"):
    """Run `builder sweep` in this process; the sweep is called `name`."""
    return run(folder, "sweep", f"sweep.name={name}", *tiny, *words)


def results(folder, name="s"):
    """The rows of `results.csv`, by trial."""
    with open(folder / "outputs/sweeps" / name / "results.csv", newline="") as file:
        return {int(row["trial"]): row for row in csv.DictReader(file)}
