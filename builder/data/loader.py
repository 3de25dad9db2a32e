"""Batches from tensors in memory, in an order that is a function of (seed, epoch) and can be entered at any batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from builder.data.facts import num_samples
from builder.hashing import derive


@dataclass(frozen=True, slots=True)
class _BatchSampler:
    sampler: TensorLoader
    batch_size: int


class TensorLoader:
    """Batches as dicts of named tensors, each sliced whole: no sample is taken or collated alone.

    `tensors` have the samples in their first dimension. With `shuffle` the order of epoch e is a pure function of
    (seed, e); `set_epoch` chooses the epoch, `set_position` also the batch with which the next iteration begins.
    Without `shuffle` the order is that of the tensors.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
    ) -> None:
        assert batch_size > 0 and len({len(tensor) for tensor in tensors.values()}) == 1
        self.tensors, self.batch_size = dict(tensors), batch_size
        self.seed, self.shuffle, self.drop_last = seed, shuffle, drop_last
        self.num_samples = num_samples(tensors)
        self.epoch, self.start = 0, 0

    @property
    def batch_sampler(self) -> _BatchSampler:
        """Where Lightning looks for `sampler.set_epoch`, which it calls before each epoch.

        There is no attribute `sampler`: Lightning would take the loader for torch's own and make it anew.
        """
        return _BatchSampler(self, self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; a new one begins at its first batch."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def set_position(self, epoch: int, batch: int) -> None:
        """Let the next iteration begin at batch `batch` of epoch `epoch`; iterations after it begin at the first."""
        self.epoch, self.start = epoch, batch

    def order(self) -> Tensor:
        """The indices [num_samples] of this epoch's samples in their order, int64."""
        if not self.shuffle:
            return torch.arange(self.num_samples)
        generator = np.random.Generator(np.random.PCG64(derive(self.seed, "order", self.epoch)))
        return torch.from_numpy(generator.permutation(self.num_samples))

    def __len__(self) -> int:
        whole, rest = divmod(self.num_samples, self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        first, self.start = self.start, 0
        return self._shuffled(first) if self.shuffle else self._in_order(first)

    def _shuffled(self, first: int) -> Iterator[dict[str, Tensor]]:
        tensors, size = self.tensors.items(), self.batch_size
        order = self.order()
        for batch in range(first, len(self)):
            index = order[batch * size : (batch + 1) * size]
            yield {name: tensor.index_select(0, index) for name, tensor in tensors}

    def _in_order(self, first: int) -> Iterator[dict[str, Tensor]]:
        tensors, size = self.tensors.items(), self.batch_size
        for batch in range(first, len(self)):
            yield {name: tensor[batch * size : (batch + 1) * size] for name, tensor in tensors}
