"""What rules take, in which order, and what is told of it afterwards."""

import itertools
import sys
from pathlib import Path

import pytest
import torch

import builder
from builder.config.folders import blocks, search_path
from builder.config.origin import Origins
from builder.config.yaml_file import parse_yaml
from builder.model.filled import filled
from builder.model.infer import explore
from builder.model.init_read import with_rules
from builder.model.read import read_definition
from builder.weights.init_report import lines

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))

from init_helpers import built, definition_of, printed, reported, same  # noqa: E402

TWO = """
inputs: {x: [B, 4]}
layers:
  first: {type: Linear, out_features: 3}
  second: {type: Linear, out_features: 2}
"""


def values(model):
    """The one value that each parameter holds everywhere."""
    return {name: parameter.flatten()[0].item() for name, parameter in model.named_parameters() if parameter.std() == 0}


def test_what_no_rule_takes_keeps_pytorch_s_default_bit_for_bit():
    plain, ruled = built(TWO), built(TWO + "init: {select: second, bias: {type: constant_, val: 3}}")
    assert values(ruled) == {"second.bias": 3}
    torch.nn.init.constant_(plain.second.bias, 3)
    same(plain, ruled)


def test_later_rules_win_and_the_last_key_of_a_rule():
    rules = "[{'*': ones_, bias: {type: constant_, val: 2}, 'b*': {type: constant_, val: 5}}, {select: first, weight: zeros_}]"
    model = built(f"{TWO}init: {rules}")
    assert values(model) == {"first.weight": 0, "first.bias": 5, "second.weight": 1, "second.bias": 5}


def test_the_last_key_alone_draws():
    rules = "{'*': normal_, weight: zeros_}"
    model = built(f"{TWO}init: {rules}")
    torch.manual_seed(0)
    linears = [torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)]
    assert torch.equal(model.first.bias, torch.nn.init.normal_(linears[0].bias))
    assert torch.equal(model.second.bias, torch.nn.init.normal_(linears[1].bias))


@pytest.mark.parametrize("gate", [0, 1, 2, 3])
def test_a_gate_by_name_is_a_quarter_of_an_lstm_s_parameter(gate):
    name = ("input", "forget", "cell", "output")[gate]
    text = f"inputs: {{x: [B, T, 4]}}\nlayers: [{{type: LSTM, hidden_size: 3, init: {{bias_hh_l0: {{type: ones_, gate: {name}}}}}}}]"
    bias = built(text).get_parameter("0.bias_hh_l0")
    assert [bool((part == 1).all()) for part in bias.chunk(4)] == [index == gate for index in range(4)]


def test_forget_gates_do_what_they_are_called_after():
    rules = "[{'*': zeros_}, {bias_hh_l0: {type: constant_, val: VALUE, gate: forget}}]"
    text = f"inputs: {{x: [B, T, 1]}}\nlayers: [{{type: LSTM, hidden_size: 2, init: {rules}}}]"
    start = (torch.zeros(1, 1, 2), torch.ones(1, 1, 2))
    for value, kept in ((50, 1.0), (-50, 0.0)):
        lstm = built(text.replace("VALUE", str(value)))[0]
        _, (_, cell) = lstm(torch.zeros(3, 1, 1), start)
        assert cell.flatten().tolist() == pytest.approx([kept, kept])


def test_tied_parameters_are_filled_once_and_by_any_of_their_names():
    text = """
    inputs: {ids: {shape: [B, T], dtype: int64}}
    init: {select: SELECT, weight: {type: constant_, val: =count}}
    layers:
      tok: {type: Embedding, num_embeddings: 5, embedding_dim: 4}
      head: {type: Linear, out_features: 5, bias: false}
    tie: {head.weight: tok.weight}
    """
    for select in ("tok", "head", "'**'", "{type: Linear}", "{type: [Linear, Embedding]}"):
        model = built(text.replace("SELECT", select))
        assert model.tok.weight is model.head.weight
        assert values(model) == {"tok.weight": 1}
        same(printed(text.replace("SELECT", select))[0], model)


def test_inferred_sizes_repeats_and_parameters_of_one_s_own():
    text = """
    args: {depth: 3}
    inputs: {x: [B, 6]}
    blocks:
      Scale:
        init: {gain: {type: constant_, val: 2}}
        parameters: {gain: {shape: [6], init: normal_}}
        forward: return x * gain
    layers:
      scales: {type: Sequential, repeat: =depth, layer: {type: Scale, init: {gain: {type: constant_, val: =i}}}}
      fc: {type: Linear, out_features: 2, init: {weight: {type: orthogonal_, gain: =depth}}}
    """
    model = built(text)
    assert values(model) == {f"scales.{index}.gain": index for index in range(3)}
    assert torch.allclose(model.fc.weight @ model.fc.weight.T, 9 * torch.eye(2), atol=1e-5)
    same(printed(text)[0], model)


