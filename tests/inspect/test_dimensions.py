"""Sizes are written in terms of the free dimensions of the inputs."""

import pytest
from inspect_helpers import explored, shipped

from builder.inspect.dimensions import batch_dimensions, free_dimensions, named_calls


def shapes(text, path="", **more):
    """The shapes that come out of a module, as they are written."""
    return [", ".join(shape) for shape in named_calls(*explored(text, **more))[path].outputs]


def forward(inputs, code, layers="  act: ReLU"):
    lines = "".join(f"  {line}\n" for line in code.splitlines())
    return f"inputs: {inputs}\nlayers:\n{layers}\nforward: |\n{lines}"


@pytest.mark.parametrize(
    ("code", "shape"),
    [
        ("return act(x)", "B, T, 6"),
        ("return act(x).flatten(1)", "B, 6*T"),
        ("return act(x).flatten(0, 1)", "B*T, 6"),
        ("return act(x).flatten()", "6*B*T"),
        ("return cat([act(x), x[:, :1]], dim=1)", "B, T+1, 6"),
        ("return act(x)[:, 1:-1]", "B, T-2, 6"),
        ("return act(x)[:, ::2]", "B, T/2, 6"),
        ("return cat([act(x), x, x[:, :3]], dim=1)", "B, 2*T+3, 6"),
        ("return cat([act(x), x[:, :1]], dim=1).flatten(0, 1)", "B*(T+1), 6"),
        ("return act(x).transpose(1, 2) @ x", "B, 6, 6"),
        ("return act(x).sum()", ""),
    ],
)
def test_sizes_follow_one_or_two_dimensions(code, shape):
    assert shapes(forward("{x: [B, T, 6]}", code)) == [shape]


@pytest.mark.parametrize(
    ("code", "shape"),
    [
        ("return act(x).flatten(2)", "B, 3, H*W"),
        ("return cat([act(x).flatten(2), x[:, :, :1, 0]], dim=2)", "B, 3, H*W+1"),
        ("return cat([act(x)[:, 0, :, 0], x[:, 0, 0, :]], dim=1)", "B, H+W"),
    ],
)
def test_a_size_of_two_dimensions_is_their_product_or_their_sum(code, shape):
    assert shapes(forward("{x: [B, 3, H, W]}", code)) == [shape]


def test_strides_divide_and_convolutions_without_padding_subtract():
    text = """
    inputs: {x: [B, 3, H, W]}
    layers:
      strided: {type: Conv2d, out_channels: 4, kernel_size: 3, stride: 2, padding: 1}
      valid: {type: Conv2d, out_channels: 4, kernel_size: 5}
      patches: {type: Conv2d, out_channels: 8, kernel_size: 4, stride: 4}
      up: {type: Upsample, scale_factor: 3}
    """
    assert shapes(text, "strided") == ["B, 4, H/2, W/2"]
    assert shapes(text, "valid") == ["B, 4, H/2-4, W/2-4"]
    assert shapes(text, "up") == ["B, 8, 3*H/8-3, 3*W/8-3"]


def test_the_names_hold_where_the_actual_size_is_rounded():
    text = "inputs: {x: [B, 1, H, W]}\nlayers: [{type: MaxPool2d, kernel_size: 2}, {type: MaxPool2d, kernel_size: 2}]"
    examples = {"x": ((2, 1, 28, 30), "float32")}
    definition, found = explored(text, examples=examples)
    assert found.calls[-1].outputs == ((2, 1, 7, 7),)
    assert named_calls(definition, found)[""].outputs == (("B", "1", "H/4", "W/4"),)


def test_a_dimension_that_a_layer_fixes_is_a_number():
    text = "inputs: {x: [B, C, H, W]}\nlayers: [{type: Conv2d, out_channels: 4, kernel_size: 1}]"
    definition, found = explored(text, examples={"x": ((2, 3, 8, 8), "float32")})
    assert named_calls(definition, found)[""].inputs == (("B", "3", "H", "W"),)
    assert free_dimensions(definition, found) == {"B": 2, "C": 3, "H": 8, "W": 8}


def test_dimensions_that_must_be_equal_are_numbers():
    assert shapes(forward("{x: [B, N, M]}", "return act(x) + x.transpose(1, 2)")) == ["B, 64, 64"]


def test_a_size_that_is_no_simple_formula_is_a_number():
    text = forward("{x: [B, T]}", "return act(x)[:, :10]")
    assert shapes(text) == ["B, 10"]
    text = forward("{x: [B, H, W]}", "return act(x).flatten(1)[:, : x.shape[1] * x.shape[1]]")
    assert shapes(text) == ["B, 4096"]


def test_as_many_tensors_as_a_dimension_has_places_are_numbers():
    assert shapes(forward("{x: [B, T, 6]}", "return act(x).unbind(1)"))[:2] == ["2, 6", "2, 6"]


def test_an_input_without_a_shape_has_a_batch_dimension():
    definition, found = explored(
        "inputs: [x]\nlayers: [{type: Linear, out_features: 3}]", examples={"x": ((2, 5), "float32")}
    )
    assert named_calls(definition, found)[""].inputs == (("B", "5"),)
    assert batch_dimensions(definition, found) == ("B",)


def test_inputs_share_their_dimensions():
    text = forward(
        "{x: [B, T, 4], mask: {shape: [B, T], dtype: bool}}", "return act(x).masked_fill(mask[..., None], 0)"
    )
    definition, found = explored(text)
    assert named_calls(definition, found)[""].inputs == (("B", "T", "4"), ("B", "T"))


def test_a_model_that_was_not_run_has_no_shapes():
    assert named_calls(*explored("layers: [{type: Linear, in_features: 2, out_features: 3}]")) == {}


def test_copies_of_a_block_have_names_too():
    calls = named_calls(*shipped("gpt", {"vocab": 11, "context": 16, "width": 8, "heads": 2}))
    assert calls["blocks.3.attn.qkv"].outputs == (("B", "T", "24"),)
    assert calls["pos"].outputs == (("T", "8"),)
