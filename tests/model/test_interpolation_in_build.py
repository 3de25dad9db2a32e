import pytest

from builder import ConfigError, build

MODEL = """\
args: {width: 8, deep: "${args.width}", note: "${oc.env:T_NOTE,none}"}
inputs: {x: [B, 3]}
layers:
  - {type: Linear, out_features: "${args.width}"}
  - {type: Linear, out_features: =deep}
  - {type: Linear, out_features: "${..1.out_features}"}
  - {type: Linear, out_features: =width}
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MODEL)
    return path


def widths(model):
    return [layer.out_features for layer in model]


def test_an_interpolation_refers_to_a_place_in_the_file(model):
    built = build(model)
    assert widths(built) == [8, 8, 8, 8]
    assert (built.width, built.deep, built.note) == (8, 8, "none")


def test_an_argument_that_is_given_is_what_an_interpolation_sees(model):
    assert widths(build(model, width=5)) == [5, 5, 5, 5]
    assert widths(build(model, deep=2)) == [8, 2, 2, 8]


def test_a_definition_in_python_may_hold_them_too():
    layers = [{"type": "Linear", "in_features": 2, "out_features": "${args.n}"}]
    definition = {"args": {"n": 4}, "layers": layers}
    assert widths(build(definition)) == [4]
    assert definition == {"args": {"n": 4}, "layers": layers}


def test_the_environment_is_read(model, monkeypatch):
    monkeypatch.setenv("T_NOTE", "a note")
    assert build(model).note == "a note"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${model.args.width}", "2: layers[0].out_features: no such key: model\n  found:    '${model.args.width}'"),
        ("${args.widht}", "2: layers[0].out_features: no such key: args.widht\n  found:    '${args.widht}'\n  did you mean 'args.width'?"),
        ("${.out_features}", "2: layers[0].out_features: an interpolation that leads back to itself\n  found:    '${.out_features}'"),
        (
            "${now:%Y}",
            "2: layers[0].out_features: the resolver 'now' isn't allowed\n  found:    '${now:%Y}'\n"
            "  expected: ${key.of.the.config}, ${oc.env:NAME}, ${oc.env:NAME,default} or ${oc.select:key,default}",
        ),
        ("???", "2: layers[0].out_features: a required value is missing\n  hint:     give it as layers[0].out_features=VALUE"),
    ],
)  # fmt: skip
def test_what_leads_nowhere_is_told(model, text, said):
    model.write_text(f"args: {{width: 8}}\nlayers: [{{type: Linear, in_features: 1, out_features: '{text}'}}]\n")
    with pytest.raises(ConfigError) as error:
        build(model)
    assert str(error.value) == f"{model}:{said}"
