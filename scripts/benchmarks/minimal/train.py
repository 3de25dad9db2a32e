"""A short training of scanned digits with Hydra and Lightning, as one would write it, ended after its first step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
import torchmetrics
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset


class Module(pl.LightningModule):
    """A multilayer perceptron."""

    def __init__(self, hidden: int, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.model = nn.Sequential(
            nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(hidden, 10),
        )  # fmt: skip
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=10)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        x, target = batch
        loss = cross_entropy(self.model(x), target)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """The accuracy of a batch."""
        x, target = batch
        self.accuracy(self.model(x), target)
        self.log("val_accuracy", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


class FirstStep(pl.Callback):
    """Ends the process after the first step."""

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """The first step is done."""
        os._exit(0)


def main() -> None:
    """Train."""
    with hydra.initialize_config_dir(str(Path(__file__).parent), version_base=None):
        config = hydra.compose("config", overrides=["max_epochs=20"])
    pl.seed_everything(0)
    digits = load_digits()
    x, target = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    train, val = train_test_split(range(len(x)), test_size=0.3, stratify=target, random_state=0)
    loaders = [
        DataLoader(TensorDataset(x[rows], target[rows]), batch_size=config.batch_size, shuffle=shuffle)
        for rows, shuffle in ((train, True), (val, False))
    ]
    trainer = pl.Trainer(
        max_epochs=config.max_epochs, accelerator="cpu", devices=1, logger=CSVLogger("logs"), num_sanity_val_steps=0,
        log_every_n_steps=config.log_every_n_steps, enable_model_summary=False,
        callbacks=[ModelCheckpoint("checkpoints", monitor="val_accuracy", mode="max"), FirstStep()],
    )  # fmt: skip
    trainer.fit(Module(config.hidden, config.lr), *loaders)


if __name__ == "__main__":
    main()
