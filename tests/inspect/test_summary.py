"""The rows of a model: what counts where, and what is noted."""

import pytest
from inspect_helpers import explored, rows_of, summary_of

from builder.errors import ConfigError
from builder.inspect.summary import as_json, collapsed, summarise, walk

TIED = """
inputs: {ids: {shape: [B, T], dtype: int64}}
layers:
  embed: {type: Embedding, num_embeddings: 10, embedding_dim: 4}
  body: {type: Sequential, repeat: 3, layer: {type: Linear, out_features: 4}}
  head: {type: Linear, out_features: 10}
tie: {head.weight: embed.weight}
"""


def test_parameters_are_those_of_all_that_lies_in_a_module():
    rows = rows_of(summary_of(TIED))
    assert {path: row.parameters for path, row in rows.items()} == {
        "": 110, "embed": 40, "body": 60, "body.0": 20, "body.1": 20, "body.2": 20, "head": 10,
    }  # fmt: skip


def test_a_tied_parameter_counts_where_it_stands_first_and_is_noted_where_it_stands_again():
    rows = rows_of(summary_of(TIED))
    assert rows["head"].notes == ("weight is embed.weight",)
    assert rows["embed"].notes == ()


def test_what_is_trained_is_told_of_every_module():
    definition, found = explored(TIED)
    found.model.body[1].requires_grad_(False)
    found.model.body[2].bias.requires_grad = False
    rows = rows_of(summarise(definition, found))
    assert [rows[path].trained for path in ("", "embed", "body.0", "body.1", "body.2")] == [
        "part", "yes", "yes", "no", "part",
    ]  # fmt: skip
    assert (rows[""].trainable, rows["body"].trainable, rows["body.2"].trainable) == (86, 36, 16)


def test_layers_that_are_not_called_are_noted():
    text = """
    inputs: {x: [B, 4]}
    layers:
      used: {type: Linear, out_features: 4}
      spare: {type: Linear, in_features: 4, out_features: 4, unused: true}
      group:
        type: ModuleList
        unused: true
        layers: [ReLU]
      attention: {type: MultiheadAttention, num_heads: 2}
    forward: |
      x, _ = attention(x, x, x)
      return used(x)
    """
    rows = rows_of(summary_of(text))
    assert [path for path, row in rows.items() if "not called" in row.notes] == ["spare", "group", "group.0"]
    assert (rows["spare"].flops, rows["spare"].parameters, rows["spare"].outputs) == (0, 20, ())
    assert rows["attention.out_proj"].notes == ()  # a Python layer's own matter


def test_calls_are_noted_where_they_are_more_than_those_of_what_holds_the_layer():
    text = """
    inputs: {x: [B, 4]}
    blocks:
      Twice:
        layers: {fc: {type: Linear, out_features: 4}, act: ReLU}
        forward: return act(fc(act(x)))
    layers: {block: {type: Twice}}
    forward: return block(block(x))
    """
    rows = rows_of(summary_of(text))
    assert {path: row.notes for path, row in rows.items() if row.notes} == {
        "block": ("2 calls",),
        "block.act": ("4 calls",),
    }


def test_copies_that_are_alike_and_follow_each_other_are_one_row():
    text = """
    inputs: {x: [B, 8]}
    layers:
      body: {type: Sequential, repeat: 5, layer: {type: Linear, out_features: =8 if i < 3 else 16}}
    """
    summary = summary_of(text)
    drawn = [(row.name, row.copies) for row, _ in walk(collapsed(summary.root))]
    assert drawn == [("Model", 1), ("body", 1), ("0-2", 3), ("3", 1), ("4", 1)]
    assert len(list(walk(summary.root))) == 7


def test_copies_that_differ_inside_are_rows_of_their_own():
    text = """
    inputs: {x: [B, 8]}
    layers:
      body:
        type: Sequential
        repeat: 3
        layer:
          layers:
            fc: {type: Linear, out_features: 8}
            drop: {type: Dropout, p: 0.1, when: =i != 1}
    """
    names = [row.name for row, depth in walk(collapsed(summary_of(text).root)) if depth == 2]
    assert names == ["0", "1", "2"]


def test_a_model_whose_inputs_are_unknown_has_parameters_but_no_shapes():
    summary = summary_of("layers: [{type: Linear, in_features: 2, out_features: 3}]", batch=4)
    assert (summary.root.parameters, summary.root.flops, bool(summary.not_run)) == (9, None, True)
    assert (summary.root.outputs, summary.root.notes, summary.memory.activations) == ((), (), None)


def test_sizes_are_those_of_the_measured_run_and_guesses_are_told():
    text = "inputs: {x: [B, T, 4]}\nlayers: [{type: Linear, out_features: 4}]"
    summary = summary_of(text, batch=7)
    assert (summary.sizes, summary.batch) == ({"B": 7, "T": 64}, ("B",))
    assert summary.guessed == {"T": "inputs.x=[B,64,4]"}
    definition, found = explored(text, examples={"x": ((2, 9, 4), "float32")})
    summary = summarise(definition, found, batch=7, known=("x",))
    assert (summary.sizes, summary.guessed) == ({"B": 7, "T": 9}, {})
    assert summary.root.flops == 2 * 7 * 9 * 16


NORM = "inputs: {x: [B, 4]}\nlayers: [BatchNorm1d]"


def test_without_a_batch_size_there_is_one_sample_or_as_many_as_the_model_needs():
    assert summary_of("inputs: {x: [B, 4]}\nlayers: [{type: Linear, out_features: 2}]").sizes == {"B": 1}
    assert summary_of(NORM).sizes == {"B": 2}


def test_a_batch_that_the_model_refuses_is_refused_at_its_line():
    with pytest.raises(ConfigError) as caught:
        summary_of(NORM, batch=1)
    told = str(caught.value)
    assert told.startswith("model.yaml:2: layers[0]: ") and "Expected more than 1 value per channel" in told
    assert told.endswith("  hint:     it runs with batches of 2")


def test_a_scalar_input_and_a_dict_of_outputs_are_shown():
    text = """
    inputs: {x: [B, 4], scale: {dtype: float}}
    layers: {a: {type: Linear, out_features: 2}, b: {type: Linear, out_features: 3}}
    forward: 'return {"a": a(x) * scale, "b": b(x)}'
    """
    root = summary_of(text).root
    assert (root.inputs, root.outputs) == ((("B", "4"),), (("B", "2"), ("B", "3")))


def test_json_has_every_module_and_plain_values():
    found = as_json(summary_of(TIED, batch=2))
    assert [entry["path"] for entry in found["modules"]] == ["", "embed", "body", "body.0", "body.1", "body.2", "head"]
    assert found["modules"][-1] == {
        "path": "head", "type": "Linear", "inputs": [["B", "T", "4"]], "outputs": [["B", "T", "10"]],
        "parameters": 10, "trainable": 10, "flops": 2 * 2 * 64 * 40, "calls": 1, "notes": ["weight is embed.weight"],
    }  # fmt: skip
    assert found["sizes"] == {"B": 2, "T": 64} and found["parameters"] == 110
    assert found["memory"]["weights"] == 440
    assert len(as_json(summary_of(TIED), depth=1)["modules"]) == 4
