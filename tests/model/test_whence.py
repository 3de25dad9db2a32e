"""A fault in a model names where the value came from, through however many blocks it was passed."""

import pytest

from builder import ConfigError
from builder.check import check
from builder.config.compose import compose

MODEL = """
args: {width: 8, copies: 2}
inputs: [x]
blocks:
  Inner:
    args: {features: required}
    parameters: {scale: {shape: [=features], init: ones_}}
    layers: {fc: {type: Linear, out_features: =features}}
    forward: return scale * fc(x)
  Outer:
    args: {size: required, count: 1}
    layers: {body: {type: Sequential, repeat: =count, layer: {type: Inner, features: =2 * size}}}
layers:
  flatten: Flatten
  first: {layers: {fc: {type: Linear, out_features: =width}, act: ReLU}}
  second: {type: Outer, size: =width, count: =copies}
  out: {type: Linear, out_features: 10}
"""


def faults(tmp_path, *overrides):
    folder = tmp_path / "configs"
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "model" / "mine.yaml").write_text(MODEL)
    with pytest.raises(ConfigError) as caught:
        check(compose(["model=mine", *overrides], config_dir=folder))
    return {fault.path[1:]: fault for fault in caught.value.faults}


def test_an_override_is_named_through_blocks(tmp_path):
    giver = ("model.args.width: override 'model.args.width=-4'",)
    found = faults(tmp_path, "model.args.width=-4")  # two blocks deep, in the shape of a parameter
    assert {path: fault.givers for path, fault in found.items()} == {("blocks", "Inner", "parameters", "scale"): giver}
    found = faults(tmp_path, "model.args.width=-4", "~model.layers.second")  # in a definition that sees it by itself
    assert {path: fault.givers for path, fault in found.items()} == {("layers", "first", "layers", "fc"): giver}


def test_the_number_of_copies_has_its_giver(tmp_path):
    (count,) = faults(tmp_path, "model.args.copies=-1").values()
    assert count.givers == ("model.args.copies: override 'model.args.copies=-1'",)


def test_what_stands_in_the_same_file_is_not_named(tmp_path):
    found = faults(tmp_path, "model.layers.out.out_features=ten")
    assert [fault.givers for fault in found.values()] == [()]
