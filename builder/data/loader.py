"""Batches in an order that is a function of (seed, epoch) and can be entered at any batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from builder.data.sampler import Sampler, Ticket
from builder.data.sources import Batch, Source, TensorSource
from builder.errors import RunError
from builder.hashing import derive


class Change(Protocol):
    """What transforms do to a batch; what they draw comes from the generator."""

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The changed batch."""


@dataclass(frozen=True, slots=True)
class _BatchSampler:
    sampler: Sampler
    batch_size: int


class TensorLoader:
    """Batches as dicts of named tensors, each sliced whole: no sample is taken or collated alone.

    `tensors` have the samples in their first dimension, or are a source of samples. With `shuffle` the order of epoch e
    is a pure function of (seed, e); `set_epoch` chooses the epoch, `set_position` also the batch with which the next
    iteration begins. Without `shuffle` the order is that of the tensors. `change` is done to each batch, with a
    generator that is seeded by (seed, epoch, batch, rank). `keep` reads a source that isn't in memory whole, at the
    first batch.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        even: bool = True,
        change: Change | None = None,
        keep: bool = False,
    ) -> None:
        self.source: Source = tensors if isinstance(tensors, Source) else TensorSource(tensors)
        self.sampler_ = Sampler(
            self.source.size, batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last, even=even
        )  # fmt: skip
        self.change, self.keep = change, keep
        self.device: torch.device | None = None

    @property
    def batch_sampler(self) -> _BatchSampler:
        """Where Lightning looks for `sampler.set_epoch`, which it calls before each epoch.

        There is no attribute `sampler`: Lightning would take the loader for torch's own and make it anew.
        """
        return _BatchSampler(self.sampler_, self.sampler_.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; a new one begins at its first batch."""
        self.sampler_.set_epoch(epoch)

    def set_position(self, epoch: int, batch: int) -> None:
        """Let the next iteration begin at batch `batch` of epoch `epoch`; iterations after it begin at the first."""
        self.sampler_.set_position(epoch, batch)

    def set_rank(self, rank: int, world_size: int) -> None:
        """Give the batches of one of several processes."""
        assert 0 <= rank < world_size
        self.sampler_.rank, self.sampler_.world_size = rank, world_size

    def reside(self, device: torch.device) -> None:
        """Keep all samples on a device, and slice them there."""
        self.device, self.keep = device, True

    @property
    def seed(self) -> int:
        """What the order follows from, together with the epoch."""
        return self.sampler_.seed

    @property
    def batch_size(self) -> int:
        """Samples in a batch of one process."""
        return self.sampler_.batch_size

    @property
    def num_samples(self) -> int:
        """Samples of all processes together, none twice."""
        return self.sampler_.num_samples

    @property
    def shuffle(self) -> bool:
        """Whether each epoch has an order of its own."""
        return self.sampler_.shuffle

    @shuffle.setter
    def shuffle(self, shuffle: bool) -> None:
        self.sampler_.shuffle = shuffle

    @property
    def epoch(self) -> int:
        """The epoch whose order comes next."""
        return self.sampler_.epoch

    @property
    def padding(self) -> int:
        """How many samples come twice in an epoch, so that all processes have enough."""
        return self.sampler_.padding

    def order(self) -> Tensor:
        """The indices of this epoch's samples for all ranks in their order, int64."""
        return self.sampler_.order()

    def __len__(self) -> int:
        return len(self.sampler_)

    def __iter__(self) -> Iterator[Batch]:
        first = self.sampler_.start
        tickets = iter(self.sampler_)
        if self.change is None:
            return self._batches(tickets)
        return self._changed(tickets, first, self.change)

    def _batches(self, tickets: Iterator[Ticket]) -> Iterator[Batch]:
        self._settle()
        source, device = self.source, self.device
        if isinstance(source, TensorSource) and device is None:
            return (source.take(rows) for _, _, rows in tickets)
        if isinstance(source, TensorSource):
            return (source.take(rows if isinstance(rows, slice) else rows.to(device)) for _, _, rows in tickets)
        return (source.take(rows, (self.seed, epoch)) for epoch, _, rows in tickets)

    def _settle(self) -> None:
        """Read the samples into memory, or to their device, if they are to be there."""
        with torch.inference_mode(False):  # evaluation may read them first, and they are there for training too
            if self.keep and not isinstance(self.source, TensorSource):
                self.source = self.source.in_memory()
            if self.device is not None and isinstance(self.source, TensorSource):
                self.source = self.source.to(self.device)

    def _changed(self, tickets: Iterator[Ticket], first: int, change: Change) -> Iterator[Batch]:
        sampler, epoch = self.sampler_, self.sampler_.epoch
        generator = torch.Generator(self.device or "cpu")
        for number, batch in enumerate(self._batches(tickets), first):
            generator.manual_seed(derive(sampler.seed, "transforms", epoch, number, sampler.rank))
            yield change(batch, generator)


class WorkerLoader(TensorLoader):
    """The same batches in the same order, made by `num_workers` other processes ahead of time.

    The processes stay from one epoch to the next.
    """

    def __init__(self, tensors: Mapping[str, Tensor], batch_size: int, *, num_workers: int, **options: Any) -> None:
        super().__init__(tensors, batch_size, **options)
        assert num_workers > 0
        self.num_workers = num_workers
        self._tickets = _Tickets()
        self._loader: DataLoader[Any] | None = None

    def _batches(self, tickets: Iterator[Ticket]) -> Iterator[Batch]:
        self._settle()
        if self._loader is None:
            self._loader = DataLoader(
                _Fetch(self.source, self.seed), batch_size=None, sampler=self._tickets, num_workers=self.num_workers,
                collate_fn=_same, pin_memory=torch.cuda.is_available(), persistent_workers=True,
                generator=torch.Generator(),  # else each epoch would draw from the generator of training
            )  # fmt: skip
        self._tickets.coming = tickets
        yield from map(_checked, self._loader)


class _Tickets:
    """The tickets of the epoch at hand, for a DataLoader that lasts longer."""

    coming: Iterator[Ticket]

    def __iter__(self) -> Iterator[tuple[int, slice | NDArray[Any]]]:
        for epoch, _, rows in self.coming:
            yield epoch, rows if isinstance(rows, slice) else rows.numpy()


@dataclass(frozen=True, slots=True)
class _Failed:
    """What a worker gives for a batch that can't be made."""

    reason: str


class _Fetch(Dataset[Any]):
    """Makes a batch in a worker."""

    def __init__(self, source: Source, seed: int) -> None:
        self.source, self.seed = source, seed

    def __getitem__(self, ticket: tuple[int, slice | NDArray[Any]]) -> Batch | _Failed:
        epoch, rows = ticket
        try:
            return self.source.take(rows if isinstance(rows, slice) else torch.from_numpy(rows), (self.seed, epoch))
        except RunError as error:  # an exception would come over with its trace
            return _Failed(str(error))


def _same(made: Any) -> Any:
    return made


def _checked(made: Any) -> Batch:
    if isinstance(made, _Failed):
        raise RunError(made.reason)
    return made