def test_a_model_in_part_keeps_the_rules_for_what_is_left_of_it():
    text = """
    inputs: {x: [B, 4]}
    blocks:
      Whole:
        args: {scale: 3}
        init: [{select: [a, b], bias: {type: constant_, val: =scale}}, {select: b, weight: zeros_}]
        layers: {a: {type: Linear, out_features: 3}, b: {type: Linear, out_features: 2}}
    layers:
      trunk: {type: FeatureExtractor, of: Whole, until: b, init: {weight: ones_}}
    """
    model = built(text)
    assert values(model) == {"trunk.a.weight": 1, "trunk.a.bias": 3}
    assert not model.trunk.a.weight.requires_grad


def test_nothing_is_drawn_on_the_meta_device():
    text = TWO + "init: {weight: orthogonal_, bias: normal_}"
    before = torch.get_rng_state()
    model = builder.build(parse_yaml(text, "m.yaml").value, device="meta")
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert torch.equal(torch.get_rng_state(), before)
    _, report = reported(text, device="meta")
    assert [(row.mean, row.std) for row in report.rows] == [(None, None)] * 4


def test_checking_takes_no_random_numbers():
    rules = (
        "{weight: orthogonal_, bias: {type: uniform_, b: 2}}, {select: first, weight: {type: sparse_, sparsity: 0.5}}"
    )
    definition = definition_of(f"{TWO}init: [{rules}]")
    before = torch.get_rng_state()
    explore(definition, {}, {})
    assert torch.equal(torch.get_rng_state(), before)


def test_a_huge_model_s_rules_are_checked_without_memory():
    text = """
    inputs: {x: [B, 1000000]}
    init: [{weight: orthogonal_}, {weight: {type: sparse_, sparsity: 0.1}}, {weight: eye_}]
    layers: [{type: Linear, out_features: 1000000}, {type: Linear, out_features: 1000000}]
    """
    assert definition_of(text).rules
    explore(definition_of(text), {}, {})


def test_the_report_says_what_filled_each_parameter():
    text = TWO + "init: [{weight: ones_}, {select: second, bias: {type: constant_, val: =1 / 4}}]"
    _, report = reported(text)
    assert [(row.parameter, row.shape, row.rule, row.origin) for row in report.rows] == [
        ("first.weight", (3, 4), "{weight: ones_}", "m.yaml:6"),
        ("first.bias", (3,), None, None),
        ("second.weight", (2, 3), "{weight: ones_}", "m.yaml:6"),
        ("second.bias", (2,), "second: {bias: {type: constant_, val: =1 / 4}}", "m.yaml:6"),
    ]
    assert (report.rows[0].mean, report.rows[0].std) == (1, 0)
    assert (report.rows[3].mean, report.rows[3].std) == (0.25, 0)
    plain = report.to_json()
    assert plain["rules_that_took_nothing"] == []
    assert plain["parameters"][0] == {
        "parameter": "first.weight", "shape": [3, 4], "rule": "{weight: ones_}", "fill": "weight: ones_", "origin": "m.yaml:6", "mean": 1.0, "std": 0.0
    }  # fmt: skip


def test_the_report_as_a_table():
    text = """
    inputs: {x: [B, 4]}
    init: {select: {type: [Linear, Conv2d]}, weight: eye_, scale: zeros_, optional: true}
    parameters: {shift: {shape: [], init: {type: constant_, val: 2}}}
    layers:
      stack: {type: Sequential, repeat: 3, layer: {type: Linear, out_features: 4, bias: false}}
      norm: LayerNorm
    forward: return norm(stack(x)) + shift
    """
    _, report = reported(text)
    assert lines(report) == [
        "parameter            shape   mean  std    initialised by",
        "shift                scalar  2     0      shift: {init: {type: constant_, val: 2}}  (m.yaml:4)",
        "stack.{0..2}.weight  4×4     0.25  0.433  weight: eye_                              (m.yaml:3)",
        "norm.weight          4       1     0      PyTorch's default",
        "norm.bias            4       0     0      PyTorch's default",
        "Nothing for {type: [Linear, Conv2d]}: {scale: zeros_} (m.yaml:3).",
    ]


def test_a_layer_that_others_are_copies_of():
    text = """
    inputs: {x: [B, T, 4]}
    layers:
      encoder:
        type: TransformerEncoder
        num_layers: 2
        enable_nested_tensor: false
        encoder_layer: {type: TransformerEncoderLayer, nhead: 2, dim_feedforward: 8, init: {select: linear1, weight: ones_}}
    """
    model, report = reported(text)
    filled = {row.parameter for row in report.rows if row.rule}
    assert filled == {f"encoder.layers.{index}.linear1.weight" for index in range(2)}
    assert set(values(model)) >= filled


