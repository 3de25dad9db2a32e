"""Pictures and texts as samples."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from builder.data.facts import Refusal
from builder.data.images import pictures_in, read_pictures
from builder.data.sequences import apply_sequences
from builder.data.text import apply_text
from builder.errors import UsageError
from builder.use.form import Batch, Chunk, Form, Reading, in_order, parts
from builder.use.records import STDIN, Record, existing


def of_pictures(form: Form, given: str, size: int) -> Reading:
    """A picture, those of a folder, or those whose paths standard input has, a line each.

    Raises:
        UsageError: there are none.
    """
    assert form.state is not None
    state = form.state
    files: Iterable[Path] = (
        (Path(line) for _, line in _text_lines(STDIN)) if given == STDIN else pictures_in(Path(given))
    )
    base = Path(given) if given != STDIN and Path(given).is_dir() else None
    if given != STDIN and not files:
        raise UsageError(f"there are no pictures in {given}; they end in .png, .jpg or .jpeg")

    def chunks() -> Iterator[Chunk]:
        coming = iter(files)
        while part := list(islice(coming, size)):
            names = [str(file.relative_to(base)) if base else str(file) for file in part]
            batch, bad = read_pictures(state, part)
            good = [name for index, name in enumerate(names) if index not in bad]
            yield Chunk(good, batch, [(names[index], reason) for index, reason in bad.items()])

    return Reading("file", chunks())


def _text_lines(given: str) -> Iterator[tuple[int, str]]:
    """The lines of a text that aren't empty, with their numbers; bytes that aren't UTF-8 as lone surrogates."""
    file = sys.stdin.buffer if given == STDIN else existing(given).open("rb")
    try:
        for number, line in enumerate(file, 1):
            text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            if text.strip():
                yield number, text
    finally:
        if given != STDIN:
            file.close()


def text_records(given: str) -> Iterator[Record]:
    """Lines of text as records."""
    for number, text in _text_lines(given):
        wrong = (
            None if text.isascii() or not any("\udc80" <= char <= "\udcff" for char in text) else "it isn't UTF-8 text"
        )
        yield Record(number, None if wrong else {"text": text, "tokens": text.split()}, wrong)


def of_texts(form: Form, stream: Iterator[Record], size: int) -> Reading:
    """Texts or sentences: `text`, or a list `tokens`, of each record."""
    key, encode = ("tokens", _sentences) if form.kind == "Sequences" else ("text", _encoded_text)
    first = next(stream, None)
    stream = stream if first is None else chain([first], stream)
    columns = tuple(first.values or ()) if first is not None else ()
    return Reading("line", _text_chunks(form, stream, size, key, encode), columns=columns)


def _text_chunks(
    form: Form, stream: Iterator[Record], size: int, key: str, encode: Callable[[Form, list[Any]], Batch]
) -> Iterator[Chunk]:
    for part, bad in parts(stream, size if key == "tokens" else 1):
        good = []
        for record in part:
            reason = _unlike(form, key, (record.values or {}).get(key))
            bad += [(record.line, reason)] if reason else []
            good += [] if reason else [record]
        values = [dict(record.values or {}) for record in good]
        batch = encode(form, [each[key] for each in values]) if good else {}
        yield Chunk([each.line for each in good], batch, in_order(bad), values)


def _unlike(form: Form, key: str, value: Any) -> str | None:
    """Why a value is no text, or no sentence, that the model takes."""
    if key == "tokens":
        tokens = isinstance(value, list) and value and all(isinstance(token, str) for token in value)
        return None if tokens else "it has no 'tokens', a list of texts"
    if not isinstance(value, str) or not value:
        return "it has no 'text'"
    try:
        apply_text(form.state or {}, value)
    except Refusal as error:
        found = error.errors[0].found
        return f"{error}" + (f": {found!r}" if found is not None else "")
    return None


def _sentences(form: Form, sentences: list[list[str]]) -> Batch:
    return apply_sequences(form.state or {}, sentences, form.length)


def _encoded_text(form: Form, texts: list[str]) -> Batch:
    return {"ids": apply_text(form.state or {}, texts[0])[None]}
