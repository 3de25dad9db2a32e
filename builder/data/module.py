"""The loaded data as Lightning takes it."""

from __future__ import annotations

import pytorch_lightning as pl

from builder.data.load import Data
from builder.data.loader import TensorLoader


class DataModule(pl.LightningDataModule):
    """Loaders of the three splits; a split that the data set doesn't have gives no loader.

    Each process takes its own part of every batch, as the trainer says how many there are. With `data.device: true` the
    samples lie on the trainer's device.
    """

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data = data
        # Made once: Lightning asks anew in every trainer call, and a position set on a loader has to last.
        self._loaders = {split: data.loader(split) for split in data.splits}

    def train_dataloader(self) -> TensorLoader:
        """Batches of the train split; always the same ones where Lightning is told to overfit some."""
        loader = self._placed("train")
        if self.trainer is not None and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            loader.shuffle = False
        return loader

    def set_position(self, epoch: int, batch: int) -> None:
        """Let training begin at batch `batch` of epoch `epoch`."""
        self._loaders["train"].set_position(epoch, batch)

    def val_dataloader(self) -> TensorLoader | list[TensorLoader]:
        """Batches of the val split; an empty list if there is none."""
        return self._placed("val") if "val" in self._loaders else []

    def test_dataloader(self) -> TensorLoader | list[TensorLoader]:
        """Batches of the test split; an empty list if there is none."""
        return self._placed("test") if "test" in self._loaders else []

    def _placed(self, split: str) -> TensorLoader:
        """A loader that knows its process and device."""
        loader = self._loaders[split]
        if self.trainer is not None:
            loader.set_rank(self.trainer.global_rank, self.trainer.world_size)
            if self.data.device:
                loader.reside(self.trainer.strategy.root_device)
        return loader
