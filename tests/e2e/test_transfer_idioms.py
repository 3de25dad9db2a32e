"""What people write by hand to train from other weights, and the same said in a config: equal bits after 20 steps."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from builder.data.datasets import sklearn_dataset
from builder.seeding import reseed, reseed_step
from command_line import run

MODEL = """\
args: {classes: =data.num_classes}
inputs: {x: [B, 1, 8, 8]}
layers:
  conv: {type: Conv2d, out_channels: 8, kernel_size: 3, padding: 1, bias: false}
  bn: BatchNorm2d
  hidden: {type: Linear, out_features: 32}
  dropout: Dropout
  fc: {type: Linear, out_features: =classes}
forward: |
  x = relu(bn(conv(x))).mean(dim=2).flatten(1)
  return fc(dropout(relu(hidden(x))))
"""
OVERRIDES = (
    "model=net", "data.shuffle=false", "trainer=cpu", "trainer.max_steps=20", "trainer.max_epochs=1", "scheduler=none",
)  # fmt: skip


class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.hidden = nn.Linear(64, 32)
        self.dropout = nn.Dropout()
        self.fc = nn.Linear(32, classes)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x))).mean(dim=2).flatten(1)
        return self.fc(self.dropout(F.relu(self.hidden(x))))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "net.yaml").write_text(MODEL)
    return tmp_path


def by_config(folder, *words):
    """The weights that a run ends with."""
    ran = run(folder, "train", *OVERRIDES, *words)
    assert ran.code == 0, ran.err
    saved = torch.load(ran.run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name.removeprefix("model."): value for name, value in saved.items() if name.startswith("model.")}


def new_net():
    torch.set_num_threads(1)
    """A net as a run begins with it."""
    reseed(0, "init")
    return Net()


def by_hand(model, optimizer):
    """The weights after the 20 batches of an epoch."""
    split = sklearn_dataset("digits", seed=0).splits["train"]
    model.train()
    for number, (x, target) in enumerate(zip(split["x"].split(64), split["target"].split(64), strict=True)):
        reseed_step(0, "train", 0, number)
        optimizer.zero_grad()
        F.cross_entropy(model(x), target).backward()
        optimizer.step()
    return model.state_dict()


def assert_equal(ours, theirs):
    assert list(ours) == list(theirs)
    assert {
        name: (ours[name] - theirs[name]).abs().max() for name in ours if not torch.equal(ours[name], theirs[name])
    } == {}


def test_loading_what_fits_by_name_and_shape(folder):
    torch.manual_seed(1)
    pretrained = Net(classes=7)
    torch.save(pretrained.state_dict(), folder / "pretrained.pt")

    model = new_net()
    saved, own = torch.load(folder / "pretrained.pt", weights_only=True), model.state_dict()
    fitting = {name: value for name, value in saved.items() if name in own and value.shape == own[name].shape}
    model.load_state_dict(fitting, strict=False)
    theirs = by_hand(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))

    ours = by_config(
        folder, "optimizer=sgd", "load={path: pretrained.pt, shape: skip, missing: warn, unexpected: warn}"
    )
    assert_equal(ours, theirs)
    assert set(fitting) == set(own) - {"fc.weight", "fc.bias"}


def test_freezing_all_but_the_last_layer(folder):
    model = new_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.requires_grad = False
    for parameter in model.fc.parameters():
        parameter.requires_grad = True
    theirs = by_hand(model, torch.optim.AdamW(model.fc.parameters(), lr=0.01, weight_decay=0.1))

    ours = by_config(
        folder,
        "optimizer=adamw",
        "optimizer.lr=0.01",
        "optimizer.weight_decay=0.1",
        "freeze={select: {not: fc}, mode: train}",
    )
    assert_equal(ours, theirs)
    moved = {name for name in before if not torch.equal(before[name], ours[name])}
    assert moved == {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked", "fc.weight", "fc.bias"}


def test_a_frozen_trunk_in_eval_mode(folder):
    model = new_net()
    for layer in (model.conv, model.bn, model.hidden):
        layer.requires_grad_(False)
    model.train = lambda mode=True: nn.Module.train(model, mode) and model.bn.eval()  # as those who know do it
    theirs = by_hand(model, torch.optim.SGD(model.fc.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01))

    ours = by_config(folder, "optimizer=sgd", "optimizer.weight_decay=0.01", "freeze=[conv, bn, hidden]")
    assert_equal(ours, theirs)
    assert ours["bn.num_batches_tracked"] == 0


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_two_groups_with_two_rates(folder, name):
    model = new_net()
    trunk = [parameter for layer in (model.conv, model.bn, model.hidden) for parameter in layer.parameters()]
    groups = [{"params": trunk, "lr": 0.001}, {"params": model.fc.parameters(), "lr": 0.1}]
    make = {"sgd": lambda: torch.optim.SGD(groups, momentum=0.9), "adamw": lambda: torch.optim.AdamW(groups)}
    theirs = by_hand(model, make[name]())

    ours = by_config(
        folder, f"optimizer={name}", "optimizer.lr=0.001", "optimizer.groups=[{name: head, select: fc, lr: 0.1}]"
    )
    assert_equal(ours, theirs)
