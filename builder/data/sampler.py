"""Which samples a batch holds: a pure function of (seed, epoch, rank), entered at any batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from builder.hashing import derive


class Ticket(NamedTuple):
    """A batch to be made: its epoch and number, and its samples (indices, or a range of them)."""

    epoch: int
    batch: int
    rows: Tensor | slice


class Sampler:
    """The batches of one split for one of `world_size` processes.

    With `shuffle` the order of epoch e is a pure function of (seed, e), else it is that of the samples. It is cut into
    batches of `world_size` times `batch_size`, and each rank takes its part of every one: together they hold the
    samples that one process with so large a batch would.

    All ranks have equally many batches. With `even` they also have equally many samples in each, for which up to
    `world_size - 1` samples come twice in the last one (`padding` says how many). Without it every sample comes
    exactly once, unless there are too few for all ranks.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        even: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert num_samples > 0 and batch_size > 0 and 0 <= rank < world_size
        self.num_samples, self.batch_size = num_samples, batch_size
        self.seed, self.shuffle, self.drop_last, self.even = seed, shuffle, drop_last, even
        self.rank, self.world_size = rank, world_size
        self.epoch, self.start = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; a new one begins at its first batch."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def set_position(self, epoch: int, batch: int) -> None:
        """Let the next iteration begin at batch `batch` of epoch `epoch`; iterations after it begin at the first.

        An iteration is one that gives a batch.
        """
        self.epoch, self.start = epoch, batch

    @property
    def padding(self) -> int:
        """How many samples come twice in an epoch, so that all ranks have enough."""
        if self.drop_last:
            return 0
        few = self.num_samples < self.world_size or self.batch_size == 1
        return -self.num_samples % self.world_size if self.even or few else 0

    def order(self) -> Tensor:
        """The indices of this epoch's samples for all ranks in their order, int64 [num_samples + padding]."""
        if self.shuffle:
            generator = np.random.Generator(np.random.PCG64(derive(self.seed, "order", self.epoch)))
            order = torch.from_numpy(generator.permutation(self.num_samples))
        else:
            order = torch.arange(self.num_samples)
        if not self.padding:
            return order
        return order[torch.arange(self.num_samples + self.padding) % self.num_samples]

    def bounds(self, batch: int) -> tuple[int, int]:
        """Where this rank's part of a batch begins and ends in the order."""
        start, stop = self._cut(batch), self._cut(batch + 1)
        size = stop - start
        return start + size * self.rank // self.world_size, start + size * (self.rank + 1) // self.world_size

    def _cut(self, batch: int) -> int:
        """Where the batch of all ranks begins in the order."""
        size, total = self.batch_size * self.world_size, self.num_samples + self.padding
        if batch >= len(self):
            return len(self) * size if self.drop_last else total
        # A last batch that isn't enough for all ranks takes a few samples of the one before.
        return min(batch * size, total - self.world_size)

    def __len__(self) -> int:
        size = self.batch_size * self.world_size
        return self.num_samples // size if self.drop_last else -(-(self.num_samples + self.padding) // size)

    def __iter__(self) -> Iterator[Ticket]:
        # All of it happens at the first ticket: Lightning makes an iterator of a loader only to see that it can.
        epoch, first, self.start = self.epoch, self.start, 0
        order = self.order() if self.shuffle or self.padding else None
        if self.world_size == 1 and order is not None:  # what `bounds` says, in one call for the whole epoch
            for batch, rows in enumerate(order.split(self.batch_size)[first : len(self)], first):
                yield Ticket(epoch, batch, rows)
            return
        for batch in range(first, len(self)):
            start, stop = self.bounds(batch)
            yield Ticket(epoch, batch, slice(start, stop) if order is None else order[start:stop])
