"""Layers that are made on a condition, and forwards that decide by values."""

import textwrap

import pytest
import torch
from torch import nn

from builder import ConfigError, build
from builder.config.yaml_file import parse_yaml


def model(text, **args):
    return build(parse_yaml(textwrap.dedent(text), "model.yaml").value, **args)


def refusal(text, **args):
    with pytest.raises(ConfigError) as caught:
        model(text, **args)
    return str(caught.value)


SHORTCUT = """
    args: {width: 4}
    inputs: {x: [B, 4]}
    layers:
      body: {type: Linear, out_features: =width}
      project: {type: Linear, when: =width != 4, out_features: =width, bias: false}
    forward: return body(x) + (x if project is None else project(x))
"""


def test_a_layer_whose_condition_fails_is_none():
    ours = model(SHORTCUT)
    assert ours.project is None and list(ours.state_dict()) == ["body.weight", "body.bias"]
    x = torch.randn(2, 4)
    assert torch.equal(ours(x), ours.body(x) + x)
    assert "project" in ours._modules  # as `self.project = None` would be, once registered


def test_a_layer_whose_condition_holds_is_made_in_its_place():
    torch.manual_seed(0)
    ours = model(SHORTCUT, width=6)
    torch.manual_seed(0)
    body, project = nn.Linear(4, 6), nn.Linear(4, 6, bias=False)
    assert torch.equal(ours.body.weight, body.weight) and torch.equal(ours.project.weight, project.weight)


def test_containers_leave_out_what_is_not_made():
    ours = model("""
        args: {deep: false}
        inputs: {x: [B, 4]}
        layers:
          numbered:
            type: Sequential
            layers: [{type: Linear, out_features: 4}, {type: ReLU, when: =deep}, {type: Linear, out_features: 3}]
          named: {type: Sequential, layers: {"0": Tanh, "2": {type: Sigmoid, when: =deep}, "5": ReLU}}
    """)
    assert [name for name, _ in ours.named_modules()] == [
        "", "numbered", "numbered.0", "numbered.1", "named", "named.0", "named.5"
    ]  # fmt: skip
    assert ours(torch.randn(2, 4)).shape == (2, 3)


def test_a_condition_is_a_truth_value():
    assert refusal("args: {n: 3}\nlayers: {a: {type: ReLU, when: =n}}") == (
        "layers.a: 'when' is true or false\n  found:    3\n  expected: a condition, `=stride != 1`"
    )


def test_a_layer_hides_an_argument_from_further_out():
    ours = model("""
        args: {dropout: 0.5}
        inputs: {x: [B, 4]}
        layers:
          block:
            layers: {dropout: {type: Dropout, p: =dropout}}
            forward: return dropout(x)
    """)
    assert ours.block.dropout.p == ours.dropout == 0.5


def test_a_buffer_is_computed_with_dtypes():
    ours = model("""
        args: {size: 6}
        inputs: {x: [B, 3]}
        buffers: {frequencies: {value: "1.0 / 100.0 ** (arange(0, size, 2, dtype=float32) / size)", persistent: false}}
        forward: return x * frequencies
    """)
    assert torch.equal(ours.frequencies, 1.0 / 100.0 ** (torch.arange(0, 6, 2, dtype=torch.float32) / 6))
    assert not ours.state_dict()


RECURRENT = {
    "LSTM": {"hidden_size": 5, "num_layers": 2, "bidirectional": True},
    "LSTM ": {"hidden_size": 5, "proj_size": 3, "batch_first": True},
    "GRU": {"hidden_size": 5, "batch_first": True},
    "RNN": {"hidden_size": 5, "nonlinearity": "relu", "bidirectional": True},
    "RNN ": {"hidden_size": 5},
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("shape", [(2, 7, 4), (7, 4)])
def test_shapes_of_recurrent_layers_are_found_without_taking_their_steps(kind, shape):
    layer = {"type": kind.strip(), **RECURRENT[kind]}
    forward = "y, state = rnn(x)\nreturn out(y), state"
    raw = {"layers": {"rnn": layer, "out": {"type": "Linear", "out_features": 1}}, "forward": forward}
    ours = build(raw, inputs={"x": shape})
    output, _ = ours(torch.randn(shape))
    assert output.shape == (*shape[:-1], 1)
    assert ours.rnn.input_size == 4


DECIDES = """
    inputs: {x: [B, 4]}
    layers: {a: {type: Linear, out_features: 4}, b: %s}
    forward: |
      x = a(x)
      if rand(1).item() < 0.5:
        x = x * 2
      return b(x)
"""


def test_a_forward_may_decide_by_values_where_all_later_sizes_are_given():
    ours = model(DECIDES % "{type: Linear, in_features: 4, out_features: 2}")
    x = torch.randn(3, 4)
    outputs = {tuple(ours(x)[0].tolist()) for _ in range(50)}
    assert len(outputs) == 2


def test_a_size_after_a_decision_by_values_is_asked_for():
    assert refusal(DECIDES % "{type: Linear, out_features: 2}") == (
        "layers.b: the sizes of layer 'b' can't be found: what comes before it depends on the data's values\n"
        "  hint:     give Linear its in_features"
    )


def test_a_layer_that_cannot_be_read_makes_no_further_faults():
    text = refusal(
        "inputs: {x: [B, 4]}\nlayers: {a: {type: Linaer, out_features: 4}, b: ReLU}\nforward: return b(a(x))"
    )
    assert text.startswith("layers.a.type: unknown layer type 'Linaer'") and "unknown function" not in text
    assert "needs `layers`" not in refusal("inputs: {x: [B, 4]}\nlayers: {a: Linaer}")


def test_a_misfit_inside_a_block_names_the_line_of_its_forward(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(
        "inputs: {x: [B, 4]}\n"
        "blocks:\n"
        "  Add:\n"
        "    layers: {fc: {type: Linear, out_features: 3}}\n"
        "    forward: |\n"
        "      y = fc(x)\n"
        "      return x + y\n"
        "layers: {a: Add}\n"
    )
    with pytest.raises(ConfigError) as caught:
        build(path)
    assert str(caught.value).startswith(f"{path}:7: blocks.Add.forward: shapes don't fit in Add 'a'")
    assert "an input of shape [2, 4], after Linear 'a.fc' (out_features=3), which gave [2, 3]" in str(caught.value)
