"""A model up to one of its layers, against the same cut by hand."""

import pytest
import torch
from torch import nn

from builder import ConfigError, build
from builder.config.yaml_file import parse_yaml


def model(text, **args):
    return build(parse_yaml(text, "model.yaml").value, **args)


def test_all_children_but_the_last_frozen_as_in_python():
    torch.manual_seed(0)
    ours = model("""
inputs: {x: [B, 3, 32, 32]}
layers:
  trunk: {type: FeatureExtractor, of: {type: model/resnet18, width: 8, classes: 10}}
  head: {type: Linear, out_features: 5}
""")
    torch.manual_seed(0)
    from builder.config.folders import shipped_configs

    whole = build(shipped_configs() / "model/resnet18.yaml", width=8, classes=10, inputs={"x": (2, 3, 32, 32)})
    by_hand = nn.Sequential(*list(whole.children())[:-1])
    x = torch.randn(2, 3, 32, 32)
    ours.trunk.load_state_dict({key: value for key, value in whole.state_dict().items() if not key.startswith("fc.")})
    assert torch.equal(ours.trunk(x), by_hand(x))
    assert not any(parameter.requires_grad for parameter in ours.trunk.parameters())
    assert all(parameter.requires_grad for parameter in ours.head.parameters())
    assert ours.head.in_features == 64


def test_a_forward_is_cut_where_the_layer_is_called_with_what_it_is_given():
    ours = model("""
inputs: {x: [B, 1, 8, 8]}
layers:
  trunk: {type: FeatureExtractor, of: {type: model/cnn, channels: 4, depth: 1}, until: fc, frozen: false}
forward: return trunk(x)
""")
    x = torch.randn(2, 1, 8, 8)
    ours.eval()
    trunk = ours.trunk
    assert [name for name, _ in trunk.named_children()] == ["stem", "trunk", "dropout"]
    assert torch.equal(ours(x), trunk.trunk[0](torch.relu(trunk.stem(x))).mean(dim=[2, 3]))
    assert all(parameter.requires_grad for parameter in trunk.parameters())


def test_a_block_of_ones_own_is_cut_too():
    ours = model("""
inputs: {x: [B, 4]}
blocks:
  Net:
    args: {width: 3}
    layers: {a: {type: Linear, out_features: =width}, act: ReLU, b: {type: Linear, out_features: 9}}
layers: {f: {type: FeatureExtractor, of: {type: Net, width: 5}, until: act}}
""")
    assert [name for name, _ in ours.f.named_children()] == ["a"] and ours.f.a.out_features == 5


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        ("{type: FeatureExtractor, of: model/resnet19}", "did you mean 'model/resnet18'"),
        ("{type: FeatureExtractor, of: {type: model/resnet18, classes: 2}, until: fcc}", "it has no layer 'fcc'"),
        ("{type: FeatureExtractor, of: {type: model/cnn}, until: trunk}", "its forward never calls 'trunk'"),
        ("{type: FeatureExtractor, of: Linear}", "is of a block, a model or layers of its own"),
        ("{type: FeatureExtractor, to: 3, of: model/cnn}", "unknown key 'to'"),
        ("{type: FeatureExtractor, of: {type: model/cnn, chanels: 3}, until: fc}", "no argument 'chanels'"),
    ],
)
def test_what_cannot_be_cut_is_refused(node, wanted):
    with pytest.raises(ConfigError) as caught:
        model(f"inputs: {{x: [B, 1, 8, 8]}}\nlayers: {{f: {node}}}")
    assert wanted in str(caught.value)
