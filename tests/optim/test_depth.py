import pytest
import torch
from optim_helpers import Block, Tied, Vit
from torch import nn

from builder.optim.depth import depths


def layers(model):
    """The parameters of each layer from the bottom up, cut to two parts of their names, each once."""
    found = depths(model)
    every = [[] for _ in range(found.top + 1)]
    for name, depth in found.of.items():
        every[depth].append(".".join(name.split(".")[:2]))
    return [list(dict.fromkeys(each)) for each in every]


def beit(name, count):
    """The layer of a parameter in BEiT's own code for layer-wise decay, with its names."""
    if name in ("cls_token", "mask_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks") else count - 1


class Beit(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1))
        self.mask_token = nn.Parameter(torch.zeros(1))
        self.pos_embed = nn.Parameter(torch.zeros(1))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, 4, 2)})
        self.blocks = nn.ModuleList(Block() for _ in range(12))
        self.norm = nn.Identity()
        self.fc_norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


def test_a_transformer_has_the_layers_that_beit_gives_it():
    model = Beit()
    assert depths(model).of == {name: beit(name, 14) for name, _ in model.named_parameters()}
    assert depths(model).top == 13


def test_what_lies_around_stacks_is_one_layer_each_time():
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 1),
            "bn": nn.BatchNorm2d(4),
            "layer1": nn.Sequential(Block(), Block()),
            "down": nn.Linear(4, 4),
            "mix": nn.Linear(4, 4),
            "layer2": nn.Sequential(Block(), Block()),
            "fc": nn.Linear(4, 2),
        }
    )
    assert layers(model) == [
        ["conv.weight", "conv.bias", "bn.weight", "bn.bias"],
        ["layer1.0"],
        ["layer1.1"],
        ["down.weight", "down.bias", "mix.weight", "mix.bias"],
        ["layer2.0"],
        ["layer2.1"],
        ["fc.weight", "fc.bias"],
    ]


def test_a_stack_deep_inside_counts_by_its_items():
    model = nn.ModuleDict({"encoder": Vit(2), "classifier": nn.Linear(4, 2)})
    found = depths(model)
    assert found.top == 3
    assert found.of["encoder.token"] == found.of["encoder.stem.weight"] == 0
    assert [found.of[f"encoder.blocks.{index}.mlp.0.weight"] for index in range(2)] == [1, 2]
    assert found.of["encoder.head.weight"] == found.of["classifier.weight"] == 3


def test_without_a_stack_each_child_and_each_item_of_a_container_is_a_layer():
    assert layers(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))) == [
        ["0.weight", "0.bias"], ["2.weight", "2.bias"],
    ]  # fmt: skip
    vgg = nn.ModuleDict(
        {"features": nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)), "fc": nn.Linear(4, 2)}
    )
    assert layers(vgg) == [["features.0"], ["features.2"], ["fc.weight", "fc.bias"]]


def test_tied_parameters_lie_where_they_are_first():
    assert depths(Tied()).of == {"embed.weight": 0, "norm.weight": 2, "norm.bias": 2}


def test_frozen_parameters_count():
    model = Vit()
    model.blocks.requires_grad_(False)
    assert depths(model) == depths(Vit())


@pytest.mark.parametrize("nested", [False, True])
def test_one_wrapper_changes_nothing(nested):
    model = Vit()
    wrapped = nn.Sequential(nn.Sequential(model)) if nested else nn.Sequential(model)
    prefix = "0.0." if nested else "0."
    assert depths(wrapped).of == {prefix + name: depth for name, depth in depths(model).of.items()}
