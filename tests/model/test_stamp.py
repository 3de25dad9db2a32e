"""Layers made by stamp, against the same layers made by PyTorch's constructors."""

import functools

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from builder import build
from builder.model import stamp
from builder.model.stamp import stamp_of

LAYERS = {
    "linear": (nn.Linear, {"in_features": 3, "out_features": 5}),
    "linear without bias": (nn.Linear, {"in_features": 3, "out_features": 5, "bias": False, "dtype": torch.float64}),
    "conv1d": (nn.Conv1d, {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "groups": 2}),
    "conv2d": (nn.Conv2d, {"in_channels": 2, "out_channels": 3, "kernel_size": (3, 1), "padding": "same"}),
    "conv2d reflecting": (nn.Conv2d, {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "padding": 1,
                                      "padding_mode": "reflect"}),
    "conv3d": (nn.Conv3d, {"in_channels": 1, "out_channels": 2, "kernel_size": 2}),
    "transposed": (nn.ConvTranspose2d, {"in_channels": 2, "out_channels": 3, "kernel_size": 2, "stride": 2}),
    "batch norm": (nn.BatchNorm2d, {"num_features": 4, "momentum": None}),
    "batch norm without statistics": (nn.BatchNorm1d, {"num_features": 4, "track_running_stats": False}),
    "batch norm without weight": (nn.BatchNorm3d, {"num_features": 4, "affine": False}),
    "layer norm": (nn.LayerNorm, {"normalized_shape": (2, 3), "bias": False}),
    "group norm": (nn.GroupNorm, {"num_groups": 2, "num_channels": 4}),
    "rms norm": (nn.RMSNorm, {"normalized_shape": 4}),
    "embedding": (nn.Embedding, {"num_embeddings": 5, "embedding_dim": 3, "padding_idx": 1}),
    "gelu": (nn.GELU, {"approximate": "tanh"}),
    "dropout": (nn.Dropout, {"p": 0.25}),
    "pool": (nn.MaxPool2d, {"kernel_size": (2, 3), "stride": 1}),
    "flatten": (nn.Flatten, {}),
}  # fmt: skip


def attributes(module):
    return {name: value for name, value in module.__dict__.items() if name not in ("_parameters", "_buffers")}


def assert_equal(ours, theirs):
    assert type(ours) is type(theirs)
    assert list(ours.__dict__) == list(theirs.__dict__)
    assert attributes(ours) == attributes(theirs)
    for group in ("_parameters", "_buffers"):
        assert list(getattr(ours, group)) == list(getattr(theirs, group))
        for a, b in zip(getattr(ours, group).values(), getattr(theirs, group).values(), strict=True):
            assert type(a) is type(b)
            if a is not None:
                assert (a.dtype, a.requires_grad, a.stride()) == (b.dtype, b.requires_grad, b.stride())
                assert torch.equal(a, b)


@pytest.mark.parametrize("name", LAYERS)
def test_a_stamped_layer_is_the_constructors_with_the_same_draws(name):
    kind, arguments = LAYERS[name]
    found = stamp_of(kind(**arguments))
    assert found is not None
    torch.manual_seed(3)
    ours = found.make(draws=True)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    theirs = kind(**arguments)
    assert torch.equal(after, torch.get_rng_state())
    assert_equal(ours, theirs)


def test_stamped_layers_share_nothing():
    found = stamp_of(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"))
    first, second = found.make(draws=True), found.make(draws=True)
    first.register_forward_hook(print)
    first.register_buffer("more", torch.ones(1), persistent=False)
    assert first.weight is not second.weight and not second._buffers
    first._modules["child"] = nn.ReLU()
    assert attributes(second) == attributes(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"))


class Own(nn.Linear):
    """Not one of PyTorch's."""


@pytest.mark.parametrize(
    "layer",
    [
        Own(2, 2),
        nn.LSTM(2, 2),
        nn.MultiheadAttention(4, 2),
        nn.PReLU(),
        nn.Sequential(nn.ReLU()),
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_with_more_to_them_have_no_stamp(layer):
    assert stamp_of(layer) is None


def test_a_layer_with_a_hook_has_no_stamp():
    layer = nn.ReLU()
    layer.register_forward_hook(print)
    assert stamp_of(layer) is None


STACK = {
    "inputs": {"x": ["B", 4]},
    "layers": {"parts": {"type": "Sequential", "repeat": 4, "layer": {"type": "Linear", "out_features": 4}}},
}


def test_a_constructor_that_another_library_put_in_place_is_called_for_each_layer(monkeypatch):
    made, original = [], nn.Linear.__init__

    @functools.wraps(original)
    def constructor(self, *args, **kwargs):
        made.append(self)
        original(self, *args, **kwargs)

    monkeypatch.setattr(nn.Linear, "__init__", constructor)
    model = build(STACK)
    assert [layer for layer in made if layer in list(model.parts)] == list(model.parts)


def test_each_layer_is_registered_where_someone_watches():
    seen = []
    handle = register_module_module_registration_hook(lambda module, name, child: seen.append(name))
    try:
        build(STACK, device="meta")
    finally:
        handle.remove()
    assert {"0", "1", "2", "3", "parts"} <= set(seen)


def test_without_values_nothing_is_drawn(monkeypatch):
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: pytest.fail("initial values on the meta device"))
    model = build(STACK, device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())
    assert len({id(parameter) for parameter in model.parameters()}) == 8


def test_every_initialised_class_has_its_method():
    assert all(hasattr(kind, "reset_parameters") for kind in stamp.INITIALISED)
