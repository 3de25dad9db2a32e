"""forward, step: built models against hand-written classes, on tiny tensors, where every Python instruction shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from by_hand import Cnn, Gpt, Mlp
from measure import Row, compare
from torch import nn

from builder import build
from builder.config.folders import shipped_configs

MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "mlp": (
        lambda: _built("mlp", data={"num_outputs": 10}, inputs={"x": (1, 64)}, hidden=8),
        lambda: Mlp(hidden=8),
        lambda: torch.randn(1, 64),
    ),
    "cnn": (
        lambda: _built("cnn", inputs={"x": (1, 1, 4, 4)}, classes=10, channels=4),
        lambda: Cnn(channels=4),
        lambda: torch.randn(1, 1, 4, 4),
    ),
    "gpt": (
        lambda: _built("gpt", vocab=50, context=32, width=16),
        lambda: Gpt(width=16),
        lambda: torch.randint(0, 50, (1, 8)),
    ),
}


def _built(name: str, **args: object) -> nn.Module:
    return build(shipped_configs() / f"model/{name}.yaml", **args)


def forward() -> Iterator[Row]:
    """A forward call, eager, no gradients."""
    for name, (ours, theirs, inputs) in MODELS.items():
        ours_, theirs_, x = ours().eval(), theirs().eval(), inputs()
        with torch.inference_mode():
            yield compare(name, lambda m=ours_, x=x: m(x), lambda m=theirs_, x=x: m(x), bound=1.02, calls=200)


def step() -> Iterator[Row]:
    """Forward, backward and an optimiser step."""
    for name, (ours, theirs, inputs) in MODELS.items():
        x = inputs()
        sides = [_step(model().train(), x) for model in (ours, theirs)]
        yield compare(name, *sides, bound=1.02, calls=100)


def _step(model: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    batch = torch.cat([x, x])  # batch norms need more than one value

    def run() -> None:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()

    return run
