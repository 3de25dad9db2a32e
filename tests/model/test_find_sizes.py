"""Sizes found without making the whole model are those that a whole model gives."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from builder import ConfigError, build
from builder.config.folders import blocks, search_path
from builder.config.origin import Origins
from builder.model.infer import explore, find_sizes
from builder.model.infer_bare import bare
from builder.model.infer_leaves import LEAVES, leaf_output
from builder.model.infer_sketch import sketched
from builder.model.read import read_definition


def definition_of(**raw):
    return read_definition(raw, Origins(), (), blocks(search_path()))


STACK = {
    "inputs": {"x": ["B", 3, 32, 32]},
    "layers": [
        {"type": "Conv2d", "out_channels": 8, "kernel_size": 3, "padding": 1},
        "BatchNorm2d",
        {"type": "ReLU", "inplace": True},
        {"type": "MaxPool2d", "kernel_size": 2},
        {"type": "Sequential", "repeat": 3, "layer": {"type": "ConvNormAct", "channels": 8}},
        {"type": "ConvTranspose2d", "out_channels": 4, "kernel_size": 2, "stride": 2},
        "Flatten",
        {"type": "Linear", "out_features": 12},
        "LayerNorm",
        {"type": "Unflatten", "dim": 1, "unflattened_size": [3, 4]},
        {"type": "LSTM", "hidden_size": 5, "batch_first": True},
    ],
}


def test_the_sizes_are_those_of_a_whole_model():
    definition = definition_of(**STACK)
    sizes = sketched(definition, {}, {}, {})
    assert sizes == explore(definition, {}, {}).sizes
    assert sizes["0"] == {"in_channels": 3}
    assert sizes["4.2.conv"] == {"in_channels": 8}
    assert sizes["7"] == {"in_features": 4096}


PAIRED = {
    "inputs": {"a": ["B", 64], "b": ["B", "N"], "c": ["B", 224]},
    "blocks": {"Head": {"layers": {"fc": {"type": "Linear", "out_features": 4}}}},
    "layers": {"first": "Head", "second": "Head", "third": "Head"},
    "forward": "return first(a) + third(c) + second(b)",
}


@pytest.mark.parametrize("find", [explore, find_sizes])
def test_a_size_of_a_recalled_block_that_follows_from_a_guess_is_refused(find):
    # The guesses for N are 64 and 224: each time another block was given the same.
    with pytest.raises(ConfigError, match="in_features of layer 'second.fc' depends on a free dimension"):
        find(definition_of(**PAIRED), {}, {})


def test_the_same_with_layers_in_place_of_blocks_is_refused():
    with pytest.raises(ConfigError, match="in_features of layer 'second' depends on a free dimension"):
        build(
            {
                **PAIRED,
                "layers": dict.fromkeys(("first", "second", "third"), {"type": "Linear", "out_features": 4}),
            }
        )


def test_a_block_is_not_recalled_for_an_input_laid_out_otherwise():
    raw = {
        "inputs": {"x": ["B", 4, 4]},
        "blocks": {
            "View": {"layers": {"fc": {"type": "Linear", "out_features": 2}}, "forward": "return fc(x.view(-1, 16))"}
        },
        "layers": {"first": "View", "second": "View"},
        "forward": "return first(x) + second(x.transpose(1, 2))",
    }
    with pytest.raises(ConfigError, match="view size is not compatible"):
        build(raw)


def test_a_weight_used_before_its_layer_is_called_has_the_layer_made():
    raw = {
        "inputs": {"x": ["B", 4]},
        "layers": {
            "fc": {"type": "Linear", "in_features": 4, "out_features": 4},
            "out": {"type": "Linear", "out_features": 2},
        },
        "forward": "return out(x @ fc.weight + fc(x))",
    }
    assert build(raw).out.in_features == 4


def test_a_layer_that_is_never_called_is_checked_all_the_same():
    raw = {
        "inputs": {"x": ["B", 4]},
        "layers": {
            "spare": {
                "type": "Conv2d",
                "in_channels": 3,
                "out_channels": 4,
                "kernel_size": 3,
                "groups": 2,
                "unused": True,
            },
            "out": {"type": "Linear", "out_features": 2},
        },
        "forward": "return out(x)",
    }
    with pytest.raises(ConfigError, match="Conv2d refuses its arguments: in_channels must be divisible by groups"):
        build(raw)


def test_all_faults_of_arguments_are_told_at_once():
    conv = {"type": "Conv2d", "in_channels": 3, "out_channels": 4, "kernel_size": 3, "groups": 2}
    with pytest.raises(ConfigError) as caught:
        build(
            {"inputs": {"x": ["B", 3, 8, 8]}, "args": {"p": 0}, "layers": [conv, {"type": "Dropout", "p": "=1 // p"}]}
        )
    assert len(caught.value.faults) == 2


ARGUMENTS = {
    nn.Linear: {"in_features": (2, 3, 0), "out_features": (3, 4), "bias": (True, False)},
    nn.LayerNorm: {"normalized_shape": (2, 3), "eps": (1e-5, 1), "elementwise_affine": (True, False), "bias": (False,)},
    nn.ReLU: {"inplace": (True, False)},
    nn.SiLU: {"inplace": (True, False)},
    nn.GELU: {"approximate": ("none", "tanh", "wrong")},
    nn.Dropout: {"p": (0, 0.5, 2), "inplace": (True, False)},
    nn.Sigmoid: {},
    nn.Tanh: {},
    **{
        getattr(nn, f"Conv{n}d"): {
            "in_channels": (1, 2, 3), "out_channels": (2, 3, 4), "kernel_size": (1, 2, (3,) * n, (2,) * (n + 1)),
            "stride": (1, 2, (2,) * n), "padding": (0, 1, "same"), "dilation": (1, 2), "groups": (1, 2),
            "bias": (True, False), "padding_mode": ("zeros", "reflect"),
        }
        for n in (1, 2, 3)
    },
    **{
        getattr(nn, f"BatchNorm{n}d"): {"num_features": (1, 2, 3), "eps": (1e-5,), "momentum": (0.1,), "affine": (True, False)}
        for n in (2, 3)
    },
}  # fmt: skip
NEEDED = (
    "in_features",
    "out_features",
    "in_channels",
    "out_channels",
    "kernel_size",
    "num_features",
    "normalized_shape",
)


@st.composite
def leaf_calls(draw):
    kind = draw(st.sampled_from(list(LEAVES)))
    arguments = {
        name: draw(st.sampled_from(values))
        for name, values in ARGUMENTS[kind].items()
        if name in NEEDED or draw(st.sampled_from((False, False, True)))
    }
    digit = kind.__name__[-2] if kind.__name__[-2].isdigit() else None
    ndim = draw(st.just(int(digit) + 2) if digit else st.integers(1, 4))
    shape = draw(st.lists(st.sampled_from((1, 2, 3, 5)), min_size=ndim, max_size=ndim))
    return (
        kind,
        arguments,
        torch.empty(shape, device="meta", dtype=draw(st.sampled_from((torch.float32,) * 5 + (torch.half,)))),
    )


@pytest.mark.filterwarnings("ignore")  # PyTorch's own
def test_what_a_layer_is_known_to_return_is_what_it_returns():
    answered = []

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(leaf_calls())
    def compare(call):
        kind, arguments, x = call
        found = leaf_output(kind, arguments, (x,), {})
        answered.append(found is not None)
        if found is not None:
            with torch.device("meta"), torch.no_grad():
                wanted = kind(**arguments)(x)
            assert (found.shape, found.stride(), found.dtype) == (wanted.shape, wanted.stride(), wanted.dtype)

    assert set(ARGUMENTS) == set(LEAVES)
    compare()
    assert sum(answered) > len(answered) / 5


BUILDS = """
import sys
from builder import build
from builder.config.folders import shipped_configs
sizes = {"vocab": 50, "context": 16, "width": 16, "depth": 2, "heads": 2}
build(shipped_configs() / "model/gpt.yaml", **sizes)
build(shipped_configs() / "model/resnet18.yaml", classes=5, inputs={"x": (2, 3, 64, 64)}, width=4)
build(shipped_configs() / "model/bert.yaml", vocab=50, width=16, depth=1, heads=2)
print("torch._dynamo" in sys.modules)
"""


def test_common_models_are_built_without_pytorchs_compiler():
    done = subprocess.run([sys.executable, "-c", BUILDS], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(
    "kind, arguments",
    [
        (nn.Linear, {"in_features": 2, "out_features": 3}),
        (nn.Conv2d, {"in_channels": 2, "out_channels": 3, "kernel_size": 3}),
        (nn.BatchNorm2d, {"num_features": 3}),
        (nn.Embedding, {"num_embeddings": 3, "embedding_dim": 2, "padding_idx": 0}),
        (nn.LSTM, {"input_size": 2, "hidden_size": 3}),
        (nn.Dropout, {"p": 0.1}),
    ],
)
def test_a_layer_without_initial_values_is_else_the_same(kind, arguments):
    with torch.device("meta"):
        made, wanted = bare(kind, arguments), kind(**arguments)
    assert repr(made) == repr(wanted)
    assert list(made.__dict__) == list(wanted.__dict__)
    assert {name: x.shape for name, x in made.state_dict().items()} == {
        name: x.shape for name, x in wanted.state_dict().items()
    }
