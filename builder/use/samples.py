"""New samples in chunks, in the form in which a model was trained on, by the state that its data left with the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from builder.errors import UsageError
from builder.use.form import ENCODED, TEXTS, Form, Reading, changed
from builder.use.records import STDIN, Record, existing, format_of, records
from builder.use.samples_files import of_pictures, of_texts, text_records
from builder.use.samples_tables import array_chunks, of_arrays, of_records


def read_samples(form: Form, given: str, size: int, kind: str | None = None) -> Reading:
    """The samples in a file, a folder, or on standard input (`-`), in chunks of up to `size`.

    `kind` is the format of the input, where its name doesn't say it.

    Raises:
        UsageError: there is no such input, or it isn't of this form.
        Refusal: a column or an array is missing.
    """
    if given != STDIN and not Path(given).exists():
        existing(given)
    if form.kind == "ImageFolder" and kind is None and not given.endswith((".npz", ".jsonl", ".ndjson")):
        return changed(form, of_pictures(form, given, size))
    if given != STDIN and (given.endswith((".npz", ".npy")) or Path(given).is_dir()):
        return changed(form, of_arrays(form, given, size), untouched=form.kind in ENCODED)
    default = "csv" if form.kind in ("Table", "SklearnDataset") else "text" if form.kind in TEXTS else "jsonl"
    found = kind or format_of(given, default) or ("text" if form.kind in TEXTS else None)
    if found is None:
        raise UsageError(f"the kind of {given} isn't known by its name: say it by --input-format")
    if form.kind in TEXTS:
        return changed(form, of_texts(form, text_records(given) if found == "text" else records(given, found), size))
    return of_records(form, records(given, found, (form.state or {}).get("separator")), size, found)


def sample_rows(form: Form, rows: Iterable[Mapping[str, Any]], size: int) -> Reading:
    """The samples that records in memory are, numbered from 1."""
    stream = (Record(number, row) for number, row in enumerate(rows, 1))
    if form.kind in TEXTS:
        return changed(form, of_texts(form, stream, size))
    return of_records(form, stream, size, "jsonl")


def sample_tensors(form: Form, tensors: Mapping[str, Any], size: int) -> Reading:
    """The samples that arrays in memory are, as the files of the data set hold them."""
    arrays = {name: np.asarray(value) for name, value in tensors.items()}
    return changed(form, Reading("row", array_chunks(form, arrays, size)), untouched=form.kind in ENCODED)
