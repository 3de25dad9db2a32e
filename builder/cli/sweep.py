"""`builder sweep`: many trainings of one config, and their report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from builder.cli.options import Common, Json, Overrides, load_plugins_of, takes_common
from builder.cli.output import print_json
from builder.errors import UsageError, nearest

if TYPE_CHECKING:
    from builder.cli.sweep_shown import Shown
    from builder.sweep.run import SweepReport

SHOWN = 5
"""The best trials that are printed at the end."""
VERBS = ("resume", "report", "join")
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The sweep's folder: outputs/sweeps/NAME")]
Later = Annotated[
    list[str] | None,
    typer.Argument(metavar="OVERRIDES", help="What is said anew: sweep.trials=80", show_default=False),
]


class _Sweep(TyperGroup):
    """A group whose first verb is meant where none is named: `builder sweep model=mlp,cnn`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name the verb that is left out."""
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = ["start", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Sweep,
    help="Train a config many times, with values varied: builder sweep model=mlp,cnn optimizer.lr=1e-2,1e-3",
    rich_markup_mode=None,
)


def start(common: Common, overrides: Overrides = None, as_json: Json = False) -> int:
    """Begin a sweep; the word `start` may be left out.

    An override with several values (1e-2,1e-3), a range or an interval is varied; `sweep=NAME` takes what is
    varied from a file. The sweep's folder stands on the last line of the output.
    """
    words = list(overrides or ())
    for word in words:
        if "=" not in word and not word.startswith("~"):
            near = nearest(word, VERBS)
            if word in VERBS:
                raise UsageError(f"{word!r} stands before options: builder sweep {word} FOLDER")
            if near:
                raise UsageError(f"no override, and no verb of sweep: {word!r}; did you mean {near[0]!r}?")
    return run_sweep(common, words, as_json)


def run_sweep(common: Common, words: Sequence[str], as_json: bool) -> int:
    """Begin a sweep and print what came of it (`builder train -m` does so too)."""
    load_plugins_of(common)
    from builder.sweep.run import start as begin
    from builder.sweep.settings import Source

    folder = None if common.config_dir is None else str(common.config_dir)
    source = Source(common.config_name or "train", folder, common.imports)
    return _shown(common, as_json, lambda shown: begin(words, source, shown.watcher()))


def resume(common: Common, folder: Folder, overrides: Later = None, as_json: Json = False) -> int:
    """Go on with a sweep: take up what was interrupted, and add trials if a larger total is given."""
    load_plugins_of(common)
    from builder.sweep.run import resume as go_on

    return _shown(common, as_json, lambda shown: go_on(folder, overrides or (), shown.watcher()))


def report(common: Common, folder: Folder, as_json: Json = False) -> int:
    """Write the report of a sweep anew, and print its best trials."""
    load_plugins_of(common)
    from builder.sweep.run import report as write

    found = write(folder)
    _print(found, as_json, common.quiet)
    return 0


def join(
    common: Common,
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help="The sweep's folder, or its storage.")],
    overrides: Later = None,
    study: Annotated[str | None, typer.Option("--study", metavar="NAME", help="Which of several studies.")] = None,
    as_json: Json = False,
) -> int:
    """Work on the trials of a sweep beside the process that began it, here or on another machine."""
    load_plugins_of(common)
    from builder.sweep.run import join as work

    return _shown(common, as_json, lambda shown: work(storage, study, overrides or (), shown.watcher()))


def _shown(common: Common, as_json: bool, work: Callable[[Shown], SweepReport]) -> int:
    from builder.cli.sweep_shown import Shown

    with Shown(quiet=common.quiet or as_json) as shown:
        found = work(shown)
    _print(found, as_json, common.quiet)
    if not found.finished:
        return 130
    return 1 if found.rows and not found.best and not found.counts.get("pruned") else 0


def _print(found: SweepReport, as_json: bool, quiet: bool) -> None:
    from builder.sweep.shown import best_lines, counted

    if as_json:
        rows = [dataclasses.asdict(row) for row in found.rows]
        best = [row.number for row in found.best]
        objectives = [dataclasses.asdict(one) for one in found.objectives]
        print_json({"folder": found.folder, "finished": found.finished, "counts": found.counts,
                    "objectives": objectives, "best": best, "trials": rows})  # fmt: skip
        return
    if not quiet:
        print(counted(found.counts))
        for line in best_lines(found.best[:SHOWN], found.objectives):
            print(line)
        if not found.finished:
            print(f"resume with: builder sweep resume {found.folder}")
    print(found.folder)


app.command("start")(takes_common(start))
app.command("resume")(takes_common(resume))
app.command("report")(takes_common(report))
app.command("join")(takes_common(join))
