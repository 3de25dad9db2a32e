"""The text of a summary, as it is printed."""

import pytest
import torch
from inspect_helpers import explored, shipped, summary_of

from builder.inspect.summary import summarise
from builder.inspect.table import in_bytes, lines, rounded

TAGGER = """
inputs: {ids: {shape: [B, T], dtype: int64}}
layers:
  embed: {type: Embedding, num_embeddings: 1000, embedding_dim: 64}
  lstm: {type: LSTM, hidden_size: 32, batch_first: true, bidirectional: true}
  mlp:
    type: Sequential
    repeat: 3
    layer:
      name: Dense
      layers: {fc: {type: Linear, out_features: 64}, act: ReLU}
  head: {type: Linear, out_features: 1000, bias: false}
tie: {head.weight: embed.weight}
forward: |
  x, state = lstm(embed(ids))
  return {"tags": head(mlp(x)), "last": state[0]}
"""

WIDE = """\
layer      type        input       output                      parameters   FLOPs  trained
Model      Model       [B, T]      [B, T, 1000], [2, B, 32]       101,568  80.7 M  yes
  embed    Embedding   [B, T]      [B, T, 64]                      64,000          yes
  lstm     LSTM        [B, T, 64]  [B, T, 64], 2 × [2, B, 32]      25,088  19.7 M  yes
  mlp      Sequential  [B, T, 64]  [B, T, 64]                      12,480  9.83 M  yes
    0-2    3 × Dense   [B, T, 64]  [B, T, 64]                       4,160  3.28 M  yes
      fc   Linear      [B, T, 64]  [B, T, 64]                       4,160  3.28 M  yes
      act  ReLU        [B, T, 64]  [B, T, 64]
  head     Linear      [B, T, 64]  [B, T, 1000]                         0  51.2 M  yes      weight is embed.weight
"""

TOTALS = """
parameters   101,568, all trained
FLOPs        80.7 M forward at B=4, T=100; a multiply-add counts as 2
memory       about 2.73 MiB to train at B=4, T=100:
  weights         397 KiB
  gradients       397 KiB
  optimiser       794 KiB  state of AdamW
  activations    1.18 MiB  kept for the backward pass, inputs included
"""

MIDDLE = """\
layer      type        input     output                  params   FLOPs
Model      Model       [B,T]     [B,T,1000], [2,B,32]     102 k  80.7 M
  embed    Embedding   [B,T]     [B,T,64]                64.0 k
  lstm     LSTM        [B,T,64]  [B,T,64], 2 × [2,B,32]  25.1 k  19.7 M
  mlp      Sequential  [B,T,64]  [B,T,64]                12.5 k  9.83 M
    0-2    3 × Dense   [B,T,64]  [B,T,64]                4.16 k  3.28 M
      fc   Linear      [B,T,64]  [B,T,64]                4.16 k  3.28 M
      act  ReLU        [B,T,64]  [B,T,64]
  head     Linear      [B,T,64]  [B,T,1000]                   0  51.2 M  weight is embed.weight
"""

NARROW = """\
layer      type        output             params   FLOPs
Model      Model       [B,T,1000], [2,B…   102 k  80.7 M
  embed    Embedding   [B,T,64]           64.0 k
  lstm     LSTM        [B,T,64], 2 × [2…  25.1 k  19.7 M
  mlp      Sequential  [B,T,64]           12.5 k  9.83 M
    0-2    3 × Dense   [B,T,64]           4.16 k  3.28 M
      fc   Linear      [B,T,64]           4.16 k  3.28 M
      act  ReLU        [B,T,64]
  head     Linear      [B,T,1000]              0  51.2 M  weight is embed.weight
"""


def summary():
    definition, found = explored(TAGGER, examples={"ids": ((2, 100), "int64")})
    optimizer = torch.optim.AdamW(found.model.parameters())
    return summarise(definition, found, batch=4, known=("ids",), optimizer=optimizer)


def text(*args, **more):
    return "".join(f"{line}\n" for line in lines(*args, **more))


def test_the_table_is_as_wide_as_it_needs_to_be():
    assert text(summary()) == text(summary(), width=120) == WIDE + TOTALS


def test_at_100_columns_shapes_and_numbers_are_shorter():
    assert text(summary(), width=100) == MIDDLE + TOTALS


def test_at_80_columns_the_inputs_are_left_out_which_is_said():
    said = "Input shapes are left out: the terminal is too narrow for them.\n"
    assert text(summary(), width=80) == NARROW + TOTALS + said


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
@pytest.mark.parametrize("name", ["resnet50", "unet"])
def test_no_line_of_the_table_is_wider_than_the_terminal(name, width):
    definition, found = shipped(name, {"classes": 10}, examples={"x": ((2, 3, 64, 64), "float32")})
    table = lines(summarise(definition, found), width=width)
    assert max(map(len, table[: table.index("")])) <= width


def test_depth_leaves_out_what_lies_deeper():
    table = lines(summary(), depth=1)
    assert [line.split()[0] for line in table[: table.index("")]] == ["layer", "Model", "embed", "lstm", "mlp", "head"]
    assert len(lines(summary(), depth=0)) == len(lines(summary())) - 7


def test_what_is_not_trained_is_told_at_any_width():
    definition, found = explored(TAGGER)
    found.model.mlp.requires_grad_(False)
    for width in (80, None):
        table = lines(summarise(definition, found), width=width)
        assert "trained" in table[0] and [line for line in table if " no" in line]
        assert "parameters   101,568, 89,088 of them trained" in table
    found.model.requires_grad_(False)
    assert "parameters   101,568, none trained" in lines(summarise(definition, found))


def test_a_guessed_size_is_told_with_the_override_that_gives_one():
    definition, found = explored(TAGGER)
    assert lines(summarise(definition, found))[-1] == (
        "T=64 is a guess, as no data says it. To give a size: 'inputs.ids.shape=[B,64]'"
    )


def test_a_model_that_was_not_run_says_why_there_are_no_shapes():
    assert (
        text(summary_of("layers: [{type: Linear, in_features: 2, out_features: 3}]"))
        == """\
layer  type    input  output  parameters  FLOPs  trained
Model  Model                           9         yes
  0    Linear                          9         yes

parameters   9, all trained
No shapes: nothing is known of the model's inputs. Declare them: `inputs: {x: [B, 3, 32, 32]}`.
memory       about 72 B to train:
  weights            36 B
  gradients          36 B
"""
    )


def test_a_model_whose_flow_depends_on_the_data_says_so():
    code = "if x.sum() > 0:\n    return x\n  return -x"
    definition, found = explored(f"inputs: {{x: [B, 3]}}\nforward: |\n  {code}")
    assert "No shapes: what flows through the model depends on the data's values." in lines(
        summarise(definition, found)
    )


def test_an_optimiser_whose_state_is_not_known_is_named():
    definition, found = explored(TAGGER)
    table = lines(summarise(definition, found, optimizer=torch.optim.ASGD(found.model.parameters())))
    assert "  optimiser     not known  state of ASGD" in table


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (9996, "10.0 k"),
        (123_456, "123 k"),
        (999_600, "1.00 M"),
        (7e12, "7.00 T"),
    ],
)
def test_counts_have_three_digits(number, written):
    assert rounded(number) == written


@pytest.mark.parametrize(
    ("number", "written"),
    [(0, "0 B"), (1000, "0.98 KiB"), (1024, "1.00 KiB"), (5 * 2**30, "5.00 GiB"), (2**40, "1.00 TiB")],
)
def test_bytes_are_in_powers_of_1024(number, written):
    assert in_bytes(number) == written
