"""What hooks cost: statistics of every layer each 100 steps, for whole runs of 100 steps under the trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from measure import Effort, Row, compare
from torch import nn

from builder.config.origin import Origins
from builder.data.load import load
from builder.data.module import DataModule
from builder.training.fit import fit
from builder.training.hooks.callback import Hooks
from builder.training.hooks.plan import plan_hooks
from builder.training.task import read_task

TITLE = "100 training steps with statistics of each layer's activations and gradients at the last / without hooks"
STATISTICS = ["mean", "std", "norm", "zeros", "non_finite"]


def rows(effort: Effort) -> Iterator[Row]:
    """One comparison a network."""
    sizes = {"8 layers of 256": (8, 256), "24 layers of 128": (24, 128)} if effort.full else {"tiny": (2, 8)}
    for name, (depth, width) in sizes.items():
        sides = [_run(depth, width, 100 if effort.full else 2, hooked) for hooked in (True, False)]
        yield compare(name, *sides, bound=1.03, effort=effort, control=True, pairs=15)


def _run(depth: int, width: int, steps: int, hooked: bool) -> Callable[[], None]:
    data = load({"type": "SklearnDataset", "name": "digits", "batch_size": 64, "num_workers": 0}, 0, Origins())
    task = read_task({"loss": "cross_entropy(output, target)", "metrics": {}}, data.facts, {"x": True}, Origins())
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(64, width)]
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    trainer = {"max_steps": steps, "accelerator": "cpu", "limit_val_batches": 0}
    config = {"trainer": trainer, "logger": {"csv": {"type": "CSVLogger"}}}
    of = ("activations", "gradients")
    section = {name: {"record": STATISTICS, "of": name, "every_n_steps": steps} for name in of}
    planned = plan_hooks({"hooks": section}, Origins(), model, given=None, trainable=())

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            callbacks = [Hooks(planned, 0, Path(folder))] if hooked else []
            fit(
                model, task, DataModule(data), optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=1e-3),
                config=config, origins=Origins(), run_dir=Path(folder), seed=0, quiet=True, callbacks=callbacks,
            )  # fmt: skip

    return run
