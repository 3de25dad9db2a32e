"""What docs/initialisation.md says of PyTorch's own initial values is true of layers that were just made."""

import math
import re

import pytest
import torch
import yaml
from torch import nn

import builder
from command_line import ROOT

TEXT = (ROOT / "docs/initialisation.md").read_text(encoding="utf-8")
CONVOLUTIONS = {f"{kind}{n}d": {"in_channels": 32, "out_channels": 48, "kernel_size": 3, "groups": 2}
                for kind in ("Conv", "ConvTranspose") for n in (1, 2, 3)}  # fmt: skip
RECURRENT = {
    name: {"input_size": 70, "hidden_size": 50} for kind in ("RNN", "LSTM", "GRU") for name in (kind, f"{kind}Cell")
}
ARGUMENTS = {
    "Linear": {"in_features": 300, "out_features": 200}, "Bilinear": {"in1_features": 30, "in2_features": 20, "out_features": 90},
    **CONVOLUTIONS, **RECURRENT,
    **{name: {"num_embeddings": 300, "embedding_dim": 60} for name in ("Embedding", "EmbeddingBag")},
    "MultiheadAttention": {"embed_dim": 96, "num_heads": 4},
    **{f"BatchNorm{n}d": {"num_features": 8} for n in (1, 2, 3)},
    "GroupNorm": {"num_groups": 2, "num_channels": 8}, "LayerNorm": {"normalized_shape": 8}, "RMSNorm": {"normalized_shape": 8},
    "PReLU": {"num_parameters": 4},
}  # fmt: skip


def rows():
    """Layer, parameter, distribution and formula of each cell of the table."""
    table = TEXT.split("## What PyTorch does by itself")[1]
    for line in re.findall(r"^\| (`.*) \|$", table, re.MULTILINE):
        layers, parameters, kind, formula = line.split(" | ")
        for layer in re.findall(r"`(\w+)`", layers):
            for parameter in re.findall(r"`([\w.]+)`", parameters):
                yield layer, parameter, kind, formula.strip("`")


def worked_out(formula, layer):
    """The number that a formula gives for a layer."""
    names = {name: value for name, value in vars(layer).items() if isinstance(value, int | float)}
    kernel = math.prod(getattr(layer, "kernel_size", ()))
    return eval(formula, {"__builtins__": {}, "sqrt": math.sqrt, "k": kernel}, names)  # our own documentation


@pytest.mark.parametrize(("name", "parameter", "kind", "formula"), list(rows()))
def test_the_table_is_true_of_a_layer_just_made(name, parameter, kind, formula):
    torch.manual_seed(0)
    layer = getattr(nn, name)(**ARGUMENTS[name])
    expected = worked_out(formula, layer)
    values = torch.cat([layer.get_parameter(parameter).detach().flatten()])
    while kind != "constant" and len(values) < 20_000:  # enough of them for the bounds below
        values = torch.cat([values, getattr(nn, name)(**ARGUMENTS[name]).get_parameter(parameter).detach().flatten()])
    if kind == "constant":
        assert (values == expected).all()
        return
    std = {"uniform": expected / math.sqrt(3), "normal": expected}[kind]
    # Five standard errors: of a mean std / sqrt(n), of a standard deviation at most std / sqrt(2 n).
    assert abs(values.mean()) < 5 * std / math.sqrt(len(values))
    assert abs(values.std() - std) < 5 * std / math.sqrt(2 * len(values))
    if kind == "uniform":
        assert 0.995 * expected < values.abs().max() <= expected
    else:
        assert values.abs().max() > 3 * expected


def test_the_table_speaks_of_all_parameters_of_its_layers():
    told = {(name, parameter) for name, parameter, *_ in rows()}
    for name, arguments in ARGUMENTS.items():
        layer = getattr(nn, name)(**arguments)
        assert {parameter for parameter, _ in layer.named_parameters()} == {p for layer_, p in told if layer_ == name}


def test_what_many_get_wrong():
    layer = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 2)
    first, second = layer.layers
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert nn.Linear(300, 10).weight.std() < 0.5 * math.sqrt(2 / 300)
    assert nn.Embedding(4, 8, padding_idx=2).weight[2].eq(0).all()


def test_the_page_s_examples_work_and_it_lists_all_presets():
    first, _, third = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    model = builder.build(yaml.safe_load(first))
    assert not model.first.bias.any()
    assert model.head.weight.std() < 0.03
    layer = yaml.safe_load(third)
    model = builder.build({"inputs": {"x": ["B", "T", 8]}, "layers": [layer]})
    assert model[0].bias_ih_l0.chunk(4)[1].eq(1).all()
    listed = re.findall(r"^\| `(\w+)` \|", TEXT.split("## Presets")[1].split("\n## ")[0], re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "configs/init").glob("*.yaml"))
