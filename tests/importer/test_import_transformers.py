"""Models of transformers, from their configs with random weights, become YAML with the same keys and outputs."""

import pytest
import torch
import yaml

import builder
from builder.importer.write import imported

transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def resnet():
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[8, 16], depths=[2, 1], layer_type="basic", num_labels=3
    )
    return transformers.ResNetForImageClassification(config), {"pixel_values": torch.rand(2, 3, 32, 32)}


def vit():
    config = transformers.ViTConfig(image_size=32, patch_size=8, num_labels=3, **SMALL)
    return transformers.ViTForImageClassification(config), {"pixel_values": torch.rand(2, 3, 32, 32)}


def distilbert():
    config = transformers.DistilBertConfig(vocab_size=50, dim=32, n_layers=2, n_heads=4, hidden_dim=64)
    return transformers.DistilBertModel(config), {"input_ids": torch.randint(50, (2, 7))}


@pytest.mark.parametrize("make", [resnet, vit, distilbert])
def test_a_model_of_transformers_builds_the_same_from_its_yaml(make):
    torch.manual_seed(0)
    model, examples = make()
    model.eval()
    found = imported(model, examples, make.__name__)
    assert (found.marks, found.difference) == ({}, 0.0)
    made = builder.build(yaml.safe_load(found.text))
    assert list(made.state_dict()) == list(model.state_dict())
    made.load_state_dict(model.state_dict())
    other = {name: torch.cat([value, value.flip(0)]) for name, value in examples.items()}
    with torch.inference_mode():
        given, expected = made.eval()(**other), model(**other)
    given, expected = (value.values() if isinstance(value, dict) else [value] for value in (given, expected))
    assert all(torch.equal(one, two) for one, two in zip(given, expected, strict=True))
