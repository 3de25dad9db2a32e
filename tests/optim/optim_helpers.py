"""What the tests of optimisers share: a small transformer-like model, and training it for some steps."""

import torch
from torch import nn

from builder.config.origin import Origins
from builder.errors import ConfigError, Origin
from builder.optim.optimizer import build_optimizer

ORIGINS = Origins(
    {
        ("optimizer",): Origin("train.yaml", 3),
        ("optimizer", "no_decay"): Origin("train.yaml", 5),
        ("optimizer", "groups", 0): Origin("train.yaml", 7),
        ("optimizer", "groups", 1): Origin("train.yaml", 8),
    }
)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.mlp = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    def forward(self, x):
        return x + self.mlp(self.norm(x))


class Vit(nn.Module):
    """A stem with a token, blocks, a norm and a head."""

    def __init__(self, blocks=3, stem_last=False):
        super().__init__()
        if not stem_last:
            self.stem = nn.Linear(3, 4)
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)
        if stem_last:
            self.stem = nn.Linear(3, 4)

    def forward(self, x):
        x = self.stem(x) + self.token
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Tied(nn.Module):
    """Embeddings and a head of one weight, in the order that `names` says."""

    def __init__(self, names=("embed", "head")):
        super().__init__()
        layers = {"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)}
        layers["head"].weight = layers["embed"].weight
        for name in names:
            self.add_module(name, layers[name])
        self.norm = nn.LayerNorm(4)

    def forward(self, ids):
        return self.head(self.norm(self.embed(ids)))


def vit(**kwargs):
    torch.manual_seed(0)
    return Vit(**kwargs)


def build(model, trainable=None, **section):
    return build_optimizer(model, section, ORIGINS, trainable=trainable)


def refusal(model, trainable=None, **section):
    try:
        build(model, trainable, **section)
    except ConfigError as error:
        return str(error)
    raise AssertionError("nothing was refused")


def train(model, optimizer, steps, *, start=0, scheduler=None):
    """Steps on batches that are a function of their number."""
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 3, generator=generator)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def table(optimizer):
    """Of each group its name, rate, weight decay and parameters."""
    return {
        group["name"]: (group["lr"], group.get("weight_decay"), group["param_names"])
        for group in optimizer.param_groups
    }
