"""`builder train`: train a model and print where its run lies."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.collector import uncollected
from builder.cli.options import Common, Json, Overrides, compose_of
from builder.cli.output import print_json

if TYPE_CHECKING:
    from builder.pipeline import TrainReport

EXIT_CODES = {"finished": 0, "failed": 1, "interrupted": 130}


def train(
    common: Common,
    overrides: Overrides = None,
    as_json: Json = False,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="Train once for each of several values: `builder sweep`.")
    ] = False,
) -> int:
    """Train a model, and print its run folder.

    The folder stands on the last line of the output; with --quiet or --json there is no progress bar.
    """
    if multirun:
        from builder.cli.sweep import run_sweep

        return run_sweep(common, overrides or [], as_json)
    with uncollected():
        composed = compose_of(common, overrides)
        from builder.pipeline import Followed
        from builder.pipeline import train as run

    report = run(composed, quiet=common.quiet or as_json)
    if isinstance(report, Followed):
        return EXIT_CODES[report.state]
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        if not common.quiet:
            print(summary(report))
        print(report.run)
    return EXIT_CODES[report.state]


def summary(report: TrainReport) -> str:
    """How a training ended, in one line: its metrics on the test set, or on the validation set if there is none."""
    shown: list[str] = []
    for split in ("test/", "val/", "train/"):
        shown = shown or [f"{name} {value:.4g}" for name, value in report.metrics.items() if name.startswith(split)]
    lasted = f"{_counted(report.epoch, 'epoch')}, {_counted(report.step, 'step')}, {report.seconds:.1f} s"
    return f"{report.state} after {lasted}" + (f": {', '.join(shown)}" if shown else "")


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
