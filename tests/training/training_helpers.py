"""What the tests of training share: a small task on real data, and a call of `fit` with what it needs."""

from pathlib import Path

import torch
from torch import nn

from builder.config import fits
from builder.config.folders import shipped_configs
from builder.config.origin import Origins
from builder.config.yaml_file import read_yaml
from builder.data.load import load
from builder.data.module import DataModule
from builder.training.fit import fit
from builder.training.task import read_task

TRAINER = {"max_epochs": 2, "accelerator": "cpu"}
CHECKPOINTS = {
    "best": {"type": "ModelCheckpoint", "filename": "best", "monitor": "val/accuracy", "mode": "max"},
    "last": {"type": "ModelCheckpoint", "filename": "last"},
}
TASK = {
    "loss": "cross_entropy(output, target)",
    "metrics": {"accuracy": {"type": "MulticlassAccuracy", "num_classes": "=data.num_classes", "average": "micro"}},
    "monitor": "val/accuracy",
}


def wine(seed=0, **section):
    return load({"type": "SklearnDataset", "name": "wine", "batch_size": 32, **section}, seed, Origins())


def mlp(dropout=0.2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(13, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def train(model, run_dir, *, data=None, task=None, config=None, seed=0, **kwargs):
    """`fit` on wine for two epochs, quietly; `config` sections replace the default ones."""
    data = data or wine()
    config = {"trainer": TRAINER, **(config or {})}
    task = read_task(task or TASK, data.facts, {"x": True}, Origins())
    arguments = {"optimizer": sgd, "origins": Origins(), "quiet": True, **kwargs}
    return fit(model, task, DataModule(data), config=config, run_dir=Path(run_dir), seed=seed, **arguments)


def shipped(group, name):
    """The section that a shipped file holds, without what composition alone reads of it."""
    section = read_yaml(shipped_configs() / group / f"{name}.yaml").value
    return {key: value for key, value in section.items() if key != fits.KEY}
