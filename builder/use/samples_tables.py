"""Rows of tables and arrays of numbers as samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from builder.data.array_files import MappedArray, mapped
from builder.data.arrays import as_tensor
from builder.data.table_rows import RowEncoder
from builder.errors import UsageError, nearest
from builder.use.form import ENCODED, Batch, Chunk, Form, Reading, TensorSpec, changed, in_order, parts
from builder.use.records import Record


def of_records(form: Form, stream: Iterator[Record], size: int, kind: str) -> Reading:
    """Records as rows of a table, or as tensors by their names."""
    first = next(stream, None)
    stream = stream if first is None else chain([first], stream)
    columns = tuple(first.values or ()) if first is not None else ()
    place = "row" if kind == "parquet" else "line"
    if form.kind in ("Table", "SklearnDataset") and not set(form.tensors) <= set(columns):
        encoder = _encoder(form)
        if first is not None and first.values is not None:
            encoder.check(columns)
        notes = _unused(form, encoder, columns)
        return changed(form, Reading(place, _rows(encoder, stream, size, notes), notes, columns))
    if kind == "csv":
        needed = ", ".join(form.tensors)
        raise UsageError(f"this model takes the tensors {needed}: give them as .npz, or as JSON lines with {needed}")
    if first is not None and first.values is not None:
        _check_names(form, columns)
    untouched = form.kind in ENCODED
    return changed(form, Reading(place, _values(form, stream, size), [], columns), untouched)


def _encoder(form: Form) -> RowEncoder:
    """What encodes the rows of a table, or of one of scikit-learn's data sets that are tables."""
    assert form.state is not None
    if form.kind == "Table":
        return RowEncoder(form.state)
    if form.names is None:
        needed = ", ".join(form.tensors)
        raise UsageError(f"this model takes the tensors {needed}: give them as .npz, or as JSON lines with {needed}")
    columns = zip(form.names, _each(form.state["mean"], form.names), _each(form.state["std"], form.names), strict=True)
    numbers = [{"name": name, "mean": mean, "std": std, "fill": None} for name, mean, std in columns]
    return RowEncoder({"numbers": numbers, "categories": []})


def _each(value: Any, names: Sequence[str]) -> list[float]:
    return list(value) if isinstance(value, list) else [float(value)] * len(names)


def _unused(form: Form, encoder: RowEncoder, columns: Sequence[str]) -> list[str]:
    target = (form.state or {}).get("target")
    known = {*encoder.columns, target["name"] if isinstance(target, Mapping) else "target"}
    unused = [name for name in columns if name not in known]
    return [f"the model takes no column {', '.join(map(repr, unused))}"] if unused else []


def _rows(encoder: RowEncoder, stream: Iterator[Record], size: int, notes: list[str]) -> Iterator[Chunk]:
    """Rows in chunks; at the end it is noted which texts the model wasn't trained on."""
    for part, bad in parts(stream, size):
        rows = [record.values or {} for record in part]
        encoded = encoder.encode(rows)
        wrong = [*bad, *((part[index].line, reason) for index, reason in encoded.bad.items())]
        good = [part[index] for index in encoded.good]
        yield Chunk([each.line for each in good], encoded.tensors, in_order(wrong), [rows[i] for i in encoded.good])
    for name, unseen in encoder.unseen().items():
        shown = ", ".join(map(repr, list(unseen)[:3])) + (", …" if len(unseen) > 3 else "")
        notes.append(f"the model wasn't trained on {len(unseen)} of the texts in the column {name!r}: {shown}")


def _check_names(form: Form, names: Iterable[str]) -> None:
    """Refuse an input that lacks tensors.

    Raises:
        UsageError: it does; all of them, each with the names that are near.
    """
    names = list(names)
    missing = [name for name in form.tensors if name not in names]
    if missing:
        near = {name: nearest(name, names) for name in missing}
        said = [
            f"{name!r}" + (f" (did you mean {' or '.join(map(repr, near[name]))}?)" if near[name] else "")
            for name in missing
        ]
        raise UsageError(f"the input has no {', '.join(said)}; it has {', '.join(names) or 'nothing'}")


