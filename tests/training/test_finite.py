"""Training ends before a step that would be taken with what isn't finite, and says where that came from."""

import math

import pytest
import torch
from torch import nn
from training_helpers import TRAINER, train

from builder.training import module as training_module
from builder.training.finite import Looks, NotFinite


class BreaksBackward(nn.Module):
    """Gives its input, and from one step on a gradient that is no number: that of a square root at 0."""

    def __init__(self, step):
        super().__init__()
        self.step, self.calls = step, 0

    def forward(self, x):
        self.calls += self.training
        return x if self.calls < self.step else x + torch.sqrt(x * 0) * 0


def model(step):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(13, 8), BreaksBackward(step), nn.ReLU(), nn.Linear(8, 3))


def adam(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)


@pytest.mark.parametrize("loop", [{}, {"profiler": "simple"}], ids=["ours", "Lightning's"])
def test_a_gradient_that_is_not_finite_ends_training_before_the_step(tmp_path, loop):
    whole = model(step=100)
    train(
        whole, tmp_path / "two", config={"trainer": {**TRAINER, "max_steps": 2, "limit_val_batches": 0}}, optimizer=adam
    )
    broken = model(step=3)
    resume = {"callbacks": {"resume": {"type": "ExactResume", "every_n_steps": 1}}}
    with pytest.raises(
        NotFinite, match=r"the gradient of '0\.weight' isn't finite, .*, in epoch 1, batch 3 of it, step 3"
    ):
        train(broken, tmp_path / "broken", config={"trainer": {**TRAINER, **loop}, **resume}, optimizer=adam)
    assert all(map(torch.equal, whole.parameters(), broken.parameters())), "the third step changed nothing"
    for path in (tmp_path / "broken").rglob("*.ckpt"):
        saved = torch.load(path, weights_only=True)
        assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())


def test_of_batches_whose_gradients_are_added_up_the_last_one_is_named(tmp_path):
    trainer = {**TRAINER, "accumulate_grad_batches": 2}
    with pytest.raises(NotFinite, match="in epoch 1, batches up to 4 of it, step 2"):
        train(model(step=3), tmp_path, config={"trainer": trainer})


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_where_a_look_makes_a_device_wait_loss_and_gradients_are_looked_at_together(tmp_path, where, monkeypatch):
    def on_train_start(self):  # as on a GPU
        self._every_loss, self._looked_at_later = False, True

    monkeypatch.setattr(training_module.TrainingModule, "on_train_start", on_train_start)
    said = "the loss isn't finite, though" if where == "loss" else "the gradient of '0.weight' isn't finite"
    broken = model(step=1 if where == "gradient" else 100)
    before = [parameter.clone() for parameter in broken.parameters()]
    with pytest.raises(NotFinite, match=f"{said}.*batch 1 of it"):
        train(broken, tmp_path, task={"loss": "cross_entropy(output, target) / 0.0"} if where == "loss" else None)
    assert all(map(torch.equal, before, broken.parameters()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_look_finds_what_isfinite_finds_and_changes_no_bit(dtype, bad):
    looks = Looks(torch.device("cpu"))
    edge = torch.tensor([1.0, -0.0, 1e-45, 3e38 if dtype != torch.float16 else 6e4, -1.5]).to(dtype)
    tensors = [torch.randn(5, 4).to(dtype).t(), edge, torch.ones(8, dtype=dtype)[::2], torch.ones(()), torch.empty(0)]
    before = [tensor.clone() for tensor in tensors]
    assert looks.all_finite(tensors) and looks.all_finite([])
    assert all(map(torch.equal, tensors, before)) and torch.signbit(tensors[1].real[1])
    tensors[1][2] = bad
    assert not looks.all_finite(tensors)
    tensors[1][2] = 0
    assert looks.all_finite(tensors), "the next look knows nothing of it"


def sparse_gradient(factor):
    layer = nn.Embedding(5, 2, sparse=True)
    (layer(torch.tensor([1, 3])).sum() * factor).backward()
    gradient = layer.weight.grad
    assert gradient is not None and gradient.is_sparse
    return gradient


def test_a_look_sees_into_sparse_gradients():
    looks = Looks(torch.device("cpu"))
    assert looks.all_finite([sparse_gradient(1.0), torch.ones(2)])
    assert not looks.all_finite([torch.ones(2), sparse_gradient(math.inf)])
