"""Shipped blocks are the hand-written ones: keys, initial bits, outputs, gradients."""

import by_hand_blocks as by_hand
import pytest
import torch
from torch import nn
from zoo_cases import same_outputs, same_state

from builder import ConfigError, build
from builder.config.folders import shipped_configs

X = (2, 8, 16, 16)
SEQUENCE = (2, 5, 16)


class EncoderLayer(nn.TransformerEncoderLayer):
    """PyTorch's, without the fast path that it takes without gradients, whose bits may differ."""

    def __init__(self):
        super().__init__(16, 4, dim_feedforward=64, norm_first=True, batch_first=True)
        self.activation_relu_or_gelu = 0


class DecoderLayer(nn.TransformerDecoderLayer):
    def __init__(self):
        super().__init__(16, 4, dim_feedforward=64, norm_first=True, batch_first=True)


CASES = {
    "Bottleneck": [
        ({"channels": 2}, lambda: by_hand.Bottleneck(8, 2), [X]),
        ({"channels": 4, "stride": 2}, lambda: by_hand.Bottleneck(8, 4, 2), [X]),
        ({"channels": 4, "project": True}, lambda: by_hand.Bottleneck(8, 4), [X]),
    ],
    "Branches": [
        ({"channels": 4}, lambda: by_hand.Branches(8, 4), [X]),
        ({"channels": 3, "kernel_sizes": [1, 7]}, lambda: by_hand.Branches(8, 3, (1, 7)), [X]),
    ],
    "ConvNormAct": [
        ({"channels": 4}, lambda: by_hand.ConvNormAct(8, 4), [X]),
        ({"channels": 4, "kernel_size": 5, "stride": 2, "groups": 2}, lambda: by_hand.ConvNormAct(8, 4, 5, 2, 2), [X]),
    ],
    "InvertedResidual": [
        ({"in_channels": 8, "channels": 8}, lambda: by_hand.InvertedResidual(8, 8), [X]),
        ({"in_channels": 8, "channels": 12, "stride": 2}, lambda: by_hand.InvertedResidual(8, 12, 2), [X]),
        ({"in_channels": 8, "channels": 8, "expansion": 1}, lambda: by_hand.InvertedResidual(8, 8, 1, 1), [X]),
    ],
    "MLP": [
        ({"hidden": 6, "outputs": 3}, lambda: by_hand.MLP(8, 6, 3), [(4, 8)]),
        ({"hidden": 6, "outputs": 3, "dropout": 0.5}, lambda: by_hand.MLP(16, 6, 3, 0.5), [SEQUENCE]),
    ],
    "PreNormDecoderLayer": [({"width": 16, "heads": 4}, DecoderLayer, [SEQUENCE, (2, 7, 16)])],
    "PreNormEncoderLayer": [({"width": 16, "heads": 4}, EncoderLayer, [SEQUENCE])],
    "Residual": [
        ({"channels": 8}, lambda: by_hand.Residual(8, 8), [X]),
        ({"channels": 6, "stride": 2}, lambda: by_hand.Residual(8, 6, 2), [X]),
        ({"channels": 6, "project": True}, lambda: by_hand.Residual(8, 6), [X]),
    ],
    "SqueezeExcitation": [({"channels": 8, "reduction": 2}, lambda: by_hand.SqueezeExcitation(8, 2), [X])],
    "UNetDown": [({"channels": 4}, lambda: by_hand.UNetDown(8, 4), [X])],
    "UNetUp": [({"channels": 4}, lambda: by_hand.UNetUp(6, 8, 4), [(2, 6, 8, 8), X])],
}
"""For each block: its arguments, the same by hand, and the shapes of its inputs."""

FLAT = [(name, *case) for name, cases in CASES.items() for case in cases]


def path_of(name):
    return shipped_configs() / f"block/{name}.yaml"


def test_every_shipped_block_has_a_case():
    assert sorted(CASES) == sorted(path.stem for path in (shipped_configs() / "block").glob("*.yaml"))


def built(name, args, shapes):
    names = {"UNetUp": ["x", "skip"], "PreNormDecoderLayer": ["x", "memory"]}.get(name, ["x"])
    return build(path_of(name), inputs=dict(zip(names, shapes, strict=True)), **args)


@pytest.mark.parametrize("name, args, by_hand_class, shapes", FLAT)
def test_a_block_is_the_hand_written_one(name, args, by_hand_class, shapes):
    torch.manual_seed(7)
    ours = built(name, args, shapes)
    torch.manual_seed(7)
    theirs = by_hand_class()
    same_state(ours, theirs)
    inputs = [torch.randn(shape) for shape in shapes]
    for training in (True, False):
        results = []
        for model in (ours, theirs):
            model.zero_grad()
            torch.manual_seed(3)
            own = [tensor.clone().requires_grad_() for tensor in inputs]
            output = model.train(training)(*own)
            output.square().mean().backward()
            results.append((output, [t.grad for t in own] + [p.grad for p in model.parameters()]))
        same_outputs(results[0][0], results[1][0])
        assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))
        same_state(ours, theirs)


def test_transformer_layers_take_masks():
    torch.manual_seed(0)
    causal = torch.ones(5, 5).triu(1).bool()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    x, memory = torch.randn(SEQUENCE), torch.randn(SEQUENCE)
    args = {"width": 16, "heads": 4}
    encoder, theirs = built("PreNormEncoderLayer", args, [SEQUENCE]).eval(), EncoderLayer().eval()
    theirs.load_state_dict(encoder.state_dict())
    want = theirs(x, src_mask=causal, src_key_padding_mask=padding)
    assert torch.equal(encoder(x, causal, padding), want)
    decoder, theirs = built("PreNormDecoderLayer", args, [SEQUENCE, SEQUENCE]).eval(), DecoderLayer().eval()
    theirs.load_state_dict(decoder.state_dict())
    want = theirs(x, memory, tgt_mask=causal, memory_key_padding_mask=padding)
    assert torch.equal(decoder(x, memory, mask=causal, padding=padding), want)


def test_a_block_is_a_type_in_every_model():
    model = build({
        "inputs": {"x": ["B", 3, 32, 32]},
        "layers": [
            {"type": "ConvNormAct", "channels": 8},
            {"type": "InvertedResidual", "in_channels": 8, "channels": 8},
            {"type": "SqueezeExcitation", "channels": 8, "reduction": 2},
            {"type": "Residual", "channels": 16, "stride": 2},
            {"type": "Bottleneck", "channels": 4},
            {"type": "Branches", "channels": 5},
        ],
    })  # fmt: skip
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 15, 16, 16)


def test_a_shortcut_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError) as caught:
        build({"inputs": {"x": ["B", 3, 8, 8]}, "layers": {"a": {"type": "Residual", "channels": 4}}})
    assert str(caught.value).startswith(
        "configs/block/Residual.yaml:23: block.Residual.forward: shapes don't fit in Residual 'a'"
    )
    assert "after BatchNorm2d 'a.bn2' (num_features=4), which gave [2, 4, 8, 8]" in str(caught.value)
