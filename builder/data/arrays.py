"""Arrays in `.npy` and `.npz` files, mapped into memory: of a file no more is read than the samples of a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.data.array_files import MappedArray, mapped
from builder.data.facts import ArgumentError, Dataset, check_texts, class_facts, refuse
from builder.data.sources import Batch, Rows, Source, TensorSource
from builder.data.splits import FRACTIONS, Indices, split_by, split_indices
from builder.errors import nearest
from builder.registry import datasets

CHECKED = 1 << 30
"""Arrays of up to so many bytes are searched for numbers that aren't finite; to read more would take too long."""
CHUNK = 1 << 24
"""Bytes that are searched at once."""
DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "int64": torch.int64,
          "bool": torch.bool, "uint8": torch.uint8}  # fmt: skip


@datasets.register("Arrays")
def arrays(
    path: str | Mapping[str, str],
    target: str | None = "target",
    dtypes: Mapping[str, str] | None = None,
    split: Mapping[str, float] | str = FRACTIONS,
    groups: str | None = None,
    fold: int | None = None,
    num_folds: int | None = None,
    *,
    seed: int,
) -> Dataset:
    """Arrays with the samples in their first dimension: an `.npz` file, a folder of `.npy` files, or `{x: a.npy, …}`.

    The tensors of a batch have the arrays' names. Floating-point numbers become float32, whole numbers int64, unless
    `dtypes` says otherwise (`{x: float32}` for bytes). A `target` of whole numbers from 0 is a class, by which the
    split is stratified; null if there is none. `split` is fractions, or the name of an array that says train, val or
    test; `groups` the name of one whose equal values stay together. Neither of these is part of a batch.

    The files are mapped into memory, never read whole; compressed members of an `.npz` can't be, and are unpacked.

    Raises:
        Refusal: a file or array is wrong; all that was found.
    """
    check_texts("path", path)
    check_texts("dtypes", dtypes or None)
    files = mapped(path)
    beside = {name: argument for argument, name in (("split", split), ("groups", groups)) if isinstance(name, str)}
    _check(files, target, beside, dtypes or {})
    size = len(next(iter(files.values())).array)
    names = sorted((name for name in files if name not in beside), key=lambda name: name == target)
    columns = {name: files[name] for name in names}
    labels = columns[target].array if target is not None and target in columns else None
    classes = labels if labels is not None and labels.dtype.kind in "iu" and labels.ndim == 1 else None
    if isinstance(split, str):
        indices = split_by(np.asarray(files[split].array), split)
    else:
        of_groups = None if groups is None else np.asarray(files[groups].array)
        indices = split_indices(size, split, seed, classes, groups=of_groups, fold=fold, num_folds=num_folds)
    casts = {name: _dtype(array.array.dtype, (dtypes or {}).get(name)) for name, array in columns.items()}
    facts = _facts(columns, target, classes, indices["train"])
    splits = {name: ArraySource(columns, rows, casts) for name, rows in indices.items()}
    state = {"type": "Arrays", "dtypes": {name: str(dtype).removeprefix("torch.") for name, dtype in casts.items()},
             "target": target}  # fmt: skip
    return Dataset(splits, facts, state, _notes(columns, casts))


def apply_arrays(state: Mapping[str, Any], path: str | Mapping[str, str]) -> dict[str, Tensor]:
    """The arrays of other files in the form in which a model was trained on.

    Raises:
        Refusal: one is missing, or the files can't be read.
    """
    files = mapped(path)
    wanted = {name: getattr(torch, dtype) for name, dtype in state["dtypes"].items()}
    needed = [name for name in wanted if name != state["target"]]
    refuse([_no_array(files, "path", name) for name in needed if name not in files])
    return {name: as_tensor(np.array(files[name].array), dtype) for name, dtype in wanted.items() if name in files}


class ArraySource(Source):
    """The rows of mapped arrays that are one split's, read as they are asked for."""

    def __init__(self, columns: Mapping[str, MappedArray], rows: Indices, casts: Mapping[str, torch.dtype]) -> None:
        self.columns, self.rows, self.casts = dict(columns), rows, dict(casts)
        self.size, self.names = len(rows), tuple(columns)

    def take(self, rows: Rows, place: tuple[int | str, ...] = ()) -> Batch:
        """Copies of the samples of these rows."""
        index = self.rows[rows if isinstance(rows, slice) else rows.numpy()]
        return {name: as_tensor(column.array[index], self.casts[name]) for name, column in self.columns.items()}

    def in_memory(self) -> Source:
        """The same samples as tensors; only where it is asked for."""
        return TensorSource(self.take(slice(None)))

    @property
    def light(self) -> bool:
        """Whether the system keeps what it reads of the files, so that a batch is soon made."""
        return sum(column.dtype.itemsize * math.prod(column.shape) for column in self.columns.values()) <= CHECKED


