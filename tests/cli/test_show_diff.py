"""`builder show diff`: what two models and configs differ in, and what of their weights loads."""

import json

import pytest
import torch

import builder
from command_line import SMALL, run

BASE = """\
args: {width: 8}
inputs: {x: [B, 4]}
layers:
  stem: {type: Linear, out_features: =width}
  drop: {type: Dropout, p: 0.1}
  body: {type: Sequential, repeat: 3, layer: {type: Linear, out_features: =width}}
  head: {type: Linear, out_features: 2}
forward: return head(body(relu(drop(stem(x)))))
"""


@pytest.fixture
def diff(tmp_path):
    """The JSON of the difference between BASE and BASE with changes; it is the same the other way round."""

    def found(*changes, exit_code=1):
        text = BASE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "a.yaml").write_text(BASE)
        (tmp_path / "b.yaml").write_text(text)
        ran = run(tmp_path, "show", "diff", "a.yaml", "b.yaml", "--json", "--exit-code")
        assert ran.code == exit_code, ran.err
        assert run(tmp_path, "show", "diff", "a.yaml", "b.yaml").code == 0
        return json.loads(ran.out)

    return found


def paths(parts):
    return [part["path"] for part in parts]


def changes(found):
    return {change["path"]: change["values"] for change in found["changed"]}


def test_a_model_is_the_same_as_itself_and_as_itself_written_otherwise(diff, tmp_path):
    assert diff(exit_code=0)["same"]
    assert diff(("out_features: 2", "in_features: 8, out_features: =2 * 1"), exit_code=0)["same"]
    assert "no difference" in run(tmp_path, "show", "diff", "a.yaml", "b.yaml").out


def test_parts_that_were_added_and_removed(diff):
    found = diff(("  drop:", "  norm: LayerNorm\n  drop:"), ("drop(stem(x))", "drop(norm(stem(x)))"))
    assert paths(found["added"]) == ["norm"] and found["removed"] == [] and list(changes(found)) == [""]
    assert (
        found["weights"]["missing"] == ["norm.weight", "norm.bias"]
        and found["parameters"][1] - found["parameters"][0] == 16
    )
    found = diff(("repeat: 3", "repeat: 2"))
    assert paths(found["removed"]) == ["body.2"] and found["weights"]["unexpected"] == ["body.2.weight", "body.2.bias"]


def test_arguments_types_and_forwards_that_were_changed(diff):
    assert changes(diff(("p: 0.1", "p: 0.5"))) == {"drop": {"p": [0.1, 0.5]}}
    assert changes(diff(("drop: {type: Dropout, p: 0.1}", "drop: {type: AlphaDropout, p: 0.1}")))["drop"] == {
        "type": ["Dropout", "AlphaDropout"]
    }
    (values,) = changes(diff(("relu(", "gelu("))).values()
    assert "gelu" in values["forward"][1]


def test_a_layer_without_its_bias(diff):
    found = diff(("head: {type: Linear,", "head: {type: Linear, bias: false,"))
    assert changes(found)["head"]["bias"] == [True, False] and found["weights"]["unexpected"] == ["head.bias"]


def test_shapes_follow_through_the_model(diff):
    found = changes(diff(("width: 8", "width: 16")))
    assert found["stem"]["output shapes"] == [[["B", "8"]], [["B", "16"]]] and found["stem"]["out_features"] == [8, 16]
    assert set(found["drop"]) == {"input shapes", "output shapes"} and "output shapes" not in found["head"]


def test_a_part_that_was_renamed_with_all_in_it(diff):
    found = diff(("body:", "trunk:"), ("body(", "trunk("))
    assert found["renamed"] == [["body", "trunk"]] and found["added"] == [] == found["removed"]
    assert len(found["weights"]["missing"]) == 6


@pytest.mark.parametrize("change", [("width: 8", "width: 16"), ("repeat: 3", "repeat: 5"), ("body:", "trunk:")])
def test_the_weights_that_load_are_those_that_pytorch_loads(diff, tmp_path, change):
    found = diff(change, *([("body(", "trunk(")] if change[1] == "trunk:" else []))["weights"]
    one, other = (builder.build(tmp_path / name) for name in ("a.yaml", "b.yaml"))
    given, wanted = one.state_dict(), other.state_dict()
    differing = [row["name"] for row in found["differing"]]
    assert differing == [name for name in given if name in wanted and given[name].shape != wanted[name].shape]
    result = other.load_state_dict({name: given[name] for name in given if name not in differing}, strict=False)
    assert found["unexpected"] == result.unexpected_keys
    assert found["missing"] == [name for name in result.missing_keys if name not in differing]
    loaded = sum(wanted[name].numel() for name in found["loaded"])
    assert found["share"] == pytest.approx(loaded / sum(value.numel() for value in wanted.values()))
    assert all(torch.equal(other.state_dict()[name], given[name]) for name in found["loaded"])


def test_configs_and_runs(tmp_path):
    words = " ".join(SMALL)
    ran = run(tmp_path, "show", "diff", words, f"{words} optimizer.lr=0.5 model.args.dropout=0.3")
    assert ran.code == 0, ran.err
    assert "dropout 0.1 → 0.3" in ran.out and "optimizer.lr  0.001 → 0.5" in ran.out
    assert "would load (100.0% of the parameters)" in ran.out
    first, second = (run(tmp_path, "train", *SMALL, *more).run for more in ((), ("model.args.hidden=8", "seed=3")))
    ran = run(tmp_path, "show", "diff", str(first), second.name, "--json", "--exit-code")
    found = json.loads(ran.out)
    assert ran.code == 1 and found["config"] == {"seed": [0, 3]}
    assert changes(found)["out"]["in_features"] == [16, 8]
    assert run(tmp_path, "show", "diff", f"run:{first.name}", str(first / "model.yaml"), "--exit-code").code == 0


def test_initialisation_rules_are_told_of(tmp_path):
    words = " ".join(SMALL)
    ran = run(tmp_path, "show", "diff", words, f"{words} init=kaiming", "--exit-code")
    assert ran.code == 1 and "the models are the same, part by part" in ran.out and "  init  " in ran.out


def test_what_is_neither_file_nor_run_nor_override_is_refused(tmp_path):
    ran = run(tmp_path, "show", "diff", "model", "model=mlp")
    assert ran.code == 2 and "no run 'model'" in ran.err and "or overrides: 'model=mlp'" in ran.err
    (tmp_path / "a.yaml").write_text(BASE)
    ran = run(tmp_path, "show", "diff", "a.yaml", "a.yaml args.widht=2")
    assert ran.code == 2 and "did you mean 'width'?" in ran.err


def test_an_argument_that_is_called_outputs_is_no_shape(tmp_path):
    ran = run(tmp_path, "show", "diff", "model=cnn", "model=mlp")
    assert (ran.code, ran.err) == (0, "")
    assert "outputs null → 10" in ran.out
