"""`builder runs`: the runs that there are, listed, compared, reported and deleted."""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from builder.cli.options import Common, Json, takes_common
from builder.cli.output import is_terminal, print_json, print_table, styled
from builder.errors import UsageError, printable

if TYPE_CHECKING:
    from builder.runs.record import Record

USUAL = ("state", "started", "epoch", "seconds")
"""The facts that are shown where no columns are named, after the run's name."""
HEADS = {"epoch": "epochs", "seconds": "time"}

Folders = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FOLDERS", show_default=False,
        help="Where runs lie: a folder of experiments, an experiment's folder or name, or run folders; else outputs.",
    ),
]  # fmt: skip
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where", metavar="CONDITION",
        help="Only runs for which this holds: 'optimizer.lr < 0.01 and val/accuracy > 0.9'; repeatable.",
    ),
]  # fmt: skip
Sort = Annotated[
    str | None, typer.Option("--sort", metavar="NAME", help="Sort by a key of the config, a metric, or a fact.")
]
Reverse = Annotated[bool, typer.Option("--reverse", "-r", help="The other way round.")]
Columns = Annotated[
    str | None,
    typer.Option("--columns", metavar="NAMES", help="What to show, with commas: optimizer.lr,val/accuracy."),
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="The first N only.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV, all digits of all numbers.")]
Name = Annotated[
    str,
    typer.Argument(
        metavar="RUN", show_default=False, help="A run folder, the last part of its name, or EXPERIMENT/latest."
    ),
]
Names = Annotated[
    list[str], typer.Argument(metavar="RUNS", show_default=False, help="Run folders, or the last parts of their names.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")]


class _Runs(TyperGroup):
    """Lists where no verb is named: `builder runs --sort val/loss` is `builder runs list --sort val/loss`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the verb in."""
        if not args or args[0].startswith("-"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_Runs, help="The runs that there are: list, compare, report, rm.", rich_markup_mode=None)


def list_(
    common: Common,
    folders: Folders = None,
    where: Where = None,
    sort: Sort = None,
    reverse: Reverse = False,
    columns: Columns = None,
    limit: Limit = None,
    as_csv: Csv = False,
    as_json: Json = False,
) -> None:
    """List runs, newest first.

    Everything is named alike in conditions, for sorting and as a column: facts (name, run, state, started, ended,
    seconds, epoch, step, reason, attempts, host), final metrics (val/accuracy), and keys of the config (optimizer.lr).
    """
    from builder.runs.query import check_names
    from builder.runs.table import as_json as plain
    from builder.runs.table import chosen, records_in

    if as_csv and as_json:
        raise UsageError("--csv or --json, not both")
    records = records_in(folders or ())
    named = [name.strip() for name in columns.split(",") if name.strip()] if columns is not None else None
    check_names(named or (), records, "--columns")
    kept = chosen(records, where=where or (), sort=sort, reverse=reverse, limit=limit)
    if as_json:
        print_json([plain(one, named) for one in kept])
    elif as_csv:
        _print_csv(kept, named)
    elif not kept:
        _say_none(folders, where, any(records))
    else:
        _print_rows(kept, named)


def compare(common: Common, runs: Names, output: Output = None, as_json: Json = False) -> None:
    """Tell runs apart: what their configs differ in, their metrics, and their curves in one picture.

    Configs are compared by what they mean: a default that is written out, a short form or another order is no
    difference. -o writes the curves: a page to look into (.html), or a picture (.png, .svg).
    """
    from builder.runs.compare import as_json as plain
    from builder.runs.compare import compare as compared
    from builder.runs.find import find_run

    if len(runs) < 2:
        raise UsageError("name two runs or more")
    _check_kind(output, (".html", ".png", ".svg"))
    found = compared([find_run(name) for name in runs], _default_of(common))
    if as_json:
        print_json(plain(found))
    else:
        from builder.cli.runs_compare import print_comparison

        print_comparison(found)
    if output is not None:
        from builder.report.comparison import write_comparison

        write_comparison(found, output)
        if not as_json:
            print(output)


