"""Every shipped model, small enough for tests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from builder import build
from builder.config.folders import shipped_configs

FACTS = {
    "num_classes": 5, "num_outputs": 5, "num_features": 64, "in_channels": 3, "height": 32, "width": 32,
    "vocab_size": 50, "length": 16, "category_sizes": [3, 4, 9],
}  # fmt: skip


def pictures(channels=3, size=32):
    return lambda: (torch.randn(3, channels, size, size),)


def tokens():
    return (torch.randint(0, 50, (3, 12)),)


@dataclass(frozen=True)
class Case:
    """A model's arguments and a way to make inputs for it; `names` are those of the inputs that `make` gives."""

    make: Callable[[], tuple[torch.Tensor, ...]]
    args: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ("x",)

    def build(self, name, **args):
        """The model from its YAML."""
        with torch.random.fork_rng():
            inputs = dict(zip(self.names, self.make(), strict=True))
        return build(shipped_configs() / f"model/{name}.yaml", data=FACTS, inputs=inputs, **(self.args | args))


TRANSFORMER = {"width": 32, "depth": 2, "heads": 4}

CASES = {
    "autoencoder": Case(pictures(1, 8), {"hidden": [24, 12], "code": 4}),
    "bert": Case(tokens, TRANSFORMER | {"positions": 40}, ("ids",)),
    "cnn": Case(pictures(), {"channels": 8}),
    "gpt": Case(tokens, TRANSFORMER, ("ids",)),
    "gpt2": Case(tokens, TRANSFORMER | {"context": 40}, ("ids",)),
    "llama": Case(tokens, TRANSFORMER | {"kv_heads": 2, "hidden": 48}, ("ids",)),
    "lstm_tagger": Case(tokens, {"width": 8, "hidden": 6}, ("ids",)),
    "mlp": Case(pictures(1, 8), {"hidden": 16}),
    "multitask": Case(pictures(1, 8), {"hidden": 16}),
    "resnet18": Case(pictures(size=64), {"width": 4}),
    "resnet50": Case(pictures(size=64), {"width": 4, "depths": [2, 1, 1, 2]}),
    "siamese": Case(
        lambda: (torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8)), {"channels": 4, "code": 6}, ("first", "second")
    ),
    "table": Case(
        lambda: (torch.randn(3, 6), torch.tensor([[0, 3, 8], [2, 0, 0], [1, 1, 1]])),
        {"hidden": 16},
        ("x", "categories"),
    ),
    "unet": Case(pictures(), {"width": 4, "depth": 2}),
    "vae": Case(pictures(1, 8), {"hidden": 24, "code": 4}),
    "vit": Case(pictures(), TRANSFORMER | {"patch": 8}),
}


def same_state(a, b):
    """The same keys in the same order, with the same bits."""
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    for key in a:
        assert torch.equal(a[key], b[key]), key


def flat(value):
    """The tensors of a model's output, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in (value.values() if isinstance(value, dict) else value) for tensor in flat(part)]


def same_outputs(a, b):
    """Bit-equal outputs of the same structure."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
    assert all(torch.equal(x, y) for x, y in zip(flat(a), flat(b), strict=True))
