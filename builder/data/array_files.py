"""Arrays in `.npy` and `.npz` files, mapped into memory: found by their headers, and read where they are sliced."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from builder.data.facts import ArgumentError, Refusal, refuse
from builder.data.table_file import no_file

UNPACKED = 1 << 32
"""Bytes of a compressed array that are unpacked into memory."""


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
