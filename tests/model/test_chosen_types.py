"""Types that arguments choose, and parameters that are made on a condition: as a hand-written constructor does both."""

import copy
import pickle
import textwrap
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from builder import ConfigError, build
from builder.config.folders import blocks, search_path
from builder.config.origin import Origins
from builder.config.yaml_file import parse_yaml
from builder.model.filled import filled
from builder.model.infer import explore
from builder.model.read import read_definition
from builder.model.source import source

CHOICES = """
    args: {channels: 8, activation: GELU, normalisation: BatchNorm2d, block: Plain}
    inputs: {x: [B, 3, 8, 8]}
    blocks:
      Plain:
        args: {channels: required, activation: required}
        layers:
          conv: {type: Conv2d, out_channels: =channels, kernel_size: 3, padding: 1}
          act: =activation
        forward: return x + act(conv(x))
      Wide:
        args: {channels: required, activation: required}
        layers:
          conv: {type: Conv2d, out_channels: =2 * channels, kernel_size: 3, padding: 1}
          act: =activation
          out: {type: Conv2d, out_channels: =channels, kernel_size: 1}
        forward: return x + out(act(conv(x)))
    layers:
      stem: {type: Conv2d, out_channels: =channels, kernel_size: 3, padding: 1}
      norm: {type: =normalisation}
      body: {type: Sequential, repeat: 2, layer: {type: =block, channels: =channels, activation: =activation}}
      pool: {type: AdaptiveAvgPool2d, output_size: 1}
      flat: Flatten
      fc: {type: Linear, out_features: 4}
"""


class Wide(nn.Module):
    def __init__(self, channels, activation):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.act = activation()
        self.out = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x):
        return x + self.out(self.act(self.conv(x)))


class ByHand(nn.Module):
    def __init__(self, channels=8, activation=nn.GELU, normalisation=nn.BatchNorm2d, block=Wide):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.norm = normalisation(channels)
        self.body = nn.Sequential(*[block(channels, activation) for _ in range(2)])
        self.fc = nn.Linear(channels, 4)

    def forward(self, x):
        return self.fc(self.body(self.norm(self.stem(x))).mean(dim=[2, 3]))


def read(text):
    return parse_yaml(textwrap.dedent(text), "model.yaml").value


def refusal(text, **args):
    with pytest.raises(ConfigError) as caught:
        build(read(text), **args)
    return str(caught.value)


def code(text, **args):
    definition = read_definition(read(text), Origins(), (), blocks(search_path()))
    return source(definition, args, {}, explore(definition, args, {}))


def test_arguments_choose_layers_and_blocks():
    torch.manual_seed(0)
    ours = build(read(CHOICES), block="Wide", activation="SiLU")
    torch.manual_seed(0)
    theirs = ByHand(activation=nn.SiLU)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)  # pooling and a mean may round otherwise
    for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(copied.eval()(x), ours.eval()(x))


def test_sizes_are_found_for_whichever_type_is_chosen():
    assert build(read(CHOICES), normalisation="InstanceNorm2d").norm.num_features == 8
    assert build(read(CHOICES), normalisation="LayerNorm").norm.normalized_shape == (8,)
    assert build(read(CHOICES), normalisation="Identity").fc.in_features == 8


def test_a_recurrent_cell_may_be_chosen_and_an_argument_of_a_layer():
    text = """
        args: {cell: LSTM, layer: TransformerEncoderLayer}
        inputs: {x: [B, T, 4]}
        layers:
          rnn: {type: =cell, hidden_size: 8, batch_first: true}
          encoder: {type: TransformerEncoder, encoder_layer: {type: =layer, d_model: 8, nhead: 2}, num_layers: 1, enable_nested_tensor: false}
        forward: |
          y, state = rnn(x)
          return encoder(y)
    """
    for cell in ("LSTM", "GRU", "RNN"):
        model = build(read(text), cell=cell)
        assert type(model.rnn) is getattr(nn, cell) and model.rnn.input_size == 4
        assert type(model.encoder.layers[0]) is nn.TransformerEncoderLayer


