"""Reads an ordinary file of `torch.save` into mapped memory: in a tenth of the time of `torch.load`, with its tensors.

PyTorch's own reader of untrusted files is written in Python, and slow where there are many tensors, as those of an
optimiser's state. Here Python's reader in C is used, which can be given nothing to call but what is listed below: three
constructors of plain values. Of everything else nothing is known, and `torch.load` reads the file, or refuses it.
"""

from __future__ import annotations

import io
import mmap
import pathlib
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import torch
from torch import Tensor

STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
"""The classes by which files say the dtype of a tensor."""
DEEPEST = 64
LOCAL_HEADER, LOCAL_SIGNATURE = struct.Struct("<4s22xHH"), b"PK\x03\x04"
"""How a member of a zip file begins: a signature, what the list of members says too, lengths of name and more."""


class NotOrdinary(Exception):
    """A file that isn't known here."""


class _Stored:
    """A tensor as the file describes it."""

    __slots__ = ("arguments",)

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


class _Reader(pickle.Unpickler):
    """Knows a few names and no others.

    A pickle may set attributes of what it names. So it gets nothing that outlives the reading and can be changed:
    dtypes and OrderedDict can't be, and the function that describes tensors is of this reader alone.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: _Stored(*arguments),
            **{("torch", name): dtype for name, dtype in STORAGES.items()},
        }

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name of the file.

        Raises:
            NotOrdinary: nothing does.
        """
        try:
            return self._known[module, name]
        except KeyError:
            raise NotOrdinary(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        """What is said of a storage: its dtype, its member of the archive, how many numbers it holds."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise NotOrdinary("a reference to something else than a storage")
        return dtype, key, count


Members = Mapping[str, zipfile.ZipInfo]


def members_of(file: pathlib.Path | BinaryIO) -> Members:
    """The list of the members of a zip file, by name.

    Raises:
        OSError: it can't be read.
        Exception: any of `DAMAGED_ZIP`.
    """
    with zipfile.ZipFile(file) as archive:
        return {info.filename: info for info in archive.infolist()}


def read_mapped(path: pathlib.Path, *, lists: bool = True, members: Members | None = None) -> Any:
    """What a file of `torch.save` holds, its tensors in private mapped memory.

    Args:
        path: the file.
        lists: whether what lies in lists is wanted; without it they are empty.
        members: the list of its members, where that was read before.

    Raises:
        NotOrdinary: it holds something that isn't known here, or is damaged.
        OSError: it can't be read.
    """
    with open(path, "rb", buffering=0) as file:
        return _File(file, members or members_of(file)).tree(lists=lists)


class _File:
    """A mapped archive, and the storages of it that were used."""

    def __init__(self, file: BinaryIO, members: Members) -> None:
        self.file, self.members = file, members
        self.mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.storages: dict[str, Tensor] = {}
        self.filled: set[int] = set()
        self.lists = True
        pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise NotOrdinary("no archive of torch.save")
        self.root = pickles[0].removesuffix("data.pkl")

    def tree(self, *, lists: bool) -> Any:
        """The content: all of it, or what doesn't lie in lists."""
        self.lists = lists
        order = self._bytes(f"{self.root}byteorder") if f"{self.root}byteorder" in self.members else b""
        if order != sys.byteorder.encode():
            raise NotOrdinary("the order of bytes of another machine")
        try:
            tree = _Reader(io.BytesIO(self._bytes(f"{self.root}data.pkl"))).load()
            return self._filled(tree, 0)
        except (NotOrdinary, OSError):
            raise
        except Exception as error:  # a damaged pickle may end in any of them
            raise NotOrdinary(str(error)) from error

    def _filled(self, value: Any, depth: int) -> Any:
        """A value with tensors in the place of their descriptions; mappings and lists are filled where they are."""
        kind = type(value)
        if kind in _PLAIN or id(value) in self.filled or (kind is tuple and _PLAIN.issuperset(map(type, value))):
            return value
        if kind is _Stored:
            return self._tensor(*value.arguments)
        if depth > DEEPEST or kind not in (dict, OrderedDict, list):
            raise NotOrdinary(f"a {kind.__name__}, or nested too deeply")
        self.filled.add(id(value))
        if kind is list:
            value[:] = [self._filled(item, depth + 1) for item in value] if self.lists else ()
            return value
        attributes = vars(value).keys() if kind is OrderedDict else ()
        if not _PLAIN.issuperset(map(type, value)) or not {"_metadata"}.issuperset(attributes):
            raise NotOrdinary("a mapping with other keys than plain values, or with attributes")
        for key, item in value.items():
            value[key] = self._filled(item, depth + 1)
        return value

    def _tensor(
        self, storage: tuple[torch.dtype, str, int], offset: int, size: Sequence[int], stride: Sequence[int],
        requires_grad: bool, hooks: Any, metadata: Any = None,
    ) -> Tensor:  # fmt: skip
        if hooks or metadata:
            raise NotOrdinary("a tensor with hooks")
        tensor = self._storage(*storage).as_strided(size, stride, offset)  # which refuses what the storage hasn't
        return tensor.requires_grad_() if requires_grad else tensor

    def _storage(self, dtype: torch.dtype, key: str, count: int) -> Tensor:
        """A storage as a tensor of one dimension; the same for all tensors that share it."""
        found = self.storages.get(key)
        if found is None:
            start, length = self._place(f"{self.root}data/{key}")
            if length != count * dtype.itemsize:
                raise NotOrdinary(f"a storage of {length} bytes for {count} numbers")
            found = self._numbers(dtype, count, start)
            self.storages[key] = found
        if found.dtype != dtype:
            raise NotOrdinary("a storage of two dtypes")
        return found

    def _numbers(self, dtype: torch.dtype, count: int, start: int) -> Tensor:
        if count == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self.mapped, dtype=dtype, count=count, offset=start)

    def _bytes(self, name: str) -> bytes:
        start, length = self._place(name)
        return self._read(start, length)

    def _read(self, start: int, length: int) -> bytes:
        """Bytes of the file. To look at mapped memory takes a page each time, of which the tensors may need none."""
        self.file.seek(start)
        return self.file.read(length)

    def _place(self, name: str) -> tuple[int, int]:
        """Where a member's content begins, and how many bytes it has."""
        info = self.members.get(name)
        if info is None or info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise NotOrdinary(f"no plain member {name}")
        signature, names, more = LOCAL_HEADER.unpack(self._read(info.header_offset, LOCAL_HEADER.size))
        start = info.header_offset + LOCAL_HEADER.size + names + more
        if signature != LOCAL_SIGNATURE or start + info.file_size > len(self.mapped):
            raise NotOrdinary(f"the member {name} is damaged")
        return start, info.file_size


_PLAIN = frozenset((str, bytes, bool, int, float, complex, type(None)))
