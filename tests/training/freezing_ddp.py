"""Trains with freeze schedules in one process and in two: `python freezing_ddp.py FOLDER SCHEDULE …`.

Each process writes what it has at the end into the folder; run by test_freezing_ddp.py.
"""

import sys
import warnings
import weakref
from collections import OrderedDict
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import SGD

from builder.config.origin import Origins
from builder.data.facts import Facts
from builder.training.fit import fit
from builder.training.freezing import Freezing
from builder.training.task import read_task
from builder.weights.freeze import read_freeze, resolve

SCHEDULES = {
    "epoch": [{"select": "trunk", "until": {"epoch": 2}}, "trunk.1"],
    "step": [{"select": "trunk", "until": {"step": 3}}, {"select": "trunk.0", "until": {"step": 5}}, "trunk.1"],
    "good": "trunk",
}
"""The BatchNorm stays in eval mode: in training mode each process has statistics of its own."""
EPOCHS, BATCHES, SIZE = 4, 4, 8


class Batches:
    """The rank's part of each batch; all of it for one process."""

    def __init__(self, trainer):
        self.trainer = trainer
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(BATCHES, SIZE, 6, generator=generator)
        self.target = torch.randint(3, (BATCHES, SIZE), generator=generator)

    def __len__(self):
        return BATCHES

    def __iter__(self):
        part = slice(self.trainer.global_rank, None, self.trainer.world_size)
        return ({"x": x[part], "target": target[part]} for x, target in zip(self.x, self.target, strict=True))


class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return Batches(self.trainer)


class Last(pl.Callback):
    """Saves, in each process, the model at the end of training, what is frozen at each step, and how DDP wraps."""

    def __init__(self, folder):
        self.folder, self.frozen, self.wrapped = folder, [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        named = pl_module.model.named_parameters()
        self.frozen.append([name for name, parameter in named if not parameter.requires_grad])
        if all(trainer.model is not wrapper for wrapper in self.alive()):
            self.wrapped.append(weakref.ref(trainer.model))

    def alive(self):
        """The wrappers that haven't been given up."""
        return [wrapper() for wrapper in self.wrapped if wrapper() is not None]

    def on_train_end(self, trainer, pl_module):
        wraps, alive = len(self.wrapped), len(self.alive())
        what = {"state": pl_module.model.state_dict(), "frozen": self.frozen, "wraps": wraps, "alive": alive}
        torch.save(what, self.folder / f"rank{trainer.global_rank}.pt")


def net():
    """A trunk with BatchNorm, and a head."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
    return nn.Sequential(OrderedDict(trunk=trunk, head=nn.Linear(8, 3)))


def train(folder, schedule, **trainer):
    """Train for some epochs, in as many processes as `trainer` says."""
    model = net()
    facts = Facts({"num_val": 0, "num_test": 0}, {"x": None, "target": None})
    task = read_task({"loss": "cross_entropy(output, target)", "monitor": "train/loss"}, facts, {"x": True}, Origins())
    config = {"trainer": {"max_epochs": EPOCHS, "accelerator": "cpu", "num_sanity_val_steps": 0, **trainer}}
    plan = resolve(read_freeze(SCHEDULES[schedule], Origins()), model)
    fit(
        model, task, Data(), optimizer=lambda model: SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
        config=config, origins=Origins(), run_dir=folder, seed=0, quiet=True, callbacks=[Freezing(plan), Last(folder)],
    )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for schedule in sys.argv[2:]:
        for processes, strategy in ((1, "auto"), (2, "ddp_fork")):
            folder = Path(sys.argv[1]) / f"{schedule}{processes}"
            folder.mkdir()
            train(folder, schedule, strategy=strategy, devices=processes, accumulate_grad_batches=2)
