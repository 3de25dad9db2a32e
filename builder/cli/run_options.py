"""The options of verbs that take a trained run, and how they open it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.options import Common, load_plugins_of

if TYPE_CHECKING:
    from builder.use.loaded import Loaded

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", show_default=False, help="A run: its folder, the last part of its name, or NAME/latest."
    ),
]
Checkpoint = Annotated[
    str | None,
    typer.Option("--checkpoint", metavar="NAME|PATH", help="best, last, or a file; the best if one was kept."),
]
Weights = Annotated[
    str, typer.Option("--weights", metavar="WHICH", help="tested (the average where one was kept), ema or raw.")
]
Device = Annotated[str | None, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1; as it was trained.")]
Size = Annotated[int, typer.Option("--batch-size", min=1, metavar="N", help="Samples that are asked about at a time.")]


def loaded_run(common: Common, run: str, checkpoint: str | None, weights: str, device: str | None) -> Loaded:
    """The run that is meant, its model on its device; what is unusual about it is said on standard error.

    Raises:
        BuilderError: there is none, or it can't be opened.
    """
    load_plugins_of(common)
    from builder.use.loaded import load

    loaded = load(run, checkpoint=checkpoint, weights=weights)
    say(loaded.run.notes, common)
    loaded.place(device)
    return loaded


def say(notes: Iterable[str], common: Common) -> None:
    """Write notes to standard error, unless it is to be quiet."""
    for note in () if common.quiet else notes:
        print(f"note: {note}", file=sys.stderr)
