import pytest
import torch
from torch import nn

from builder.config.origin import Origins
from builder.errors import ConfigError, Origin
from builder.optim.optimizer import build_optimizer
from builder.registry import optimizers

ORIGINS = Origins({("optimizer",): Origin("train.yaml", 3), ("optimizer", "lr"): Origin("train.yaml", 4)})


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


class OwnLinear(nn.Module):
    """A layer of which nothing is known: its gradients may be sparse."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))

    def forward(self, x):
        return x @ self.weight.T


def refusal(model, section):
    with pytest.raises(ConfigError) as caught:
        build_optimizer(model, section, ORIGINS)
    return str(caught.value)


@pytest.mark.parametrize("name", optimizers.names())
def test_every_registered_optimizer_takes_the_step_that_it_takes_alone(name):
    def model():
        torch.manual_seed(0)
        return OwnLinear()

    def step(model, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = model(torch.ones(2, 4)).square().sum()
            loss.backward()
            if name == "SparseAdam":
                model.weight.grad = model.weight.grad.to_sparse()
            return loss

        optimizer.step(closure)
        return model.weight

    ours, theirs = model(), model()
    built = build_optimizer(ours, {"type": name, "lr": 0.05}, Origins())
    alone = getattr(torch.optim, name)(theirs.parameters(), lr=0.05)
    assert type(built) is type(alone) and built.defaults == alone.defaults
    assert torch.equal(step(ours, built), step(theirs, alone))


def test_trainable_parameters_come_once_in_the_order_of_the_model():
    model = Tied()
    optimizer = build_optimizer(model, {"type": "SGD", "lr": 0.1}, Origins())
    (group,) = optimizer.param_groups
    assert len(group["params"]) == 1 and group["params"][0] is model.embed.weight


def test_a_model_without_trainable_parameters_is_refused():
    text = refusal(nn.Linear(2, 2).requires_grad_(False), {"type": "SGD", "lr": 0.1})
    assert text == "train.yaml:3: optimizer: the model has no trainable parameter"


def test_an_unknown_argument_is_told_with_the_nearest():
    text = refusal(nn.Linear(2, 2), {"type": "SGD", "lr": 0.1, "momentun": 0.9})
    assert "optimizer SGD has no argument 'momentun'" in text and "did you mean 'momentum'?" in text


def test_the_parameters_are_not_for_the_config_to_give():
    assert "given its 'params' by the builder" in refusal(nn.Linear(2, 2), {"type": "SGD", "params": []})


def test_what_torch_refuses_is_told_at_the_argument():
    text = refusal(nn.Linear(2, 2), {"type": "AdamW", "lr": -1.0})
    assert text == (
        "train.yaml:4: optimizer.lr: optimizer 'AdamW' can't be made: Invalid learning rate: -1.0\n  found:    -1.0"
    )


def test_an_unknown_optimizer_is_told_with_the_nearest():
    assert "unknown optimizer 'AdmaW'" in refusal(nn.Linear(2, 2), {"type": "AdmaW"})
