"""Data sets of the package datasets, as `save_to_disk` leaves them in a folder. Nothing is fetched, no code is run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.data.facts import ArgumentError, Dataset, check_texts, class_facts, refuse
from builder.data.sources import Batch, Rows, Source, TensorSource
from builder.data.splits import FRACTIONS, Indices, split_indices
from builder.data.text import read_tokenizer
from builder.errors import RunError, nearest
from builder.optional import require
from builder.registry import datasets

LIGHT = 1 << 30
"""Bytes of files that the system keeps in memory once they are read."""
SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}
"""Splits of a saved DatasetDict, and what they are called here."""


@datasets.register("HuggingFace")
def hugging_face(
    path: str,
    columns: Mapping[str, str] | None = None,
    tokenizer: str | None = None,
    length: int = 128,
    split: Mapping[str, float] | None = None,
    fold: int | None = None,
    num_folds: int | None = None,
    *,
    seed: int,
) -> Dataset:
    """A Dataset or DatasetDict that `save_to_disk` wrote into the folder `path`.

    `columns` says which tensor is made of which column (`{x: image, target: label}`); without it each column is a
    tensor of its name. Numbers and lists of equal length become float32 or int64, class labels int64, pictures
    [C, height, width] float32 from 0 to 1, and texts indices [length] by the `tokenizer` (the path of a
    `tokenizer.json`), cut or filled up with 0, with a tensor NAME_mask of what isn't filled up. A Dataset is split by
    seed, stratified by a `target` that is a class label; a DatasetDict comes split.

    The files stay mapped into memory, and only what a batch needs is read.

    Raises:
        Refusal: the folder holds no such data, or a column can't be used; all that was found.
        MissingExtra: the package datasets isn't installed.
    """
    check_texts("columns", columns)
    loaded = _load(path)
    parts = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    first = next(iter(parts.values()))
    used = dict(columns) if columns is not None else {name: name for name in first.column_names}
    readers = _readers(used, first.features, tokenizer, length)
    labels = first.features[used["target"]] if "target" in used else None
    names = list(labels.names) if labels is not None and hasattr(labels, "names") else None
    if isinstance(loaded, dict):
        _check_split(parts, split, fold)
        rows = {SPLITS[name]: (part, np.arange(len(part))) for name, part in parts.items() if len(part)}
    else:
        classes = np.asarray(first[used["target"]]) if names is not None else None
        indices = split_indices(len(first), split or FRACTIONS, seed, classes, fold=fold, num_folds=num_folds)
        rows = {name: (first, index) for name, index in indices.items()}
    splits = {name: ArrowSource(part, index, readers) for name, (part, index) in rows.items()}
    facts = _facts(splits["train"], names, tokenizer)
    notes = [f"{tensor} of {reader}" for tensor, reader in readers.items()]
    fits = {"task": "classification"} if names else {}
    return Dataset(splits, facts, None, notes, fits)


class _Reader:
    """Makes a tensor of a column's values: `kind` is numbers, picture or text."""

    def __init__(self, column: str, kind: str, tokenizer: str | None, length: int) -> None:
        self.column, self.kind, self.path, self.length = column, kind, tokenizer, length
        self._tokenizer: Any = None

    def __str__(self) -> str:
        return f"{self.column} ({self.kind})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tokenizer": None}

    def read(self, name: str, values: Any) -> Batch:
        """The tensors of a batch of values.

        Raises:
            RunError: they aren't alike.
        """
        if self.kind == "text":
            return self._read_texts(name, values)
        try:
            array = np.stack([np.asarray(value) for value in values]) if len(values) else np.empty((0,))
        except ValueError as error:
            raise RunError(f"the column {self.column!r} holds values of different sizes: {error}") from error
        if self.kind == "picture":
            array = array[:, None] if array.ndim == 3 else array.transpose(0, 3, 1, 2)
            return {name: torch.from_numpy(np.ascontiguousarray(array)).float().div_(255)}
        if array.dtype.kind not in "biuf":
            raise RunError(f"the column {self.column!r} lacks values, or holds something other than numbers")
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return {name: tensor.float() if array.dtype.kind == "f" else tensor.long()}

    def _read_texts(self, name: str, values: Any) -> Batch:
        assert self.path is not None
        if self._tokenizer is None:
            self._tokenizer = read_tokenizer(self.path)
        ids = torch.zeros((len(values), self.length), dtype=torch.int64)
        mask = torch.zeros((len(values), self.length), dtype=torch.bool)
        for row, encoded in enumerate(self._tokenizer.encode_batch(list(values))):
            cut = encoded.ids[: self.length]
            ids[row, : len(cut)], mask[row, : len(cut)] = torch.tensor(cut, dtype=torch.int64), True
        return {name: ids, f"{name}_mask": mask}


