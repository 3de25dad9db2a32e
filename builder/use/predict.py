"""Predicts for all samples of an input, and writes the answers in their order."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from builder.data.facts import Refusal
from builder.durable import write_file
from builder.errors import RunError, UsageError, nearest
from builder.use.form import Chunk, Place, Reading, refused
from builder.use.loaded import Loaded
from builder.use.writers import FORMATS, Writer, make_writer

STDOUT = "-"

Bad = Callable[[str, Place, str], None]
"""Told of each sample that can't be used: what its place is (line, row, file), the place, and why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for besides the prediction."""

    proba: bool = False
    strict: bool = False
    size: int = 1024
    keep: tuple[str, ...] = ()
    input_format: str | None = None
    output_format: str | None = None
    tokens: int = 64
    seed: int | None = None


@dataclass(slots=True)
class Predicted:
    """How many samples there were answers for, how many were left out, and what is to be said of the input."""

    good: int = 0
    bad: int = 0
    notes: Sequence[str] = ()


def predict(loaded: Loaded, given: str, output: str, wish: Wish, on_bad: Bad) -> Predicted:
    """Write what a model predicts for a file, a folder, or standard input (`-`), to a file or standard output.

    The rows of the output have the order of the input's, and say by their first column which of these they are for.
    A file is whole when it is there; what it held before stays until then.

    Raises:
        UsageError: the input or a format can't be used.
        RunError: a sample is bad, and `wish.strict`; or the system refuses.
    """
    form = wish.output_format or _format(output)
    try:
        reading = loaded.read(_source(loaded, given), size=wish.size, kind=wish.input_format)
    except Refusal as error:
        raise refused(error, given) from error
    _check_kept(reading, wish.keep)
    if wish.strict and reading.notes:
        raise RunError(f"{given}: {'; '.join(reading.notes)}")
    done = Predicted(notes=reading.notes)

    def fill(file: BinaryIO) -> None:
        writer = make_writer(form, file)
        for chunk in _chunks(reading, given):
            _answer(loaded, chunk, reading, wish, writer, done, on_bad)
        writer.close()

    if output == STDOUT:
        sys.stdout.flush()
        binary: Any = getattr(sys.stdout, "buffer", None)
        fill(binary or _Text())  # a program may have put a stream of text in its place
    else:
        write_file(Path(output), fill)
    return done


class _Text(io.BytesIO):
    """Standard output, where it takes text only."""

    def write(self, data: Any) -> int:
        """Write bytes of UTF-8."""
        return sys.stdout.write(bytes(data).decode())


def _source(loaded: Loaded, given: str) -> Any:
    return Path(given) if given != STDOUT and loaded.kind == "Text" else given


def _format(output: str) -> str:
    if output == STDOUT:
        return "csv"
    form = FORMATS.get(Path(output).suffix.lower())
    if form is None:
        raise UsageError(f"the format of {output} isn't known by its name: end it in {', '.join(FORMATS)}")
    return form


def _check_kept(reading: Reading, keep: Sequence[str]) -> None:
    for name in keep:
        if name not in reading.columns:
            near = nearest(name, reading.columns)
            asked = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UsageError(f"the input has no column {name!r} to keep{asked}")


def _chunks(reading: Reading, given: str) -> Any:
    try:
        yield from reading.chunks
    except Refusal as error:
        raise refused(error, given) from error


def _answer(
    loaded: Loaded, chunk: Chunk, reading: Reading, wish: Wish, writer: Writer, done: Predicted, on_bad: Bad
) -> None:
    for place, reason in chunk.bad:
        done.bad += 1
        if wish.strict:
            raise RunError(f"{reading.place} {place} can't be used: {reason}")
        on_bad(reading.place, place, reason)
    if not chunk.places:
        return
    answers = loaded.columns(chunk, proba=wish.proba, tokens=wish.tokens, seed=wish.seed)
    kept = {name: [record.get(name) for record in chunk.records] for name in wish.keep}
    writer.write({reading.place: list(chunk.places), **kept, **answers})
    done.good += len(chunk.places)
