"""What is known of the samples that a model takes, and chunks of them on their way to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Generator, Tensor

from builder.data.changes import chain_of
from builder.data.facts import Refusal
from builder.errors import UsageError
from builder.use.records import Record

Place = int | str
"""Where a sample comes from: the line or row of a file, or a file's name."""
Batch = dict[str, Tensor]
TEXTS = ("Text", "Sequences")
"""Data sets whose samples are texts."""
ENCODED = ("Table", "ImageFolder")
"""Data sets whose tensors aren't what their files hold: who gives tensors gives them as the model takes them."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples with where each came from, and the records they were made of, if they were; and those that are bad."""

    places: Sequence[Place]
    batch: Batch
    bad: Sequence[tuple[Place, str]] = ()
    records: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a model takes: its dtype, and its shape without the batch dimension as far as that is fixed."""

    dtype: torch.dtype
    shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """What is known of the samples that a model takes.

    `state` is that of the run's data, None if it left none; `tensors` what the model takes; `names` those of the
    columns of `x`; `length` that of sequences.
    """

    state: Mapping[str, Any] | None
    tensors: Mapping[str, TensorSpec]
    names: Sequence[str] | None = None
    length: int = 0

    @property
    def kind(self) -> str:
        """The type of the run's data set, `tensors` if that left no state."""
        return "tensors" if self.state is None else str(self.state["type"])


@dataclass(slots=True)
class Reading:
    """Samples that are read: what `place` means, the chunks, and what is to be said of the input."""

    place: str
    chunks: Iterator[Chunk]
    notes: list[str] = field(default_factory=list)
    columns: Sequence[str] = ()


def changed(form: Form, reading: Reading, untouched: bool = False) -> Reading:
    """A reading whose batches went through the run's transforms of evaluation, as far as they need no target."""
    section = () if form.state is None or untouched else form.state.get("transforms", ())
    if section:
        parts = [part for part in chain_of(section).parts if "target" not in vars(part)]
        reading.chunks = map(lambda chunk: _through(parts, chunk), reading.chunks)
    return reading


def _through(parts: Sequence[Any], chunk: Chunk) -> Chunk:
    batch, generator = chunk.batch, Generator().manual_seed(0)
    for part in parts if chunk.places else ():
        batch = part(batch, generator)
    return Chunk(chunk.places, batch, chunk.bad, chunk.records)


def parts(stream: Iterator[Record], size: int) -> Iterator[tuple[list[Record], list[tuple[Place, str]]]]:
    """Up to `size` records at a time, and those that are none."""
    while part := list(islice(stream, size)):
        bad: list[tuple[Place, str]] = [(each.line, each.reason) for each in part if each.reason is not None]
        yield [each for each in part if each.reason is None], bad


def in_order(bad: list[tuple[Place, str]]) -> list[tuple[Place, str]]:
    """What is bad, by its places."""
    return sorted(bad, key=lambda each: (isinstance(each[0], str), each[0]))


def refused(error: Refusal, given: str) -> UsageError:
    """What an input is refused for: all of it, with near names."""
    lines = []
    for one in error.errors:
        near = f"; did you mean {' or '.join(map(repr, one.nearest))}?" if one.nearest else ""
        lines.append(f"{given}: {one}{near}")
    return UsageError("\n".join(lines))