def _values(form: Form, stream: Iterator[Record], size: int) -> Iterator[Chunk]:
    """Records of lists of numbers, by the tensors' names."""
    for part, bad in parts(stream, size):
        made: list[dict[str, np.ndarray[Any, Any]]] = []
        good = []
        for record in part:
            try:
                made.append({name: _array(name, spec, record.values or {}) for name, spec in form.tensors.items()})
                good.append(record)
            except ValueError as error:
                bad.append((record.line, str(error)))
        arrays = {name: np.stack([each[name] for each in made]) for name in form.tensors} if made else {}
        batch = _batch(form, arrays) if made else {}
        yield Chunk([each.line for each in good], batch, in_order(bad), [each.values or {} for each in good])


def _array(name: str, spec: TensorSpec, row: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    if name not in row:
        raise ValueError(f"it has no {name!r}")
    try:
        array = np.asarray(row[name])
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name!r} holds no numbers, or lists of different lengths")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name!r} isn't finite")
    shape = _shaped(spec, array.shape)
    if shape is None:
        raise ValueError(f"{name!r} has the shape {list(array.shape)}, the model takes {_shown(spec)}")
    return array.reshape(shape)


def _shaped(spec: TensorSpec, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that a sample of this shape has for the model; None if it doesn't fit."""
    if spec.shape is None:
        return shape
    fits = len(shape) == len(spec.shape) and all(
        want in (None, have) for want, have in zip(spec.shape, shape, strict=True)
    )
    if fits:
        return shape
    fixed = [size for size in spec.shape if size is not None]
    whole = len(fixed) == len(spec.shape) and int(np.prod(fixed)) == int(np.prod(shape))
    same = [size for size in shape if size != 1] == [size for size in fixed if size != 1] or len(shape) == 1
    return tuple(fixed) if whole and same else None


def _shown(spec: TensorSpec) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in spec.shape or ()) + "]"


def _batch(form: Form, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Batch:
    """Arrays as the tensors of a batch, scaled as scikit-learn's data was."""
    batch = {}
    for name, spec in form.tensors.items():
        array = arrays[name]
        if form.kind == "SklearnDataset" and name == "x" and form.state is not None:
            array = (array.astype(np.float64) - np.asarray(form.state["mean"])) / np.asarray(form.state["std"])
        batch[name] = as_tensor(array, spec.dtype)
    return batch


def of_arrays(form: Form, given: str, size: int) -> Reading:
    """The arrays of an .npz file or a folder of .npy files; one .npy file, for a model that takes one tensor."""
    if given.endswith(".npy"):
        if len(form.tensors) != 1:
            raise UsageError(f"{given} is one array, the model takes {', '.join(form.tensors)}: give them as .npz")
        files: Mapping[str, MappedArray] = mapped({next(iter(form.tensors)): given})
    else:
        files = mapped(given)
    _check_names(form, files)
    return Reading("row", array_chunks(form, {name: files[name].array for name in form.tensors}, size))


def array_chunks(form: Form, arrays: Mapping[str, np.ndarray[Any, Any]], size: int) -> Iterator[Chunk]:
    """Arrays with the samples in their first dimension, in chunks.

    Raises:
        UsageError: one is missing, or of another shape.
    """
    _check_names(form, arrays)
    sizes = {name: len(array) for name, array in arrays.items() if name in form.tensors}
    if len(set(sizes.values())) > 1:
        raise UsageError(f"the arrays have different numbers of samples: {sizes}")
    shapes = {}
    for name, spec in form.tensors.items():
        shapes[name] = _shaped(spec, arrays[name].shape[1:])
        if shapes[name] is None:
            have = list(arrays[name].shape[1:])
            raise UsageError(f"samples of {name!r} have the shape {have}, the model takes {_shown(spec)}")
    for start in range(0, next(iter(sizes.values())), size):
        part = {name: np.array(arrays[name][start : start + size]) for name in form.tensors}
        finite = np.ones(len(next(iter(part.values()))), bool)
        for array in part.values():
            finite &= np.isfinite(array.reshape(len(array), -1)).all(1) if array.dtype.kind == "f" else True
        good = np.flatnonzero(finite)
        kept = {name: array[good].reshape(len(good), *(shapes[name] or ())) for name, array in part.items()}
        bad = [(start + int(row) + 1, "it isn't finite") for row in np.flatnonzero(~finite)]
        yield Chunk([start + int(row) + 1 for row in good], _batch(form, kept), bad)