def test_what_a_formula_chooses_is_refused_where_it_stands():
    assert refusal(CHOICES, activation="Gelu") == (
        "blocks.Plain.layers.act.type: unknown layer type 'Gelu'\n  found:    '=activation'\n"
        "  did you mean 'GELU' or 'GLU' or 'ELU'?\n  hint:     `builder registry layer` lists the layers"
    )
    assert refusal(CHOICES, normalisation=3) == (
        "layers.norm.type: 'type' is the name of a layer or block\n  found:    '=normalisation, which is 3'\n"
        "  expected: a name, or a mapping with a `type` and arguments"
    )
    assert "layers.body.layer.channels: layer ReLU has no argument 'channels'" in refusal(CHOICES, block="ReLU")
    assert "unknown name 'activate' in a formula" in refusal(CHOICES.replace("act: =activation", "act: =activate"))
    assert "takes no 'layers' of the language" in refusal(
        CHOICES.replace("{type: =normalisation}", "{type: =normalisation, layers: [ReLU]}")
    )


def test_a_block_that_chooses_itself_is_refused():
    text = """
        args: {kind: Loop}
        inputs: {x: [B, 3]}
        blocks: {Loop: {args: {kind: required}, layers: {inner: {type: =kind, kind: =kind}}}}
        layers: {a: {type: Loop, kind: =kind}}
    """
    assert refusal(text) == "blocks.Loop.layers.inner: layers lie more than 64 deep\n  found:    '=kind'"
    assert "layer Identity has no argument" not in str(build(read(text), kind="Identity"))


def test_the_printed_code_has_the_types_themselves():
    text = code(CHOICES, block="Wide")
    assert "activation" not in text and "Plain" not in text and "normalisation" not in text
    space = {"__name__": "printed"}
    exec(compile(text, "printed.py", "exec"), space)  # what was printed, in this process
    torch.manual_seed(0)
    ours = build(read(CHOICES), block="Wide")
    torch.manual_seed(0)
    printed = space["Model"](channels=8)
    assert all(torch.equal(a, printed.state_dict()[key]) for key, a in ours.state_dict().items())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(ours(x), printed(x))


def test_several_types_at_one_place_are_built_but_not_printed():
    text = CHOICES.replace("activation: =activation}}", "activation: \"=activation if i else 'ReLU'\"}}")
    assert [type(block.act) for block in build(read(text)).body] == [nn.ReLU, nn.GELU]
    with pytest.raises(ConfigError, match="one statement of plain code can't make layers of several types"):
        code(text)


def test_the_filled_model_builds_the_same_alone():
    raw = read(CHOICES.replace("block: Plain}", "block: MLP}").replace(
        "{type: =block, channels: =channels, activation: =activation}", "{type: =block, hidden: 4, outputs: 8}"))  # fmt: skip
    library = blocks(search_path())
    definition = read_definition(raw, Origins(), (), library)
    found = explore(definition, {}, {})
    alone = filled(raw, definition, {}, {}, found, library)
    assert "MLP" in alone["blocks"]
    assert list(build(alone).state_dict()) == list(build(raw).state_dict())


SLOTS = """
    args: {width: 8, activation: {type: GELU, approximate: tanh}}
    inputs: {x: [B, T, 8]}
    blocks:
      PreNorm:
        args: {fn: required}
        layers: {norm: LayerNorm, body: =fn}
        forward: return x + body(norm(x))
      Mlp:
        args: {hidden: required, activation: GELU}
        layers: {up: {type: Linear, out_features: =hidden}, act: =activation, down: {type: Linear, out_features: =hidden // 4}}
    layers:
      a: {type: PreNorm, fn: {type: Mlp, hidden: =4 * width, activation: =activation}}
      b: {type: PreNorm, fn: {type: Sequential, layers: [{type: Linear, out_features: =width}, ReLU]}}
      c: {type: ModuleList, repeat: 2, layer: {type: PreNorm, fn: {type: Linear, out_features: =width}}}
    forward: |
      x = b(a(x))
      for layer in c:
        x = layer(x)
      return x
"""


