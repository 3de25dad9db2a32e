"""`builder show select`, as it is typed."""

import json

import pytest

from command_line import run

MODEL = """\
inputs: {ids: {shape: [B, T], dtype: int64}}
layers:
  embed: {type: Embedding, num_embeddings: 10, embedding_dim: 4}
  blocks: {type: ModuleList, repeat: 2, layer: {layers: [LayerNorm, {type: Linear, out_features: 4, bias: false}]}}
  head: {type: Linear, out_features: 10, bias: false}
forward: |
  x = embed(ids)
  for block in blocks:
    x = block(x)
  return head(x)
tie: {head.weight: embed.weight}
"""


@pytest.fixture
def model(tmp_path):
    (tmp_path / "tiny.yaml").write_text(MODEL)
    return tmp_path


def test_a_selector_lists_what_it_selects(model):
    done = run(model, "show", "select", "[head, {type: LayerNorm, not: {name: bias}}]", "tiny.yaml")
    assert done.code == 0, done.err
    assert (
        done.out
        == """\
3 parameters (48 values), 1 module

parameters
  embed.weight       [10, 4]  also head.weight
  blocks.0.0.weight  [4]
  blocks.1.0.weight  [4]

modules
  head  Linear
"""
    )


def test_a_selector_is_listed_for_programs(model):
    done = run(model, "show", "select", "blocks.1", "tiny.yaml", "--json")
    told = json.loads(done.out)
    assert [item["name"] for item in told["parameters"]] == [
        "blocks.1.0.weight",
        "blocks.1.0.bias",
        "blocks.1.1.weight",
    ]
    assert told["parameters"][2] == {
        "name": "blocks.1.1.weight",
        "names": ["blocks.1.1.weight"],
        "shape": [4, 4],
        "requires_grad": True,
    }
    assert [(item["name"], item["type"]) for item in told["modules"]] == [
        ("blocks.1", "BlocksLayer"), ("blocks.1.0", "LayerNorm"), ("blocks.1.1", "Linear")
    ]  # fmt: skip


def test_a_selector_that_selects_nothing_is_an_error(model):
    done = run(model, "show", "select", "bloks.*", "tiny.yaml")
    assert (done.code, done.out) == (2, "")
    assert (
        done.err
        == """\
error: selector: no module or parameter has such a name
  found:    'bloks.*'
  did you mean 'blocks' or 'blocks.1' or 'blocks.0'?
"""
    )


def test_a_selector_that_is_none_is_an_error(model):
    done = run(model, "show", "select", "{typ: Linear}", "tiny.yaml")
    assert (done.code, done.out) == (2, "")
    assert (
        done.err
        == """\
error: selector: typ: unknown key 'typ' of a selector
  expected: one of match, type, name, ndim, requires_grad, not
  did you mean 'type'?
"""
    )


def test_the_model_of_a_config_is_searched(tmp_path):
    done = run(
        tmp_path, "show", "select", "{type: BatchNorm2d, name: bias}", "model=cnn", "model.args.depth=1", "--json"
    )
    assert done.code == 0, done.err
    assert all(item["name"].endswith(".bias") for item in json.loads(done.out)["parameters"])
