"""Weights in formats that hold tensors only: safetensors, and NumPy's `.npz`."""

from __future__ import annotations

import pathlib
import zipfile
from typing import IO, Any

import numpy as np
import safetensors
import torch
from torch import Tensor

from builder.weights.entries import DAMAGED_ZIP, Entry, WeightsError, WeightsFile

DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16, "I16": torch.int16,
    "U32": torch.uint32, "I32": torch.int32, "U64": torch.uint64, "I64": torch.int64,
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
"""dtypes by their names in a header of safetensors."""

NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def open_safetensors(path: pathlib.Path) -> WeightsFile:
    """A file of safetensors, mapped.

    Raises:
        WeightsError: it is damaged, or has a dtype that torch lacks.
    """
    try:
        handle: Any = safetensors.safe_open(path, framework="pt", device="cpu")
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is damaged or incomplete: {error}", "fetch or copy it again") from error
    entries = {key: _entry(path, key, handle.get_slice(key)) for key in handle.keys()}
    return WeightsFile(path, "safetensors", entries, handle.get_tensor, metadata=handle.metadata() or {})


def _entry(path: pathlib.Path, key: str, header: Any) -> Entry:
    dtype = DTYPES.get(header.get_dtype())
    if dtype is None:
        raise WeightsError(f"{path} holds {key!r} as {header.get_dtype()}, which PyTorch doesn't have here")
    return Entry(tuple(header.get_shape()), dtype, key)


def open_npz(path: pathlib.Path) -> WeightsFile:
    """An archive of NumPy arrays, read one by one; names keep their slashes.

    Raises:
        WeightsError: it is damaged, or holds anything but numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {name.removesuffix(".npy"): _array_entry(path, archive, name) for name in archive.namelist()}
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    except DAMAGED_ZIP as error:
        raise WeightsError(f"{path} is damaged or incomplete: {error}", "fetch or copy it again") from error
    return WeightsFile(path, "an archive of NumPy arrays", entries, lambda name: _read_array(path, name))


def _array_entry(path: pathlib.Path, archive: zipfile.ZipFile, name: str) -> Entry:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version not in NPY_HEADERS:
            raise WeightsError(f"{path} holds {name!r}, an array of named fields, not a tensor")
        shape, _, dtype = NPY_HEADERS[version](file)
    return Entry(tuple(shape), _torch_dtype(path, name, dtype), name)


def _torch_dtype(path: pathlib.Path, name: str, dtype: np.dtype[Any]) -> torch.dtype:
    if dtype.hasobject:
        raise WeightsError(
            f"{path} is not opened: {name!r} holds Python objects, which may run code",
            "where the file comes from, save arrays of numbers only",
        )
    try:
        return torch.from_numpy(np.empty(0, dtype.newbyteorder("="))).dtype
    except TypeError:
        hint = "save bfloat16 as float32, or as safetensors" if dtype.kind == "V" else None
        raise WeightsError(f"{path} holds {name!r} as {dtype.str}, which PyTorch can't take", hint) from None


def _read_array(path: pathlib.Path, name: str) -> Tensor:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            array = _array(file)
    except (OSError, *DAMAGED_ZIP) as error:
        raise WeightsError(f"{path} is damaged at {name!r}: {error}", "fetch or copy it again") from error
    return torch.from_numpy(array)


def _array(file: IO[bytes]) -> np.ndarray[Any, Any]:
    array = np.lib.format.read_array(file, allow_pickle=False)
    return np.require(array, array.dtype.newbyteorder("="), ["C_CONTIGUOUS", "W"])
