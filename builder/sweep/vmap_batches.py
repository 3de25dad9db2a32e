"""The batches of models that train together: one for all where their seeds are equal, else each its own, stacked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from builder.sweep.vmap_group import Member
from builder.sweep.vmap_model import Batch


class Batches:
    """The batches of each split, in the order of separate runs; `apart` says that they are stacked [T, …]."""

    def __init__(
        self, members: Sequence[Member], trainer: Mapping[str, Any], device: torch.device, dtype: torch.dtype
    ) -> None:
        seeds = [member.values["seed"] for member in members]
        self.apart = len(set(seeds)) > 1
        self._limits = {split: trainer.get(f"limit_{split}_batches") for split in ("train", "val", "test")}
        self._device, self._dtype = device, dtype
        by_seed = dict(zip(seeds, members, strict=True))
        splits = members[0].ready.data.splits
        self._loaders = {
            split: {seed: member.ready.data.loader(split) for seed, member in by_seed.items()} for split in splits
        }
        self._places = [list(by_seed).index(seed) for seed in seeds]

    @property
    def splits(self) -> tuple[str, ...]:
        """Which there are."""
        return tuple(self._loaders)

    def count(self, split: str) -> int:
        """How many batches of a split are taken."""
        whole, limit = len(next(iter(self._loaders[split].values()))), self._limits[split]
        if isinstance(limit, bool) or limit is None:
            return whole
        return min(whole, limit) if isinstance(limit, int) else int(limit * whole)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with those of the models at these places alone."""
        self._places = [self._places[place] for place in places]

    def of(self, split: str, epoch: int) -> Iterator[tuple[Batch, int]]:
        """The batches of an epoch, each with its number of samples."""
        loaders = list(self._loaders[split].values())
        for loader in loaders:
            loader.set_epoch(epoch)
        for _, batches in zip(range(self.count(split)), zip(*loaders, strict=True), strict=False):
            yield self._placed(batches), len(next(iter(batches[0].values())))

    def _placed(self, batches: Sequence[Batch]) -> Batch:
        def put(tensor: Tensor) -> Tensor:
            return tensor.to(self._device, self._dtype if tensor.is_floating_point() else None)

        if not self.apart:
            return {name: put(tensor) for name, tensor in batches[0].items()}
        return {name: torch.stack([put(batches[place][name]) for place in self._places]) for name in batches[0]}
