"""FLOPs and saved tensors that are counted on the meta device are those of hand-written formulas and of real runs."""

import pytest
import torch
from inspect_helpers import explored, rows_of, shipped, summary_of
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from builder.inspect.summary import summarise
from builder.model.build import construct

CONV = """
inputs: {x: [B, 3, 12, 10]}
layers:
  conv: {type: Conv2d, out_channels: 8, kernel_size: [3, 5], stride: 2, padding: 1, groups: 1}
  depthwise: {type: Conv2d, out_channels: 8, kernel_size: 3, padding: 1, groups: 8}
  up: {type: ConvTranspose2d, out_channels: 4, kernel_size: 2, stride: 2}
"""


def flops(text, batch=5, **more):
    return {path: row.flops for path, row in rows_of(summary_of(text, batch, **more)).items()}


def test_a_linear_layer_takes_two_flops_a_weight_and_row():
    assert flops("inputs: {x: [B, 7, 4]}\nlayers: [{type: Linear, out_features: 3}]") == {"": 840, "0": 840}
    assert 840 == 2 * (5 * 7) * 4 * 3


def test_a_convolution_takes_two_flops_a_weight_and_output_place():
    found = flops(CONV)
    assert found["conv"] == 2 * 5 * (6 * 4) * 8 * 3 * (3 * 5)
    assert found["depthwise"] == 2 * 5 * (6 * 4) * 8 * 9
    assert found["up"] == 2 * 5 * (6 * 4) * 8 * 4 * 4
    assert found[""] == found["conv"] + found["depthwise"] + found["up"]


def test_attention_takes_the_flops_of_its_two_products():
    text = """
    inputs: {q: [B, 4, T, 8], k: [B, 4, 20, 8], v: [B, 4, 20, 6]}
    forward: return scaled_dot_product_attention(q, k, v)
    """
    examples = {"q": ((2, 4, 10, 8), "float32")}
    assert flops(text, examples=examples)[""] == 2 * 5 * 4 * 10 * 20 * (8 + 6)


@pytest.mark.parametrize("code", ["return matrix @ x[0]", "return addmv(matrix[:, 0], matrix, x[0])"])
def test_a_matrix_times_a_vector_counts_as_well(code):
    assert flops(f"inputs: {{x: [B, 6], matrix: [4, 6]}}\nforward: {code}")[""] == 2 * 4 * 6


@pytest.mark.parametrize(
    ("kind", "options"),
    [(kind, options) for kind in ("LSTM", "GRU", "RNN") for options in ("", ", num_layers: 2, bidirectional: true")]
    + [("LSTM", ", num_layers: 3, proj_size: 4")],
)
def test_a_recurrent_layer_takes_the_flops_and_keeps_the_tensors_of_its_steps(kind, options):
    text = f"inputs: {{x: [B, 9, 6]}}\nlayers: [{{type: {kind}, hidden_size: 16, batch_first: true{options}}}]"
    summary = summary_of(text, batch=5)
    definition, found = explored(text)
    layer = construct(definition, {}, {}, found.sizes, "meta")
    with FlopCounterMode(display=False) as counter:  # step by step, as PyTorch itself takes it
        kept = kept_bytes(layer, torch.empty(5, 9, 6, device="meta"))
    assert summary.root.flops == counter.get_total_flops()
    assert summary.memory.activations == pytest.approx(kept, rel=0.04)


def test_a_layer_that_is_called_twice_counts_twice():
    text = """
    inputs: {x: [B, 4]}
    layers:
      same: {type: Linear, out_features: 4}
    forward: return same(same(x))
    """
    assert flops(text)["same"] == 2 * 2 * 5 * 4 * 4
    assert rows_of(summary_of(text))["same"].notes == ("2 calls",)


def test_resnet50_takes_the_published_flops():
    definition, found = shipped("resnet50", {"classes": 1000}, examples={"x": ((2, 3, 224, 224), "float32")})
    root = summarise(definition, found, batch=1).root
    assert root.parameters == 25_557_032
    assert root.flops / 2 == pytest.approx(4.09e9, rel=1e-3)  # multiply-adds, as torchvision's table has them


def kept_bytes(model, *inputs):
    """What autograd keeps of a real forward pass, apart from parameters and buffers."""
    weights = [tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers())]
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if not any(storage is weight for weight in weights):
            kept[id(storage)] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(*inputs)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(
    ("name", "given", "inputs"),
    [
        ("resnet18", {"classes": 5, "width": 4}, {"x": torch.randn(3, 3, 64, 64)}),
        ("unet", {"classes": 5, "width": 4, "depth": 2}, {"x": torch.randn(3, 3, 32, 32)}),
        ("siamese", {"channels": 4}, {"first": torch.randn(3, 1, 8, 8), "second": torch.randn(3, 1, 8, 8)}),
        ("gpt", {"vocab": 11, "context": 16, "width": 32}, {"ids": torch.randint(0, 11, (3, 16))}),
    ],
)
def test_activations_are_what_a_real_forward_pass_keeps(name, given, inputs):
    examples = {key: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in inputs.items()}
    definition, found = shipped(name, given, examples=examples)
    estimated = summarise(definition, found, batch=3).memory.activations
    model = construct(definition, given, {}, found.sizes)
    assert estimated == kept_bytes(model, *inputs.values())


def test_a_frozen_model_keeps_no_activations():
    definition, found = explored("inputs: {x: [B, 4]}\nlayers: [{type: Linear, out_features: 4}, Tanh]")
    found.model.requires_grad_(False)
    summary = summarise(definition, found, batch=8)
    assert (summary.memory.activations, summary.memory.gradients, summary.root.trained) == (0, 0, "no")


def test_measuring_leaves_no_hooks_and_no_gradients():
    definition, found = shipped("gpt", {"vocab": 11, "context": 16})
    summarise(definition, found, optimizer=torch.optim.AdamW(found.model.parameters()))
    assert all(parameter.grad is None for parameter in found.model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in found.model.modules())
    assert isinstance(found.model.get_submodule("blocks"), nn.ModuleList)
