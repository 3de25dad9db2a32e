"""Where samples come from: tensors in memory, or anything that can be asked for its i-th sample."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.data.facts import num_samples
from builder.errors import RunError
from builder.seeding import reseed_cpu, undisturbed

Batch = dict[str, Tensor]
Rows = Tensor | slice
"""Which samples: their indices [n], int64, or a range of them."""
Finish = Callable[[Batch], Batch]
"""What is done to each batch as it is taken, for all samples at once."""
Place = tuple[int | str, ...]
FINGERPRINTED = 64
"""Samples that a fingerprint is taken of, where they aren't in memory."""


class Source(Mapping[str, Any]):
    """The samples of one split: a mapping from the names of its tensors to what can be sliced like those tensors.

    Which of them a batch holds is up to whoever calls `take`.
    """

    size: int
    """The number of samples."""
    names: tuple[str, ...]
    """The names of the tensors of a batch."""

    @abstractmethod
    def take(self, rows: Rows, place: Place = ()) -> Batch:
        """The samples of these rows, as a batch.

        `place` is where in training this happens; what is drawn while a sample is made follows from it.
        """

    @property
    def num_bytes(self) -> int | None:
        """What all samples take in memory; None if it isn't known."""
        return None

    @property
    def repeatable(self) -> bool:
        """Whether a sample is always the same, so that it may be kept."""
        return True

    @property
    def light(self) -> bool:
        """Whether a batch is made so soon that no other process need make it ahead of time."""
        return False

    def in_memory(self) -> Source:
        """The same samples, all in memory."""
        return self

    def fingerprint(self) -> str:
        """A hash by which a change of the data is seen: of the number of samples and, at most, 64 of them."""
        rows = torch.linspace(0, self.size - 1, min(self.size, FINGERPRINTED)).long()
        return _hash({**self.take(rows), "size": torch.tensor([self.size])})

    def __getitem__(self, name: str) -> Any:
        if name not in self.names:
            raise KeyError(name)
        return Column(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class Column:
    """One tensor of a source, of which no more is read than is asked for."""

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name = source, name

    def __len__(self) -> int:
        return self.source.size

    def __getitem__(self, rows: Rows) -> Tensor:
        return self.source.take(rows)[self.name]


class TensorSource(Source):
    """Named tensors in memory, each sliced whole. `finish` is applied to each batch."""

    def __init__(self, tensors: Mapping[str, Tensor], finish: Finish | None = None) -> None:
        self.tensors, self.finish = dict(tensors), finish
        self.size = num_samples(tensors)
        self.names = tuple(tensors if finish is None else self.take(slice(0, 1)))

    def take(self, rows: Rows, place: Place = ()) -> Batch:
        """The samples of these rows: copies for indices, views for a range."""
        if isinstance(rows, slice):
            batch = {name: tensor[rows] for name, tensor in self.tensors.items()}
        else:
            batch = {name: tensor.index_select(0, rows) for name, tensor in self.tensors.items()}
        return batch if self.finish is None else self.finish(batch)

    @property
    def light(self) -> bool:
        """It is sliced in no time."""
        return True

    def to(self, device: torch.device) -> TensorSource:
        """The same tensors on a device."""
        return TensorSource({name: tensor.to(device) for name, tensor in self.tensors.items()}, self.finish)

    @property
    def num_bytes(self) -> int:
        """What the tensors take in memory."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def fingerprint(self) -> str:
        """A hash of all samples."""
        return _hash(self.tensors)

    def __getitem__(self, name: str) -> Any:
        return self.tensors[name] if self.finish is None else super().__getitem__(name)


class Items(Protocol):
    """A map-style data set: `torch.utils.data.Dataset`, a list of samples, …"""

    def __len__(self) -> int:
        """The number of samples."""

    def __getitem__(self, index: int) -> Any:
        """The sample of that index."""


class ItemSource(Source):
    """Samples that are made one by one: mappings of tensors, arrays or numbers, or pairs of `x` and `target`.

    `rows` are the indices in `items` of this source's samples (all, if it is None). Where samples are `random`,
    Python's, NumPy's and torch's generators are seeded by place before each, so that it matters neither which process
    makes it nor what was made before. `num_bytes` is what all samples take in memory, if it is known.
    """

    def __init__(
        self,
        items: Items,
        rows: NDArray[np.int64] | None = None,
        *,
        random: bool = True,
        finish: Finish | None = None,
        num_bytes: int | None = None,
    ) -> None:
        self.of, self.rows, self.random, self.finish = items, rows, random, finish
        self.size = len(items) if rows is None else len(rows)
        self._num_bytes = num_bytes
        self.names = tuple(self.take(slice(0, 1)))

    @property
    def num_bytes(self) -> int | None:
        """What all samples take in memory, if that is known."""
        return self._num_bytes

    @property
    def repeatable(self) -> bool:
        """Whether samples are always the same."""
        return not self.random

    def take(self, rows: Rows, place: Place = ()) -> Batch:
        """The samples of these rows, stacked.

        Raises:
            RunError: one of them can't be made, or they aren't alike.
        """
        indices = range(*rows.indices(self.size)) if isinstance(rows, slice) else rows.tolist()
        with undisturbed() if self.random else nullcontext():
            batch = self._stacked(indices, place)
        return batch if self.finish is None else self.finish(batch)

    def in_memory(self) -> Source:
        """The same samples as tensors. Those that are always the same are made by several threads.

        Raises:
            RunError: one of them can't be made, or they aren't alike.
        """
        if self.random:
            with undisturbed():
                return TensorSource(self._stacked(range(self.size), ()), self.finish)
        first = self._stacked(range(1), ())
        whole = {name: tensor.new_empty((self.size, *tensor.shape[1:])) for name, tensor in first.items()}

        def put(row: int) -> None:
            sample = self._stacked(range(row, row + 1), ())
            for name, tensor in whole.items():
                if sample.keys() != whole.keys() or sample[name].shape[1:] != tensor.shape[1:]:
                    raise RunError(f"sample {row} of a split isn't like its first")
                tensor[row] = sample[name][0]

        with ThreadPoolExecutor() as threads:
            list(threads.map(put, range(self.size)))
        return TensorSource(whole, self.finish)

    def _stacked(self, rows: Sequence[int], place: Place) -> Batch:
        samples = [self._sample(int(row if self.rows is None else self.rows[row]), place) for row in rows]
        if not samples:
            return {name: tensor.new_empty((0, *tensor.shape)) for name, tensor in self._sample(0, place).items()}
        try:
            return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
        except (KeyError, RuntimeError, TypeError) as error:
            raise RunError(f"the samples of a batch aren't alike: {_one_line(error)}") from error

    def _sample(self, index: int, place: Place) -> Batch:
        if self.random:
            reseed_cpu(*place, "sample", index)
        try:
            return as_sample(self.of[index])
        except Exception as error:  # a user's data set may raise anything
            raise RunError(f"sample {index} of the data can't be made: {_one_line(error)}") from error


def as_sample(value: Any) -> Batch:
    """One sample as named tensors.

    Raises:
        TypeError: it is nothing of the kind.
    """
    if isinstance(value, Mapping):
        return {str(name): as_tensor(item) for name, item in value.items()}
    if isinstance(value, tuple | list) and len(value) == 2:
        return {"x": as_tensor(value[0]), "target": as_tensor(value[1])}
    raise TypeError(f"a sample is a {type(value).__name__}, neither a mapping nor a pair of x and target")


def as_tensor(value: Any) -> Tensor:
    """A tensor, array or number as a tensor; numbers become float32 and int64.

    Raises:
        TypeError: it is none of them.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, bool | int):
        return torch.tensor(int(value))
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float32)
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{type(value).__name__} holds no numbers")
    tensor = torch.from_numpy(np.array(array))
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def _hash(tensors: Mapping[str, Tensor]) -> str:
    """BLAKE2b of the names, shapes, dtypes and contents of tensors."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
        digest.update(tensor.cpu().contiguous().numpy().view(np.uint8).data)
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
