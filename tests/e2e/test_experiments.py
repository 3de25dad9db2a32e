"""Every shipped experiment trains."""

import math

import pytest
import torch

import builder
from builder.config.folders import shipped_configs
from builder.runs.status import status
from command_line import SMALL, run

EXPERIMENTS = sorted(path.stem for path in (shipped_configs() / "experiment").glob("*.yaml"))
SHORT = (
    "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=3", "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2",
)  # fmt: skip
BEFORE = {"digits_transfer": "digits_pretrain"}
"""Experiments that begin with what another one has learnt."""


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_shipped_experiment_trains(experiment, tmp_path):
    if experiment in BEFORE:
        assert run(tmp_path, "train", "--quiet", f"experiment={BEFORE[experiment]}", *SHORT).code == 0
    ran = run(tmp_path, "train", "--quiet", f"experiment={experiment}", *SHORT)
    assert (ran.code, ran.err) == (0, "")
    found = status(ran.run)
    assert (found.state, found.epoch, found.step) == ("finished", 1, 3)
    assert ran.run.parent == tmp_path / "outputs" / experiment
    assert found.metrics and all(math.isfinite(value) for value in found.metrics.values())
    saved = torch.load(ran.run / "checkpoints/best.ckpt", weights_only=True)
    weights = {name.removeprefix("model."): value for name, value in saved["state_dict"].items()}
    builder.build(ran.run / "model.yaml").load_state_dict(weights, strict=True)


def test_there_is_a_default_and_it_is_digits_cnn(tmp_path):
    default, named = (run(tmp_path, "show", "config", "--json", *words) for words in ((), ("experiment=digits_cnn",)))
    assert default.code == 0 and default.out == named.out


@pytest.mark.parametrize("scheduler", sorted(path.stem for path in (shipped_configs() / "scheduler").glob("*.yaml")))
def test_every_shipped_scheduler_trains(scheduler, tmp_path):
    ran = run(tmp_path, "train", "--quiet", *SMALL, *SHORT[2:], f"scheduler={scheduler}")
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("optimizer", sorted(path.stem for path in (shipped_configs() / "optimizer").glob("*.yaml")))
def test_every_shipped_optimizer_trains(optimizer, tmp_path):
    ran = run(tmp_path, "train", "--quiet", *SMALL, "model.args.hidden=64", f"optimizer={optimizer}")
    assert (ran.code, ran.err) == (0, "")
    metrics = status(ran.run).metrics
    assert metrics["train/loss"] < 2.2, "it hasn't learnt anything"
