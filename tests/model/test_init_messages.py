"""Every fault of a rule is found when a model is checked, and told with its place and the way out."""

import re
import textwrap

import pytest
from init_helpers import definition_of, reported

import builder
from builder.errors import ConfigError

MODEL = """
inputs: {{x: [B, 4]}}
init: {init}
layers:
  first: {{type: Linear, out_features: 3}}
  act: ReLU
  norm: LayerNorm
"""


def told(text, **args):
    """The whole message."""
    with pytest.raises(ConfigError) as raised:
        reported(text, **args)
    return str(raised.value)


MESSAGES = {
    "a type that isn't there": (
        "{select: {type: Conv2d}, weight: normal_}",
        """\
        m.yaml:3: init.select.type: no module is of this type
          found:    'Conv2d'
          expected: one of Model, Linear, ReLU, LayerNorm""",
    ),
    "a name that isn't there": (
        "{select: frist, weight: normal_}",
        """\
        m.yaml:3: init.select: no module or parameter has such a name
          found:    'frist'
          did you mean 'first'?""",
    ),
    "one name of several that isn't there": (
        "{select: [first, zz], weight: zeros_}",
        """\
        m.yaml:3: init.select[1]: no module or parameter has such a name
          found:    'zz'
          expected: names such as first, act, norm""",
    ),
    "nothing to fill": (
        "{select: act, '*': zeros_}",
        """\
        m.yaml:3: init.select: what this selects has no parameters
          found:    'act'""",
    ),
    "a key that no parameter has": (
        "{wieght: normal_}",
        """\
        m.yaml:3: init.wieght: no parameter here is called 'wieght'
          expected: one of weight, bias
          did you mean 'weight'?""",
    ),
    "a key that nothing selected has": (
        "{select: first, scale: normal_}",
        """\
        m.yaml:3: init.scale: no parameter among what is selected is called 'scale'
          expected: one of weight, bias""",
    ),
    "a dotted key": (
        "{first.weight: normal_}",
        """\
        m.yaml:3: init.first.weight: 'first.weight' is more than a parameter's own name
          hint:     write `select: first, weight: …`""",
    ),
    "an unknown initialiser": (
        "{weight: normol_}",
        """\
        m.yaml:3: init.weight: unknown initialiser 'normol_'
          did you mean 'normal_' or 'uniform_' or 'trunc_normal_'?
          hint:     `builder registry initialiser` lists them""",
    ),
    "a number": (
        "{bias: 0.3}",
        """\
        m.yaml:3: init.bias: a parameter's name is followed by an initialiser
          found:    0.3
          expected: `normal_`, or `{type: normal_, std: 0.02}`
          hint:     a constant is `{type: constant_, val: 0.3}`""",
    ),
    "an unknown argument": (
        "{weight: {type: normal_, sd: 3}}",
        """\
        m.yaml:3: init.weight.sd: initialiser normal_ has no argument 'sd'
          expected: mean, std
          did you mean 'std'?""",
    ),
    "a missing argument": (
        "{weight: constant_}",
        """\
        m.yaml:3: init.weight: initialiser constant_ needs the argument 'val'
          expected: float""",
    ),
    "an argument of the wrong kind": (
        "{weight: {type: normal_, std: wide}}",
        """\
        m.yaml:3: init.weight.std: initialiser normal_ can't take this value for 'std'
          found:    'wide'
          expected: float""",
    ),
    "a formula that gives the wrong kind": (
        "{weight: {type: normal_, std: '=[count]'}}",
        """\
        m.yaml:3: init.weight.std: initialiser normal_ can't take this value for 'std'
          found:    [2]
          expected: float""",
    ),
    "a formula that divides by zero": (
        "{weight: {type: normal_, std: =1 / (count - 2)}}",
        """\
        m.yaml:3: init.weight.std: division by zero
          found:    '=1 / (count - 2)'""",
    ),
    "an unknown name in a formula": (
        "{weight: {type: normal_, std: =1 / cuont}}",
        """\
        m.yaml:3: init.weight.std: unknown name 'cuont' in a formula
          found:    '=1 / cuont'
          expected: one of count, data
          did you mean 'count'?""",
    ),
    "too few dimensions": (
        "{bias: xavier_normal_}",
        """\
        m.yaml:3: init.bias: xavier_normal_ can't fill 'first.bias' of shape [3]: Fan in and fan out can not be computed for tensor with fewer than 2 dimensions""",
    ),
    "the wrong number of dimensions": (
        "{select: first, weight: dirac_}",
        """\
        m.yaml:3: init.weight: dirac_ can't fill 'first.weight' of shape [3, 4]: Only tensors with 3, 4, or 5 dimensions are supported""",
    ),
    "gates where there are none": (
        "{select: first, weight: {type: orthogonal_, gate: each}}",
        """\
        m.yaml:3: init.weight.gate: 'first.weight' of Linear has no gates
          expected: weight_ih*, weight_hh*, bias_ih* or bias_hh* of LSTM, GRU, LSTMCell or GRUCell""",
    ),
    "no such gate": (
        "{weight: {type: ones_, gate: forgt}}",
        """\
        m.yaml:3: init.weight.gate: there is no gate 'forgt'
          expected: one of input, forget, cell, output, reset, update, new, each
          did you mean 'forget'?""",
    ),
    "a gate twice": (
        "{weight: {type: ones_, gate: [forget, forget]}}",
        """\
        m.yaml:3: init.weight.gate: 'gate' is a gate's name, a list of such, or `each`
          found:    ['forget', 'forget']
          expected: of input, forget, cell, output, reset, update, new""",
    ),
    "arguments of default": (
        "{weight: {type: default, std: 1}}",
        """\
        m.yaml:3: init.weight.std: 'default' takes no 'std'
          hint:     it is what the layer's reset_parameters does""",
    ),
    "no rule": (
        "[normal_]",
        """\
        m.yaml:3: init: 'init' is a rule or a list of rules
          found:    ['normal_']
          expected: for example `{select: {type: Linear}, weight: {type: normal_, std: 0.02}, bias: zeros_}`""",
    ),
    "a rule without an initialiser": (
        "{select: first}",
        """\
        m.yaml:3: init: this rule says nothing of any parameter
          found:    {'select': 'first'}
          expected: for example `{select: {type: Linear}, weight: {type: normal_, std: 0.02}, bias: zeros_}`""",
    ),
    "optional that is no truth value": (
        "{optional: maybe, weight: normal_}",
        """\
        m.yaml:3: init.optional: 'optional' is true or false
          found:    'maybe'""",
    ),
    "a selector's key": (
        "{select: {typ: Linear}, weight: normal_}",
        """\
        m.yaml:3: init.select.typ: unknown key 'typ' of a selector
          expected: one of match, type, name, ndim, requires_grad, not
          did you mean 'type'?""",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_message(name):
    init, message = MESSAGES[name]
    # Columns of formulas and the like aside, the place is a line.
    assert re.sub(r"^(m.yaml:\d+):\d+:", r"\1:", told(MODEL.format(init=init))) == textwrap.dedent(message)


def test_all_faults_of_all_rules_come_at_once():
    text = told(
        MODEL.format(init="[{select: zz, weight: zeros_}, {scale: ones_}, {bias: orthogonal_, weight: default}]")
    )
    assert [line.split(": ")[1] for line in text.splitlines() if line.startswith("m.yaml")] == [
        "init[0].select", "init[1].scale", "init[2].bias"
    ]  # fmt: skip


def test_a_layer_without_reset_parameters():
    text = """
    inputs: {x: [B, 4]}
    blocks: {Scale: {parameters: {gain: {shape: [4], init: ones_}}, forward: return x * gain}}
    layers: [{type: Scale, init: {gain: default}}]
    """
    assert told(text) == (
        "m.yaml:4: layers[0].init.gain: 'gain' can't be reset: Scale has no 'reset_parameters'\n"
        "  hint:     name an initialiser"
    )


def test_no_gate_of_a_gru_is_called_forget():
    text = "inputs: {x: [B, T, 4]}\nlayers: [{type: GRU, hidden_size: 3, init: {'bias*': {type: ones_, gate: forget}}}]"
    assert told(text) == (
        "m.yaml:2: layers[0].init.bias*.gate: 'bias_ih_l0' of GRU has no gate 'forget'\n"
        "  expected: one of reset, update, new, each"
    )


def test_a_constructor_s_argument_called_init_goes_under_args():
    assert told("inputs: {x: [B, 4]}\nlayers: [{type: PReLU, init: 0.3}]").splitlines() == [
        "m.yaml:2: layers[0].init: 'init' is a rule or a list of rules",
        "  found:    0.3",
        "  expected: for example `{select: {type: Linear}, weight: {type: normal_, std: 0.02}, bias: zeros_}`",
        "  hint:     a constructor argument of that name goes under `args: {init: …}`",
    ]
    model, _ = reported("inputs: {x: [B, 4]}\nlayers: [{type: PReLU, args: {init: 0.3}}]")
    assert model.get_parameter("0.weight").item() == pytest.approx(0.3)
    model, _ = reported("inputs: {x: [B, 4]}\nlayers: [{type: PReLU, args: {init: 0.3}, init: {weight: zeros_}}]")
    assert model.get_parameter("0.weight").item() == 0


def test_build_finds_the_same_faults_before_it_makes_anything():
    raw = {"inputs": {"x": ["B", 4]}, "init": {"scale": "ones_"}, "layers": [{"type": "Linear", "out_features": 10**9}]}
    with pytest.raises(ConfigError, match="no parameter here is called 'scale'"):
        builder.build(raw)


def test_faults_of_the_config_s_section():
    with pytest.raises(ConfigError) as raised:
        definition_of(MODEL.format(init="[]"), [{"weight": "normol_"}, 3])
    assert str(raised.value).startswith("init: 'init' is a rule or a list of rules")
    with pytest.raises(ConfigError) as raised:
        definition_of(MODEL.format(init="[]"), [{"weight": "normol_"}])
    assert str(raised.value).startswith("init[0].weight: unknown initialiser 'normol_'")
    assert told(MODEL.format(init="[]"), section=[{"select": "zz", "weight": "zeros_"}]).startswith(
        "init[0].select: no"
    )


def test_a_rule_may_take_nothing_in_some_copies_of_its_block_but_not_in_all():
    text = """
    inputs: {x: [B, 4]}
    blocks:
      Cell:
        args: {deep: false}
        init: {select: extra, weight: zeros_}
        layers: {fc: {type: Linear, out_features: 4}, extra: {type: Linear, out_features: 4, when: =deep}}
    layers: [{type: Cell, deep: DEEP}, Cell]
    """
    model, _ = reported(text.replace("DEEP", "true"))
    assert not model[0].extra.weight.any()
    assert "m.yaml:6: blocks.Cell.init.select: no module or parameter has such a name" in told(
        text.replace("DEEP", "false")
    )


@pytest.mark.parametrize(
    ("filled", "said"),
    [
        ("{type: uniform_, a: 2, b: 1}", "uniform_ can't fill 'first.weight' of shape [3, 4]: uniform_ expects to return"),
        ("{type: normal_, std: -1}", "normal_ can't fill 'first.weight' of shape [3, 4]: normal expects std >= 0.0"),
        ("{type: kaiming_normal_, mode: fan_up}", "initialiser kaiming_normal_ can't take this value for 'mode'"),
    ],
)  # fmt: skip
def test_values_that_an_initialiser_refuses(filled, said):
    assert said in told(MODEL.format(init=f"{{select: first, weight: {filled}}}"))
