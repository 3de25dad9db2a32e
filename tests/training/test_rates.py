import csv

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from training_helpers import TRAINER, mlp, train

from builder.config.origin import Origins
from builder.optim.optimizer import build_optimizer
from builder.optim.scheduler import build_scheduler
from builder.training.rates import GroupRates

GROUPS = [{"name": "top", "select": "4", "lr": 0.4}]


class Used(Callback):
    """Notes the rates with which steps are made, as the optimiser itself has them in its step."""

    def __init__(self):
        self.steps = []

    def setup(self, trainer, pl_module, stage):
        self.trainer = trainer

    def watch(self, optimizer):
        optimizer.register_step_pre_hook(lambda *args: self.steps.append([g["lr"] for g in optimizer.param_groups]))
        return optimizer


def rows(run_dir):
    with open(run_dir / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def fit(tmp_path, monkeypatch, scheduler, groups=GROUPS, **trainer):
    used = Used()
    monkeypatch.setattr("builder.training.fit.make_trainer", with_callbacks(used, GroupRates()))
    section = {"type": "SGD", "lr": 0.1, "groups": groups}
    train(
        mlp(), tmp_path,
        optimizer=lambda model: used.watch(build_optimizer(model, section, Origins())),
        scheduler=lambda optimizer, steps: build_scheduler(optimizer, scheduler, Origins(), steps=steps),
        config={"trainer": {**TRAINER, "max_epochs": 3, **trainer}, "logger": {"csv": {"type": "CSVLogger"}}},
    )  # fmt: skip
    return used.steps, rows(tmp_path)


def with_callbacks(*callbacks):
    """`make_trainer` with callbacks that no config names."""
    from builder.training.trainer import make_trainer

    def make(*args, **kwargs):
        trainer = make_trainer(*args, **kwargs)
        trainer.callbacks.extend(callbacks)
        return trainer

    return make


@pytest.mark.parametrize(
    "scheduler",
    [
        {"type": "WarmupCosine", "interval": "step", "warmup": 3},
        {"type": "ExponentialLR", "interval": "epoch", "gamma": 0.5},
    ],
)
def test_logged_rates_are_those_with_which_the_step_was_made(tmp_path, monkeypatch, scheduler):
    used, logged = fit(tmp_path, monkeypatch, scheduler, log_every_n_steps=2)
    found = {int(row["step"]): [float(row["lr/top"]), float(row["lr/default"])] for row in logged if row.get("lr/top")}
    per_epoch = len(used) // 3
    expected = {step for step in range(len(used)) if not (step % per_epoch + 1) % 2 or not (step + 1) % per_epoch}
    assert found.keys() == expected
    assert all(found[step] == used[step] for step in found)
    assert len({rates[0] for rates in found.values()}) > 2


def test_each_epoch_has_its_rates_in_the_row_of_its_metrics(tmp_path, monkeypatch):
    _, logged = fit(tmp_path, monkeypatch, {"type": "ExponentialLR", "gamma": 0.5}, log_every_n_steps=1000)
    assert [float(row["lr/default"]) for row in logged if row["train/loss"]] == [0.1, 0.05, 0.025]


def test_a_single_group_is_logged_by_no_name(tmp_path, monkeypatch):
    _, logged = fit(tmp_path, monkeypatch, {"type": "ConstantLR", "factor": 1.0}, groups=[], log_every_n_steps=1)
    assert all(row["lr"] == "0.1" for row in logged if row["train/loss"]) and not any("lr/" in key for key in logged[0])


def test_training_that_stops_within_an_epoch_logs_its_last_step(tmp_path, monkeypatch):
    used, logged = fit(
        tmp_path, monkeypatch, {"type": "ExponentialLR", "gamma": 0.5}, max_steps=2, log_every_n_steps=50
    )
    assert len(used) == 2 and [row["step"] for row in logged if row["lr/top"]] == ["1"]
    assert torch.tensor(used).shape == (2, 2)
