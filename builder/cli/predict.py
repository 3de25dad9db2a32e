"""`builder predict`: what a trained model says of new samples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import Common
from builder.cli.run_options import Checkpoint, Device, Run, Size, Weights, loaded_run, say
from builder.errors import UsageError, nearest, printable

Input = Annotated[
    str,
    typer.Option("--input", "-i", metavar="PATH", help="A file or a folder of samples; - for standard input."),
]
Output = Annotated[
    str,
    typer.Option("--output", "-o", metavar="FILE", help=".csv, .tsv, .jsonl, .parquet, .npz; - for standard output."),
]
Proba = Annotated[bool, typer.Option("--proba", help="The probability of each class too.")]
Strict = Annotated[bool, typer.Option("--strict", help="End at the first row that can't be used, and write nothing.")]
Keep = Annotated[
    list[str] | None,
    typer.Option("--keep", metavar="COLUMN", help="Copy a column of the input to the output; repeatable."),
]
InputFormat = Annotated[
    str | None,
    typer.Option(
        "--input-format", metavar="FORMAT", help="csv, jsonl, parquet or text, where the name doesn't say it."
    ),
]
OutputFormat = Annotated[
    str | None,
    typer.Option("--output-format", metavar="FORMAT", help="csv, tsv, jsonl, parquet or npz, likewise."),
]
Tokens = Annotated[int, typer.Option("--tokens", min=1, metavar="N", help="How much a language model adds to a text.")]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="Let a language model draw by this seed; else the most likely."),
]

SHOWN = 20
"""Bad rows that are told one by one."""


def predict(
    common: Common,
    run: Run,
    given: Input,
    output: Output = "-",
    checkpoint: Checkpoint = None,
    weights: Weights = "tested",
    device: Device = None,
    proba: Proba = False,
    strict: Strict = False,
    batch_size: Size = 1024,
    keep: Keep = None,
    input_format: InputFormat = None,
    output_format: OutputFormat = None,
    tokens: Tokens = 64,
    seed: Seed = None,
) -> int:
    """Predict for new samples with a trained model, its own preprocessing and its class names.

    Samples are read, asked about and written in chunks, in their order. Rows that can't be used are named on standard
    error, counted and left out; with none that can, the exit code is 1.
    """
    check_formats(input_format, output_format)
    loaded = loaded_run(common, run, checkpoint, weights, device)
    from builder.use.predict import Wish
    from builder.use.predict import predict as ask

    wish = Wish(proba, strict, batch_size, tuple(keep or ()), input_format, output_format, tokens, seed)
    bad = _Bad()
    done = ask(loaded, given, output, wish, bad)
    say(done.notes, common)
    if bad.count > SHOWN:
        print(f"… and {bad.count - SHOWN} more", file=sys.stderr)
    if not common.quiet or done.bad:
        left = f", {done.bad:,} left out" if done.bad else ""
        where = "" if output == "-" else f" to {Path(output)}"
        print(f"{done.good:,} predicted{where}{left}", file=sys.stderr)
    return 1 if done.bad and not done.good else 0


class _Bad:
    """Tells of the first bad rows, and counts all."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, what: str, place: int | str, reason: str) -> None:
        self.count += 1
        if self.count <= SHOWN:
            print(printable(f"{what} {place}: {reason}"), file=sys.stderr)


def check_formats(given: str | None, wanted: str | None) -> None:
    """Refuse formats that there aren't.

    Raises:
        UsageError: one of them is none.
    """
    for option, value, known in (
        ("--input-format", given, ("csv", "jsonl", "parquet", "text")),
        ("--output-format", wanted, ("csv", "tsv", "jsonl", "parquet", "npz")),
    ):
        if value is not None and value not in known:
            near = nearest(value, known)
            asked = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{option} {value}: no such format; there are {', '.join(known)}{asked}")
