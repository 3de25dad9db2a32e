"""Every shipped experiment trains."""

import math

import pytest
from command_line import run

from builder.config.folders import shipped_configs
from builder.runs.status import status

EXPERIMENTS = sorted(path.stem for path in (shipped_configs() / "experiment").glob("*.yaml"))
SHORT = (
    "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=3", "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2",
)  # fmt: skip


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_shipped_experiment_trains(experiment, tmp_path):
    ran = run(tmp_path, "train", "--quiet", f"experiment={experiment}", *SHORT)
    assert (ran.code, ran.err) == (0, "")
    found = status(ran.run)
    assert (found.state, found.epoch, found.step) == ("finished", 1, 3)
    assert ran.run.parent == tmp_path / "outputs" / experiment
    assert found.metrics and all(math.isfinite(value) for value in found.metrics.values())
    assert (ran.run / "checkpoints/best.ckpt").exists()


def test_there_is_a_default_and_it_is_digits_cnn(tmp_path):
    default, named = (run(tmp_path, "show", "config", "--json", *words) for words in ((), ("experiment=digits_cnn",)))
    assert default.code == 0 and default.out == named.out
