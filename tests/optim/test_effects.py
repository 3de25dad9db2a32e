"""What the section says in vain is noted, not passed over."""

import pytest
import torch
from optim_helpers import Tied, build, refusal, table, vit
from torch import nn

from builder.config.folders import shipped_configs
from builder.config.yaml_file import read_yaml
from builder.optim.report import group_report

HEAD = ["head.weight", "head.bias"]
BLOCK = ["blocks.2.mlp.0.weight"]


def notes(model, trainable=None, **section):
    return [str(note) for note in group_report(build(model, trainable, **section), model).notes]


@pytest.mark.parametrize(
    ("section", "trainable", "said"),
    [
        ({"weight_decay": 0, "no_decay": {"ndim": 1}}, None,
         "train.yaml:5: optimizer.no_decay: no_decay has no effect: the weight decay is 0 anyway\n"
         "  found:    {'ndim': 1}"),
        ({"no_decay": "stem"}, HEAD,
         "train.yaml:5: optimizer.no_decay: no_decay has no effect: what it selects isn't trained, or has no weight "
         "decay anyway\n  found:    'stem'"),
        ({"layer_decay": 1}, None,
         "train.yaml:3: optimizer.layer_decay: layer_decay has no effect: a rate of 1 leaves every layer as it is"),
        ({"layer_decay": 0.5}, HEAD,
         "train.yaml:3: optimizer.layer_decay: layer_decay has no effect: only the top layer is trained"),
        ({"layer_decay": 0.5, "lr": 0}, None,
         "train.yaml:3: optimizer.layer_decay: layer_decay has no effect: the learning rate is 0"),
        ({"layer_decay": 0.5, "groups": [{"select": "**", "layer_decay": None}]}, None,
         "train.yaml:3: optimizer.layer_decay: layer_decay has no effect: no trained parameter follows it"),
    ],
)  # fmt: skip
def test_what_changes_nothing_is_noted(section, trainable, said):
    assert notes(vit(), trainable, **{"type": "AdamW", "lr": 0.1, **section}) == [said]


@pytest.mark.parametrize(
    ("section", "trainable"),
    [
        ({}, None),
        ({"no_decay": "head"}, HEAD),
        ({"layer_decay": 0.5}, None),
        ({"layer_decay": 0.5}, BLOCK),
        ({"layer_decay": 0.5, "groups": [{"select": "head", "lr": 1.0}]}, None),
        ({"layer_decay": 0.5, "groups": [{"select": "head", "lr": 0.0}]}, None),
    ],
)
def test_what_changes_something_is_not(section, trainable):
    assert notes(vit(), trainable, type="AdamW", lr=0.1, **section) == []


def test_embeddings_and_the_last_layer_under_muon_are_noted():
    rest = {"select": {"not": {"ndim": 2}}, "type": "AdamW"}
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    assert notes(model, type="Muon", groups=[rest]) == [
        "train.yaml:3: optimizer: Muon isn't meant for embeddings and the last layer, but trains 0.weight, 3.weight\n"
        "  hint:     give them to a group of another type: select: [{not: {ndim: 2}}, 0.weight, 3.weight]"
    ]
    assert notes(model, type="Muon", groups=[{**rest, "select": [rest["select"], "0", "3"]}]) == []
    assert "but trains embed.weight\n" in notes(Tied(), type="Muon", groups=[rest])[0]


def test_the_shipped_muon_leaves_embeddings_and_names_the_last_layer():
    section = read_yaml(shipped_configs() / "optimizer" / "muon.yaml").value
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "mix": nn.Linear(4, 4), "head": nn.Linear(4, 2)})
    groups = table(build(model, **section))
    assert groups["adamw"][2] == ["embed.weight", "mix.bias", "head.bias"]
    assert groups["default"][2] == ["mix.weight", "head.weight"]
    (note,) = notes(model, **section)
    assert "Muon isn't meant for embeddings and the last layer, but trains head.weight\n" in note


def test_what_muon_cannot_train_is_one_fault_however_its_group_is_split():
    text = refusal(vit(), type="Muon", layer_decay=0.5, no_decay={"ndim": 1})
    assert text.count("Muon trains matrices only") == 1
    assert "the group 'default' holds" in text


def test_an_optimiser_of_others_has_no_notes():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters())
    optimizer.param_groups[0] |= {"name": "default", "type": "SGD", "param_names": ["weight", "bias"]}
    assert group_report(optimizer, model).notes == ()
