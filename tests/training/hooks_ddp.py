"""Trains with hooks in one process and in two: `python hooks_ddp.py FOLDER`; run by test_hooks_ddp.py."""

import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from freezing_ddp import Data
from torch import nn
from torch.optim import SGD

from builder.config.origin import Origins
from builder.data.facts import Facts
from builder.training.fit import fit
from builder.training.hooks.callback import Hooks
from builder.training.hooks.plan import plan_hooks
from builder.training.task import read_task

SECTION = {
    "seen": {"select": "2", "record": "mean", "every_n_steps": 1},
    "backward": {"select": "0", "record": "norm", "of": "gradients", "every_n_steps": 1},
    "moved": {"select": "2", "record": "norm", "of": "updates", "every_n_steps": 1},
    "clip": {"select": "0", "clip": {"norm": 0.05}},
    "noise": {"noise": {"std": 0.01}},
    "scale": {"select": "2", "scale": 0.5, "of": "gradients"},
}


class Last(pl.Callback):
    """Saves, in each process, the model at the end, and what hand-written hooks heard of its part of each batch."""

    def __init__(self, folder):
        self.folder, self.heard, self.micro = folder, [], 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx % 2 == 0:
            self.handle = pl_module.model[2].register_forward_hook(
                lambda module, inputs, output: self.heard.append(output.mean().item())
            )

    def on_train_batch_end(self, *rest):
        self.handle.remove()

    def on_train_end(self, trainer, pl_module):
        left = sum(len(module._forward_hooks) for module in pl_module.model.modules())
        what = {"state": pl_module.model.state_dict(), "heard": self.heard, "left": left}
        torch.save(what, self.folder / f"rank{trainer.global_rank}.pt")


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def train(folder, **trainer):
    """Train for some epochs, in as many processes as `trainer` says."""
    model = net()
    facts = Facts({"num_val": 0, "num_test": 0}, {"x": None, "target": None})
    task = read_task({"loss": "cross_entropy(output, target)", "monitor": "train/loss"}, facts, {"x": True}, Origins())
    trainer = {"max_epochs": 3, "accelerator": "cpu", "num_sanity_val_steps": 0, **trainer}
    config = {"trainer": trainer, "logger": {"csv": {"type": "CSVLogger"}}}
    names = [name for name, _ in model.named_parameters()]
    hooks = plan_hooks({"hooks": SECTION}, Origins(), model, given=None, trainable=names)
    fit(
        model, task, Data(), optimizer=lambda model: SGD(model.parameters(), lr=0.1), config=config, origins=Origins(),
        run_dir=folder, seed=0, quiet=True, callbacks=[Hooks(hooks, 0, folder), Last(folder)],
    )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for processes, strategy in ((1, "auto"), (2, "ddp_fork")):
        folder = Path(sys.argv[1]) / str(processes)
        folder.mkdir()
        train(folder, strategy=strategy, devices=processes, accumulate_grad_batches=2)
