"""The same config and seed give the same bits, another seed gives others."""

import pytest
import torch

from command_line import SMALL, run


def weights(ran, name="last.ckpt"):
    return torch.load(ran.run / "checkpoints" / name, weights_only=True)["state_dict"]


def same_weights(first, second):
    assert list(first) == list(second)
    return all(torch.equal(first[name], second[name]) for name in first)


def trained(folder, *words):
    folder.mkdir(exist_ok=True)
    ran = run(folder, "train", "--quiet", *words)
    assert ran.code == 0, ran.err
    return ran


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("first"), *SMALL, "model.args.dropout=0.3")


def test_a_second_train_gives_the_same_metrics_and_weights_bit_for_bit(first, tmp_path):
    torch.manual_seed(123)  # whatever the generators were
    torch.randn(7)
    second = trained(tmp_path / "elsewhere", *SMALL, "model.args.dropout=0.3", "name=other")
    assert (second.run / "metrics.csv").read_bytes() == (first.run / "metrics.csv").read_bytes()
    for name in ("best.ckpt", "last.ckpt"):
        assert same_weights(weights(first, name), weights(second, name))
    for name in ("config.yaml", "model.yaml"):
        text = (second.run / name).read_text().replace("name: other", "name: digits_mlp")
        assert text == (first.run / name).read_text()


def test_another_seed_gives_other_metrics_and_weights(first, tmp_path):
    second = trained(tmp_path / "elsewhere", *SMALL, "model.args.dropout=0.3", "seed=1")
    assert (second.run / "metrics.csv").read_bytes() != (first.run / "metrics.csv").read_bytes()
    assert not same_weights(weights(first), weights(second))


def test_a_run_is_trained_again_from_its_own_config(first, tmp_path):
    second = trained(tmp_path / "elsewhere", "-cd", str(first.run), "-cn", "config")
    assert (second.run / "metrics.csv").read_bytes() == (first.run / "metrics.csv").read_bytes()
    assert same_weights(weights(first), weights(second))


def test_no_logger_and_no_callback_changes_the_weights(first, tmp_path):
    words = ["logger.tensorboard=null", "callbacks.best=null", "callbacks.progress=null", "trainer.log_every_n_steps=3"]
    second = trained(tmp_path / "elsewhere", *SMALL, "model.args.dropout=0.3", *words)
    assert same_weights(weights(first), weights(second))
    assert not (second.run / "checkpoints/best.ckpt").exists() and not list(second.run.glob("events*"))