def test_rules_of_the_config_come_after_the_model_s_own():
    text = "args: {scale: 4}\n" + TWO + "init: {bias: ones_}"
    section = [{"select": "second", "bias": {"type": "constant_", "val": "=scale"}}]
    model, report = reported(text, section=section)
    assert values(model) == {"first.bias": 1, "second.bias": 4}
    same(printed(text, section=section)[0], model)
    assert [row.rule for row in report.rows if row.parameter == "second.bias"] == [
        "second: {bias: {type: constant_, val: =scale}}"
    ]


@pytest.mark.parametrize("own", ["", "init: {bias: ones_}", "init: [{bias: ones_}]"])
def test_the_model_written_with_its_sizes_keeps_all_rules(own):
    text = TWO + own
    section = [{"select": "second", "weight": {"type": "constant_", "val": "=1 / data.n"}}]
    raw = parse_yaml(text, "m.yaml").value
    definition = with_rules(read_definition(raw, Origins(), ("model",)), section, Origins())
    found = explore(definition, {}, {"n": 4})
    out = filled(raw, definition, {}, {"n": 4}, found, blocks(search_path()))
    assert out["init"] == ([{"bias": "ones_"}] if own else []) + [
        {"select": "second", "weight": {"type": "constant_", "val": 0.25}}
    ]
    torch.manual_seed(0)
    again = builder.build(out)
    assert values(again) == {"second.weight": 0.25} | ({"first.bias": 1, "second.bias": 1} if own else {})


SELECTORS = [
    "first", "'*.fc'", "'**.fc'", "'**'", "'st*'", "'stack.[0-1].**'", "'stack.?'", "'re:stack\\.(0|2)\\.fc'", "'re:(?i:FIRST)'",
    "{type: Linear, not: first}", "{type: [Linear, LayerNorm], ndim: 1}", "{name: 'w*', ndim: [2, 3]}", "{requires_grad: true}",
    "{match: [first, 'stack.1'], name: [bias, gain]}", "[first, {type: Cell, name: gain}]", "{type: Cell}", "{type: Sequential}",
    "{not: {name: bias}}", "'**.gain'", "'stack.2.fc.weight'", "'re:.*(?<!c)\\.[gb].*'",
]  # fmt: skip


@pytest.mark.parametrize(
    ("select", "key"),
    list(zip(SELECTORS, itertools.cycle(["'[bw]*'", "'*'", "'re:b.*|gain'", "'g*'"]), strict=False)),
)
def test_each_kind_of_selector_is_printed_as_a_condition_that_says_the_same(select, key):
    text = f"""
    args: {{depth: 3}}
    inputs: {{x: [B, 4]}}
    init: {{select: {select}, {key}: {{type: uniform_, b: =1 / count}}, optional: true}}
    blocks:
      Cell:
        parameters: {{gain: {{shape: [4], init: ones_}}}}
        layers: {{fc: {{type: Linear, out_features: 4}}, norm: LayerNorm}}
        forward: return norm(fc(x)) * gain
    layers:
      first: {{type: Linear, out_features: 4}}
      stack: {{type: Sequential, repeat: =depth, layer: Cell}}
    """
    model, code = printed(text)
    same(model, built(text))
    assert max(map(len, code.splitlines())) <= 100


def test_names_of_the_config_never_mix_with_those_of_a_printed_loop():
    text = """
    args: {name: 3, gate: 0.5, parameter: 2.0, count: 9, layer: 4}
    inputs: {x: [B, T, 4]}
    init:
      - {"weight*": {type: normal_, mean: "=name + gate + parameter + count"}, "bias*": {type: constant_, val: =layer}}
      - {select: {type: LSTM}, "weight_hh*": {type: normal_, std: =gate, gate: each}}
    layers:
      parts:
        type: ModuleDict
        layers:
          a: {type: Linear, out_features: 4}
          "b-c": {type: Linear, out_features: 4, init: {bias: ones_}}
        init: {select: "b-c", weight: zeros_}
      maybe: {type: Linear, out_features: 4, when: =name > 2, init: {weight: {type: normal_, std: =gate}}}
      lstm: {type: LSTM, hidden_size: 4, num_layers: 3, batch_first: true}
      stacks:
        type: ModuleList
        repeat: 2
        layer:
          type: Sequential
          repeat: 2
          layer: {type: Linear, out_features: 4, init: {weight: {type: constant_, val: =i}}}
          init: {select: "0", bias: {type: constant_, val: =i + 1}}
    forward: |
      x = parts["b-c"](parts["a"](x))
      if maybe is not None:
        x = maybe(x)
      y, state = lstm(x)
      for part in stacks:
        y = part(y)
      return y
    """
    for args in ({}, {"name": 1, "count": 2}):
        same(printed(text, **args)[0], built(text, **args))
