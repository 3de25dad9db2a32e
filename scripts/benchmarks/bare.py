"""What a training is measured against: a bare loop, and Lightning as its documentation shows it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
import torchmetrics
from by_hand import Cnn, Mlp, same_keys
from measure import Side
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from builder import build
from builder.config.folders import shipped_configs
from builder.training.quiet import quiet_lightning


@dataclass(frozen=True)
class Work:
    """A network and its data, for `builder train` and for loops by hand."""

    model: str
    args: dict[str, int]
    shape: tuple[int, ...]
    steps: int
    batch: int = 64

    def overrides(self) -> list[str]:
        """For `builder train`: all samples are trained on, as often as in the loops by hand."""
        return [
            f"model={self.model}", *(f"model.args.{name}={value}" for name, value in self.args.items()),
            "data=synthetic", f"data.shape={list(self.shape)}", "data.num_classes=10",
            f"data.num_samples={self.steps * self.batch}", f"data.batch_size={self.batch}",
            "data.split={train: 1.0, val: 0, test: 0}", "task=classification", "task.monitor=train/accuracy",
            "trainer=cpu", "logger.tensorboard=null", "callbacks.best=null",
        ]  # fmt: skip

    def network(self) -> nn.Module:
        """The network by hand."""
        network: nn.Module = {"mlp": Mlp, "cnn": Cnn}[self.model](**self.args)
        path = shipped_configs() / f"model/{self.model}.yaml"
        facts = {"num_outputs": 10, "num_classes": 10}
        same_keys(build(path, data=facts, inputs={"x": (2, *self.shape)}, **self.args), network)
        return network

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Samples and their classes."""
        size = self.steps * self.batch
        return torch.randn(size, *self.shape), torch.randint(0, 10, (size,))


def bare(work: Work) -> Side:
    """An epoch of a loop by hand, on tensors in memory, that looks at nothing."""
    model, (x, target) = work.network().train(), work.tensors()
    optimizer = torch.optim.AdamW(model.parameters())

    def epoch() -> None:
        for rows in torch.randperm(len(x)).split(work.batch):
            loss = cross_entropy(model(x[rows]), target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


class _Module(pl.LightningModule):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=10)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """As Lightning's documentation has it: loss and metric are logged in each step."""
        x, target = batch
        output = self.model(x)
        loss = cross_entropy(output, target)
        self.accuracy(output, target)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_accuracy", self.accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW as it is."""
        return torch.optim.AdamW(self.parameters())


def stock(work: Work, pause: pl.Callback) -> None:
    """Train under stock Lightning: a default DataLoader, rich's bar, torchmetrics, `self.log`; stops at each epoch."""
    loader = DataLoader(TensorDataset(*work.tensors()), batch_size=work.batch, shuffle=True)
    with tempfile.TemporaryDirectory() as folder, quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=-1, accelerator="cpu", default_root_dir=folder, logger=CSVLogger(folder),
            callbacks=[pause, RichProgressBar(), ModelCheckpoint(folder)], log_every_n_steps=10,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(_Module(work.network()), loader)
