"""A file of weights as all here see it, whatever its format: names, shapes, dtypes, and one tensor at a time."""

from __future__ import annotations

import math
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from builder.errors import BuilderError, printable

AVERAGES = "n_averaged"
"""The counter that `torch.optim.swa_utils.AveragedModel` keeps beside the weights, which lie under `module.`."""


class WeightsError(BuilderError):
    """A file of weights can't be read; `hint` is the way out."""

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message, self.hint = _safe(message), None if hint is None else _safe(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  hint:     {self.hint}"


DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, RuntimeError, OverflowError)
"""What reading a damaged archive may end in; RuntimeError is for kinds that aren't read, such as encrypted ones."""


def _safe(text: str) -> str:
    """A text that may hold names from a file, each line as a terminal may be given it."""
    return "\n".join(map(printable, text.split("\n")))


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file: its key there, and the version of the module that wrote it, where the file says one."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    source: str
    version: int | None = None

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """An open file of weights. Tensors are read when they are asked for, from mapped memory where the format allows.

    Attributes:
        path: the file, or the index of a sharded one.
        format: in words.
        entries: each tensor by its name, in the file's order.
        reader: gives a tensor by its key in the file.
        notes: what was unwrapped and what was left out, a clause each.
        metadata: what the file says about itself.
    """

    path: pathlib.Path
    format: str
    entries: Mapping[str, Entry]
    reader: Callable[[str], Tensor]
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    shards: tuple[pathlib.Path, ...] = ()

    @property
    def files(self) -> tuple[pathlib.Path, ...]:
        """All files that are read: the one at `path`, and the shards that it names."""
        return (self.path, *self.shards)

    def keys(self) -> list[str]:
        """The names of all tensors, in the file's order."""
        return list(self.entries)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor, from the file's header."""
        return self.entries[key].shape

    def dtype(self, key: str) -> torch.dtype:
        """The dtype of a tensor, from the file's header."""
        return self.entries[key].dtype

    def read(self, key: str) -> Tensor:
        """A tensor on the CPU, with the shape and dtype that the header says; it isn't to be changed.

        Raises:
            WeightsError: the file is damaged there.
        """
        return self.reader(self.entries[key].source)

    def noting(self, *notes: str) -> WeightsFile:
        """The same file with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    def only(self, names: Iterable[str]) -> WeightsFile:
        """The same file with some of its tensors."""
        return replace(self, entries={name: self.entries[name] for name in names})

    def without_prefix(self, prefix: str) -> WeightsFile:
        """The same file with a prefix taken off all names, which begin with it."""
        return replace(self, entries={name[len(prefix) :]: entry for name, entry in self.entries.items()})


def unwrapped(file: WeightsFile, prefixes: Collection[str]) -> WeightsFile:
    """A file without those of these prefixes that all of its names have, noted."""
    taken = ""
    while file.entries:
        file = _without_counter(file, prefixes)
        prefix = next((each for each in prefixes if all(name.startswith(each) for name in file.entries)), None)
        if prefix is None or prefix in file.entries:
            break
        taken, file = taken + prefix, file.without_prefix(prefix)
    return file.noting(f"the prefix {taken!r} of all names was taken off") if taken else file


def _without_counter(file: WeightsFile, prefixes: Collection[str]) -> WeightsFile:
    others = [name for name in file.entries if name != AVERAGES]
    is_average = "module." in prefixes and others and all(name.startswith("module.") for name in others)
    if not is_average or len(others) == len(file.entries):
        return file
    return file.only(others).noting(f"the averages of an AveragedModel; its counter {AVERAGES!r} was left out")
