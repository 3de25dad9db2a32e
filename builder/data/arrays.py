"""Arrays in `.npy` and `.npz` files, mapped into memory: of a file no more is read than the samples of a batch."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from builder.data.facts import ArgumentError, Dataset, Refusal, check_texts, class_facts, refuse
from builder.data.sources import Batch, Rows, Source, TensorSource
from builder.data.splits import FRACTIONS, Indices, split_by, split_indices
from builder.data.table_file import no_file
from builder.errors import nearest
from builder.registry import datasets

CHECKED = 1 << 30
"""Arrays of up to so many bytes are searched for numbers that aren't finite; to read more would take too long."""
UNPACKED = 1 << 32
"""Bytes of a compressed array that are unpacked into memory."""
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


@dataclass(slots=True)
class MappedArray:
    """An array in a file, mapped when it is first needed; a copy for another process maps it anew.

    `offset` is where its data begins in the file; None for one that is in memory.
    """

    path: Path
    offset: int | None
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool = False
    held: NDArray[Any] | None = field(default=None, repr=False)

    @property
    def array(self) -> NDArray[Any]:
        """The array itself."""
        if self.held is None:
            order: Literal["F", "C"] = "F" if self.fortran else "C"
            if not all(self.shape):
                self.held = np.empty(self.shape, self.dtype)
            else:
                self.held = np.memmap(
                    self.path, self.dtype, "r", self.offset or 0, self.shape, order
                )  # fmt: skip
        return self.held

    def __getstate__(self) -> tuple[Any, ...]:
        held = self.held if self.offset is None else None
        return self.path, self.offset, self.dtype, self.shape, self.fortran, held

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.path, self.offset, self.dtype, self.shape, self.fortran, self.held = state


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


def mapped(path: str | Mapping[str, str]) -> dict[str, MappedArray]:
    """The arrays of an `.npz` file, of a folder of `.npy` files, or of files by name; mapped, not read.

    Raises:
        Refusal: a file or an array can't be read.
    """
    if isinstance(path, Mapping):
        return _gathered({name: (Path(file), ("path", name)) for name, file in path.items()})
    place = Path(path)
    if place.is_dir():
        files = {file.stem: (file, ("path",)) for file in sorted(place.glob("*.npy"))}
        if not files:
            refuse([ArgumentError("path", "there are no .npy files here", found=path)])
        return _gathered(files)
    if not place.is_file():
        refuse([no_file(path)])
    if place.suffix == ".npz":
        return _members(place)
    if place.suffix == ".npy":
        hint = f"data.path={{x: {path}, target: …}}"
        refuse([ArgumentError("path", "one array alone says nothing of what it is", found=path, hint=hint)])
    refuse(
        [ArgumentError("path", "the file's kind isn't known", found=path, expected="an .npz file or a folder of .npy")]
    )
    return {}


def _gathered(files: Mapping[str, tuple[Path, tuple[str, ...]]]) -> dict[str, MappedArray]:
    found: dict[str, MappedArray] = {}
    errors: list[ArgumentError] = []
    for name, (file, at) in files.items():
        if not file.is_file():
            errors.append(no_file(str(file), at))
            continue
        try:
            with open(file, "rb") as opened:
                found[name] = _header(opened, file, at)
        except Refusal as error:
            errors += error.errors
        except (ValueError, OSError, EOFError) as error:
            errors.append(ArgumentError(at, f"no array can be read: {error}", found=str(file)))
    refuse(errors)
    return found


def _header(opened: Any, file: Path, at: tuple[str, ...], *, within: int = 0) -> MappedArray:
    """The array whose header an opened file holds; `within` is where that begins in the file it is mapped from."""
    version = npy.read_magic(opened)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(opened)
    if dtype.hasobject:
        raise ArgumentError(at, "the array holds Python objects, which are never read", found=str(file))
    if dtype.kind not in "biufU":
        raise ArgumentError(at, f"the array holds {dtype}, not numbers", found=str(file))
    if not shape:
        raise ArgumentError(at, "the array has no dimension for samples", found=str(file))
    array = MappedArray(file, within + opened.tell(), dtype, shape, fortran)
    size = file.stat().st_size
    if array.offset is not None and array.offset + dtype.itemsize * math.prod(shape) > size:
        raise ArgumentError(at, f"the file ends before the array of shape {list(shape)} does", found=str(file))
    return array


def _members(file: Path) -> dict[str, MappedArray]:
    """The arrays of an `.npz` file, which is a zip file of `.npy` files."""
    found: dict[str, MappedArray] = {}
    errors: list[ArgumentError] = []
    try:
        with zipfile.ZipFile(file) as members, open(file, "rb") as raw:
            for info in members.infolist():
                name = info.filename.removesuffix(".npy")
                try:
                    found[name] = _member(members, info, raw, file)
                except Refusal as error:
                    errors += error.errors
                except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
                    errors.append(ArgumentError("path", f"the array {name!r} can't be read: {error}", found=str(file)))
    except (zipfile.BadZipFile, OSError) as error:
        refuse([ArgumentError("path", f"no .npz file can be read: {error}", found=str(file))])
    if not found and not errors:
        errors.append(ArgumentError("path", "there are no arrays in it", found=str(file)))
    refuse(errors)
    return found


def _member(members: zipfile.ZipFile, info: zipfile.ZipInfo, raw: Any, file: Path) -> MappedArray:
    if info.compress_type != zipfile.ZIP_STORED:
        if info.file_size > UNPACKED:
            hint = "save it with numpy.savez, which doesn't compress"
            raise ArgumentError("path", f"{info.filename!r} is too large to unpack", found=str(file), hint=hint)
        with members.open(info) as opened:
            array = np.lib.format.read_array(opened, allow_pickle=False)
        if array.dtype.kind not in "biufU" or not array.ndim:
            raise ArgumentError("path", f"the array {info.filename!r} holds no samples of numbers", found=str(file))
        return MappedArray(file, None, array.dtype, array.shape, held=array)
    raw.seek(info.header_offset + 26)  # the lengths of the name and of the extra field, which the data follows
    name, extra = (int.from_bytes(raw.read(2), "little") for _ in range(2))
    start = info.header_offset + 30 + name + extra
    with members.open(info) as opened:
        return _header(opened, file, ("path",), within=start)


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
