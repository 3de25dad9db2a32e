import pytest
import torch
from sklearn.linear_model import LinearRegression

from builder.data.facts import Refusal
from builder.data.synthetic import synthetic


def test_samples_follow_from_the_seed():
    first, second, other = (synthetic(64, seed=seed).splits["train"]["x"] for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_classes_can_be_told_by_the_nearest_mean_of_the_train_split():
    data = synthetic(400, shape=[3, 4, 4], num_classes=5, seed=0)
    train, test = data.splits["train"], data.splits["test"]
    means = torch.stack([train["x"][train["target"] == label].mean(0) for label in range(5)])
    nearest = torch.cdist(test["x"].flatten(1), means.flatten(1)).argmin(1)
    assert float((nearest == test["target"]).float().mean()) > 0.99
    assert data.values["num_classes"] == 5 and data.values["in_channels"] == 3 and data.fits["model"] == "cnn"


def test_a_number_is_a_linear_function_with_the_noise_asked_for():
    data = synthetic(2000, num_classes=None, noise=0.1, seed=0)
    train, test = data.splits["train"], data.splits["test"]
    fitted = LinearRegression().fit(train["x"].numpy(), train["target"].numpy())
    residual = test["target"].numpy() - fitted.predict(test["x"].numpy())
    assert residual.std() == pytest.approx(0.1, rel=0.15) and data.values["num_outputs"] == 1


def test_sequences_follow_the_next_index_but_for_noise():
    data = synthetic(300, shape=[20], vocab_size=11, noise=0.2, seed=0)
    ids, target = data.splits["train"]["ids"], data.splits["train"]["target"]
    assert torch.equal(ids[:, 1:], target[:, :-1])
    share = float((target == (ids + 1) % 11).float().mean())
    assert share == pytest.approx(0.8 + 0.2 / 11, abs=0.02) and data.values["vocab_size"] == 11


def test_arguments_out_of_range_are_all_told():
    with pytest.raises(Refusal) as caught:
        synthetic(0, shape=[], num_classes=1, vocab_size=1, noise=-1, seed=0)
    assert [error.argument for error in caught.value.errors] == [
        "num_samples", "num_classes", "vocab_size", "shape", "shape", "noise"
    ]  # fmt: skip