class ArrowSource(Source):
    """Rows of a Dataset, read as they are asked for."""

    def __init__(self, table: Any, rows: Indices, readers: Mapping[str, _Reader]) -> None:
        self.table = table.with_format("numpy", columns=[reader.column for reader in readers.values()])
        self.rows, self.readers, self.size = rows, dict(readers), len(rows)
        self.names = tuple(self.take(slice(0, 1)))

    def take(self, rows: Rows, place: tuple[int | str, ...] = ()) -> Batch:
        """The samples of these rows.

        Raises:
            RunError: they aren't alike.
        """
        index: NDArray[np.int64] = self.rows[rows if isinstance(rows, slice) else rows.numpy()]
        values = self.table[index.tolist()]
        batch: dict[str, Tensor] = {}
        for name, reader in self.readers.items():
            batch |= reader.read(name, values[reader.column])
        return batch

    def in_memory(self) -> Source:
        """The same samples as tensors."""
        return TensorSource(self.take(slice(None)))

    @property
    def num_bytes(self) -> int:
        """What all samples take in memory as tensors, by the first of them."""
        return self.size * sum(tensor.numel() * tensor.element_size() for tensor in self.take(slice(0, 1)).values())

    @property
    def light(self) -> bool:
        """Whether the files are small."""
        return (self.table.data.nbytes or 0) <= LIGHT


def _load(path: str) -> Any:
    """What `save_to_disk` wrote into a folder."""
    place = Path(path)
    if not place.is_dir():
        names = [item.name for item in place.parent.iterdir()] if place.parent.is_dir() else []
        near = [str(place.parent / name) for name in nearest(place.name, names)]
        refuse([ArgumentError("path", "no such folder", found=path, nearest=near)])
    package = require("datasets", "huggingface", "a data set of Hugging Face")
    if not (place / "dataset_dict.json").is_file() and not (place / "dataset_info.json").is_file():
        expected = "a folder that datasets' save_to_disk wrote"
        refuse([ArgumentError("path", "there is no data set in this folder", found=path, expected=expected)])
    try:
        loaded = package.load_from_disk(str(place))
        for part in loaded.values() if isinstance(loaded, dict) else [loaded]:
            part.data.table.validate(full=part.data.nbytes <= LIGHT)  # Arrow ends the process over a broken one
        return loaded
    except Exception as error:  # the package and Arrow raise what they like about a broken file
        said = " ".join(str(error).split())
        raise ArgumentError(
            "path", f"the data set can't be read: {type(error).__name__}: {said}", found=path
        ) from error


def _readers(
    used: Mapping[str, str], features: Mapping[str, Any], tokenizer: str | None, length: int
) -> dict[str, _Reader]:
    readers, errors = {}, []
    for tensor, column in used.items():
        if column not in features:
            expected, near = ", ".join(features), nearest(column, features)
            message = f"the data has no column {column!r}"
            errors.append(ArgumentError(("columns", tensor), message, expected=expected, nearest=near))
            continue
        kind = _kind(features[column])
        if kind is None:
            message = f"the column {column!r} is {features[column]}, of which no tensor can be made"
            errors.append(
                ArgumentError(("columns", tensor), message, hint="leave it out: data.columns names the others")
            )
        elif kind == "text" and tokenizer is None:
            message = f"the column {column!r} holds texts, which need a tokenizer"
            errors.append(ArgumentError("tokenizer", message, expected="the path of a tokenizer.json"))
        else:
            readers[tensor] = _Reader(column, kind, tokenizer, length)
    if length < 1:
        errors.append(ArgumentError("length", "length must be at least 1", found=length))
    if not used:
        errors.append(ArgumentError("columns", "no tensor is made of any column", found={}))
    refuse(errors)
    return readers


def _kind(feature: Any) -> str | None:
    """What a column holds, by the class of its feature."""
    name = type(feature).__name__
    if name in ("ClassLabel", "Array2D", "Array3D", "Array4D", "Array5D"):
        return "numbers"
    if name == "Image":
        return "picture"
    if name == "Value":
        dtype = feature.dtype
        return (
            "text" if "string" in dtype else "numbers" if dtype.startswith(("int", "uint", "float", "bool")) else None
        )
    inner = getattr(feature, "feature", None)
    return "numbers" if inner is not None and _kind(inner) == "numbers" else None


def _check_split(parts: Mapping[str, Any], split: object, fold: int | None) -> None:
    errors = []
    unknown = [name for name in parts if name not in SPLITS]
    if unknown or "train" not in parts:
        expected = "train and, if any, validation and test"
        errors.append(ArgumentError("path", "the data isn't split that way", found=list(parts), expected=expected))
    for argument, value in (("split", split), ("fold", fold)):
        if value is not None:
            errors.append(ArgumentError(argument, "the data comes split already", found=value, expected="null"))
    refuse(errors)


def _facts(train: ArrowSource, names: list[str] | None, tokenizer: str | None) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    sample = train.take(slice(0, 1))
    if names is not None:
        column = train.readers["target"].column
        counts = np.bincount(np.asarray(train.table[column])[train.rows], minlength=len(names)).tolist()
        facts |= class_facts(names, counts)
    elif "target" in sample and sample["target"].is_floating_point():
        facts["num_outputs"] = math.prod(sample["target"].shape[1:])
    if "x" in sample:
        shape = tuple(sample["x"].shape[1:])
        facts["num_features"] = math.prod(shape)
        facts |= dict(zip(("in_channels", "height", "width"), shape, strict=True)) if len(shape) == 3 else {}
    if tokenizer is not None:
        facts["vocab_size"] = read_tokenizer(tokenizer).get_vocab_size()
        facts["length"] = next((reader.length for reader in train.readers.values() if reader.kind == "text"), 0)
    return facts