class PreNorm(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.body = fn()

    def forward(self, x):
        return x + self.body(self.norm(x))


class SlotsByHand(nn.Module):
    def __init__(self):
        super().__init__()
        layers = {"up": nn.Linear(8, 32), "act": nn.GELU(approximate="tanh"), "down": nn.Linear(32, 8)}
        self.a = PreNorm(lambda: nn.Sequential(OrderedDict(layers)))
        self.b = PreNorm(lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU()))
        self.c = nn.ModuleList([PreNorm(lambda: nn.Linear(8, 8)) for _ in range(2)])

    def forward(self, x):
        x = self.b(self.a(x))
        for layer in self.c:
            x = layer(x)
        return x


def test_a_layer_may_be_an_argument_of_a_block():
    space = {"__name__": "printed"}
    exec(compile(code(SLOTS), "printed.py", "exec"), space)
    made = []
    for make in (SlotsByHand, lambda: build(read(SLOTS)), space["Model"]):
        torch.manual_seed(0)
        made.append(make())
    theirs, ours, printed = made
    x = torch.randn(2, 3, 8)
    for model in (ours, printed, pickle.loads(pickle.dumps(ours))):
        assert list(model.state_dict()) == list(theirs.state_dict())
        assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in model.state_dict().items())
        assert torch.equal(model(x), theirs(x))
    assert build(read(SLOTS), activation="Tanh").a.body.act.__class__ is nn.Tanh


def test_the_printed_classes_of_a_block_are_one_for_each_type():
    assert [line for line in code(SLOTS).splitlines() if line.startswith("class ")] == [
        "class Mlp(nn.Sequential):", "class PreNorm(nn.Module):", "class PreNorm2(nn.Module):",
        "class PreNorm3(nn.Module):", "class Model(nn.Module):"
    ]  # fmt: skip


def test_a_layer_that_is_an_argument_is_checked_where_it_is_made():
    assert refusal(SLOTS, activation={"type": "GELU", "approx": "tanh"}) == (
        "blocks.Mlp.layers.act.approx: layer GELU has no argument 'approx'\n  expected: approximate\n"
        "  did you mean 'approximate'?"
    )


LINEAR = """
    args: {out_features: 4, bias: true, scaled: false}
    inputs: {x: [B, 3]}
    parameters:
      weight: {shape: [=out_features, 3], init: {type: kaiming_uniform_, a: =sqrt(5)}}
      shift: {shape: [=out_features], init: {type: uniform_, a: -0.5, b: 0.5}, when: =bias}
    buffers:
      scale: {shape: [=out_features], init: ones_, when: =scaled}
      steps: {value: "arange(out_features)", when: =scaled, persistent: false}
    forward: |
      y = linear(x, weight, shift)
      if scale is not None:
        y = y * scale + steps
      return y
"""


class LinearByHand(nn.Module):
    def __init__(self, out_features=4, bias=True, scaled=False):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        if bias:
            self.shift = nn.Parameter(torch.empty(out_features))
            nn.init.uniform_(self.shift, -0.5, 0.5)
        else:
            self.register_parameter("shift", None)
        self.register_buffer("scale", torch.ones(out_features) if scaled else None)
        self.register_buffer("steps", torch.arange(out_features) if scaled else None, persistent=False)

    def forward(self, x):
        y = F.linear(x, self.weight, self.shift)
        return y if self.scale is None else y * self.scale + self.steps


@pytest.mark.parametrize("args", [{}, {"bias": False}, {"scaled": True}], ids=str)
def test_tensors_on_a_condition(args):
    torch.manual_seed(0)
    ours = build(read(LINEAR), **args)
    torch.manual_seed(0)
    theirs = LinearByHand(**args)
    space = {"__name__": "printed"}
    exec(compile(code(LINEAR, **args), "printed.py", "exec"), space)
    torch.manual_seed(0)
    printed = space["Model"](**args)
    x = torch.randn(5, 3)
    for model in (ours, printed):
        assert list(model.state_dict()) == list(theirs.state_dict())
        assert list(model._parameters) == list(theirs._parameters)
        assert torch.equal(model(x), theirs(x))
        model.load_state_dict(theirs.state_dict())


def test_a_condition_of_a_tensor_is_true_or_false():
    assert "parameters.shift: 'when' is true or false\n  found:    3" in refusal(LINEAR, bias=3)