def report(common: Common, run: Name, output: Output = None) -> None:
    """Write a run's report, one page that needs no network, and print where it lies.

    By default it is report.html in the run folder, where training leaves one too.
    """
    from builder.report.run import REPORT, write_report
    from builder.runs.find import find_run

    _check_kind(output, (".html",))
    found = find_run(run)
    path = found / REPORT if output is None else output
    write_report(found, path)
    print(path)


def rm(
    common: Common,
    runs: Names,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Delete run folders. Asks first; refuses runs that are still running, and what isn't a run folder."""
    from builder.quantities import in_bytes
    from builder.runs.find import find_run
    from builder.runs.remove import removable, remove

    found = list(dict.fromkeys(find_run(name) for name in runs))
    sizes = {run: removable(run) for run in found}
    for run, size in sizes.items():
        print(f"{run}  {in_bytes(size)}")
    if not yes:
        if not is_terminal(sys.stdin):
            raise UsageError("nobody is there to be asked; --yes deletes without asking")
        typer.confirm(f"Delete {len(found)} run{'s' if len(found) > 1 else ''} for good?", abort=True)
    for run in found:
        remove(run)
    if not common.quiet:
        print(f"deleted {len(found)} run{'s' if len(found) > 1 else ''}, {in_bytes(sum(sizes.values()))}")


app.command("list")(takes_common(list_))
app.command("compare")(takes_common(compare))
app.command("report")(takes_common(report))
app.command("rm")(takes_common(rm))


def _default_of(common: Common) -> Any:
    """Looks a default up in the signature of what a type names; imports that only if something asks."""

    def default_of(config: Any, path: Any) -> Any:
        from builder.cli.options import load_plugins_of
        from builder.defaults import default_of as look_up

        load_plugins_of(common)
        return look_up(config, path)

    return default_of


def _check_kind(output: Path | None, kinds: Sequence[str]) -> None:
    if output is not None and output.suffix.lower() not in kinds:
        raise UsageError(f"{output}: what is written has to end in {' or '.join(kinds)}")


def _say_none(folders: list[str] | None, where: list[str] | None, any_there: bool) -> None:
    if any_there and where:
        print("no run fits", file=sys.stderr)
    else:
        print(f"no runs in {', '.join(folders or ['outputs'])}", file=sys.stderr)


def _print_csv(records: Sequence[Record], columns: Sequence[str] | None) -> None:
    from builder.runs.record import ABSENT, FACTS

    names = columns or [*FACTS, *dict.fromkeys(name for one in records for name in one.metrics)]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["folder", *names])
    for one in records:
        values = (one.value(name) for name in names)
        writer.writerow([one.path, *("" if value is ABSENT or value is None else value for value in values)])


def _print_rows(records: Sequence[Record], columns: Sequence[str] | None) -> None:
    from builder.cli.runs_compare import cut_value
    from builder.runs.table import shown, usual_columns

    names = columns if columns is not None else [*USUAL, *usual_columns(records)]
    rows = [("run", *(HEADS.get(name, name) for name in names))]
    for one in records:
        cells = (cut_value(printable(shown(name, one.value(name)))) for name in names)
        rows.append((printable(f"{one.path.parent.name}/{one.path.name}"), *cells))
    numbers = {index for index, name in enumerate(names, 1) if _is_numbers(records, name)}
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *rest = [_aligned(row, widths, numbers) for row in rows]
    print(styled("  ".join(head).rstrip(), bold=True))
    print_table(rest)


def _aligned(row: Sequence[str], widths: Sequence[int], right: Collection[int]) -> tuple[str, ...]:
    cells = enumerate(zip(row, widths, strict=True))
    return tuple(cell.rjust(width) if index in right else cell.ljust(width) for index, (cell, width) in cells)


def _is_numbers(records: Sequence[Record], name: str) -> bool:
    values = [value for one in records if not isinstance(value := one.value(name), str | None)]
    return name == "seconds" or any(type(value) in (int, float) for value in values)
