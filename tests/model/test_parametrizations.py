"""Layers whose weight is computed from others, as `torch.nn.utils.parametrizations` makes them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from builder import ConfigError, build

MODEL = {
    "args": {"classes": 4},
    "inputs": {"x": ["B", 3, 8, 8]},
    "layers": {
        "a": {"type": "spectral_norm", "module": {"type": "Conv2d", "out_channels": 8, "kernel_size": 3}},
        "b": {"type": "weight_norm", "module": {"type": "Conv2d", "out_channels": 8, "kernel_size": 3}},
        "heads": {"type": "ModuleList", "repeat": 3, "layer": {"type": "spectral_norm", "module": {"type": "Linear", "out_features": "=classes"}}},
    },
    "forward": "x = relu(b(relu(a(x)))).mean(dim=[2, 3])\nreturn [head(x) for head in heads]",
}  # fmt: skip


class ByHand(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.a = spectral_norm(nn.Conv2d(3, 8, 3))
        self.b = weight_norm(nn.Conv2d(8, 8, 3))
        self.heads = nn.ModuleList([spectral_norm(nn.Linear(8, classes)) for _ in range(3)])

    def forward(self, x):
        x = torch.relu(self.b(torch.relu(self.a(x)))).mean(dim=[2, 3])
        return [head(x) for head in self.heads]


def test_they_are_those_of_the_hand_written_class():
    torch.manual_seed(0)
    ours = build(MODEL)
    torch.manual_seed(0)
    theirs = ByHand()
    x = torch.randn(2, 3, 8, 8)
    for _ in range(3):  # each call in training mode moves the singular vectors
        assert all(torch.equal(a, b) for a, b in zip(ours(x), theirs(x), strict=True))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(copy.deepcopy(ours.eval())(x)[0], theirs.eval()(x)[0])
    assert list(build(MODEL, device="meta").state_dict()) == list(theirs.state_dict())


def test_a_layer_without_a_weight_is_refused():
    with pytest.raises(
        ConfigError, match=r"spectral_norm refuses its arguments: .*no parameter or buffer with name 'weight'"
    ):
        build({"inputs": {"x": ["B", 4]}, "layers": {"a": {"type": "spectral_norm", "module": "ReLU"}}})
