"""`builder resume`: go on with a run that was stopped, or train a finished one on."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from builder.cli.options import Common, Json, Overrides, load_plugins_of
from builder.cli.output import print_json
from builder.cli.train import EXIT_CODES, summary

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The run: its folder, NAME/latest (the newest, finished or not), or the last part of its name.",
        show_default=False,
    ),
]
Inexact = Annotated[
    bool, typer.Option("--inexact", help="Go on though versions, device, data or config differ; this is recorded.")
]


def resume(
    common: Common, run: RunName, overrides: Overrides = None, inexact: Inexact = False, as_json: Json = False
) -> int:
    """Go on with a run from its newest checkpoint, as if it had never stopped.

    The run folder and its config stay the same; OVERRIDES may change what changes no bits, how long to train,
    and the learning rate.
    """
    load_plugins_of(common)
    from builder.runs.find import find_run

    folder = find_run(run, finished=False)
    from builder.resume import Finished  # once there is a run: this imports Lightning
    from builder.resume import resume as go_on

    report = go_on(
        folder, overrides or (), config_dir=common.config_dir, inexact=inexact, quiet=common.quiet or as_json
    )
    if as_json:
        print_json({"state": "finished", **dataclasses.asdict(report)})
        return 0 if isinstance(report, Finished) else EXIT_CODES[report.state]
    if isinstance(report, Finished):
        if not common.quiet:
            print(f"finished already, after {report.epoch} epochs and {report.step} steps; {report.hint}")
        print(report.run)
        return 0
    if not common.quiet:
        print(summary(report))
    print(report.run)
    return EXIT_CODES[report.state]