def as_tensor(array: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """An array as a tensor of that dtype, which is no part of a file."""
    # An array in a zip file may begin at an odd address, and one may be in the other order of bytes.
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return torch.from_numpy(native.copy() if not native.flags.writeable else native).to(dtype)


def _check(
    files: Mapping[str, MappedArray], target: str | None, beside: Mapping[str, str], dtypes: Mapping[str, str]
) -> None:
    errors = [_no_array(files, argument, name) for name, argument in beside.items() if name not in files]
    errors += [_no_array(files, ("dtypes", name), name) for name in dtypes if name not in files]
    errors += [
        ArgumentError(
            argument, f"the array {name!r} has more than a value for each sample", found=list(files[name].shape)
        )
        for name, argument in beside.items()
        if name in files and len(files[name].shape) > 1
    ]
    if target is not None and target not in files:
        errors.append(_no_array(files, "target", target))
    for name, dtype in dtypes.items():
        if dtype not in DTYPES:
            near = nearest(dtype, DTYPES)
            errors.append(
                ArgumentError(("dtypes", name), "no dtype", found=dtype, expected=" | ".join(DTYPES), nearest=near)
            )
    sizes = {name: array.shape[0] for name, array in files.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
        errors.append(ArgumentError("path", f"the arrays have different numbers of samples: {shown}"))
    for name, array in files.items():
        if array.dtype.kind == "U" and name not in beside:
            errors.append(ArgumentError("path", f"the array {name!r} holds texts, not numbers"))
        elif array.dtype.kind == "f" and array.dtype.itemsize * math.prod(array.shape) <= CHECKED:
            errors += _not_finite(name, array)
    if target is not None and target in files:
        errors += _target_errors(target, files[target])
    refuse(errors)


def _target_errors(name: str, array: MappedArray) -> list[ArgumentError]:
    if array.dtype.kind not in "iu" or len(array.shape) > 1 or not array.shape[0]:
        return []
    least, most = int(array.array.min()), int(array.array.max())
    if least < 0:
        return [ArgumentError("target", f"the target {name!r} has a class below 0", found=least)]
    if most + 1 > max(20, array.shape[0] // 2):
        message = f"the target {name!r} has {most + 1:,} classes for {array.shape[0]:,} samples: too many"
        return [ArgumentError("target", message, hint="if it is a number: save it as floating-point numbers")]
    return []


def _no_array(files: Mapping[str, MappedArray], at: str | tuple[str, ...], name: str) -> ArgumentError:
    expected, near = f"one of {', '.join(files)}", nearest(name, files)
    hint = "if there is no target: data.target=null" if at == "target" else None
    return ArgumentError(at, f"there is no array {name!r}", expected=expected, nearest=near, hint=hint)


def _not_finite(name: str, array: MappedArray) -> list[ArgumentError]:
    """The first sample that holds a NaN or an infinity."""
    step = max(1, CHUNK // max(1, array.dtype.itemsize * math.prod(array.shape[1:])))
    for start in range(0, array.shape[0], step):
        finite = np.isfinite(array.array[start : start + step]).reshape(-1, max(1, math.prod(array.shape[1:])))
        if not finite.all():
            row = start + int(np.flatnonzero(~finite.all(axis=1))[0])
            return [ArgumentError("path", f"the array {name!r} isn't finite in sample {row}")]
    return []


def _dtype(dtype: np.dtype[Any], given: str | None) -> torch.dtype:
    if given is not None:
        return DTYPES[given]
    return torch.float32 if dtype.kind == "f" else torch.bool if dtype.kind == "b" else torch.int64


def _facts(
    columns: Mapping[str, MappedArray], target: str | None, classes: NDArray[Any] | None, train: Indices
) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if "x" in columns:
        shape = columns["x"].shape[1:]
        facts["num_features"] = math.prod(shape)
        if len(shape) == 3:
            facts |= dict(zip(("in_channels", "height", "width"), shape, strict=True))
    if classes is not None:
        count = int(classes.max()) + 1
        counts = np.bincount(classes[train], minlength=count).tolist()
        return facts | class_facts([str(i) for i in range(count)], counts) | {"task": "classification"}
    if target is not None and target in columns:
        facts["num_outputs"] = math.prod(columns[target].shape[1:])
        facts |= {"task": "regression"} if columns[target].dtype.kind == "f" else {}
    return facts


def _notes(columns: Mapping[str, MappedArray], casts: Mapping[str, torch.dtype]) -> list[str]:
    shown = [
        f"{name} {list(array.shape)} {array.dtype} as {str(casts[name]).removeprefix('torch.')}"
        for name, array in columns.items()
    ]
    return [f"arrays: {', '.join(shown)}"]
