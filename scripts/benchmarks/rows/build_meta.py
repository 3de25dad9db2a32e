"""YAML to a model without memory, against making it for real by hand."""

from __future__ import annotations

from collections.abc import Iterator

from by_hand import Gpt
from measure import Effort, Row, compare
from networks import Network, transformer

from builder import build

TITLE = 'builder.build(device="meta") / the constructors by hand, for real'

SIZE_OF_XL = {"vocab": 50257, "context": 1024, "width": 1600, "depth": 48, "heads": 25}
"""GPT-2 XL's: 1.5 billion parameters."""


def rows(effort: Effort) -> Iterator[Row]:
    """A large model, and a small one."""
    if effort.full:
        large = Network("GPT-2 XL, 1.5 billion parameters", "gpt", SIZE_OF_XL, lambda: Gpt(**SIZE_OF_XL), {})
        yield _compare(large, 0.01, effort, pairs=1)
    yield _compare(transformer(64) if effort.full else transformer(16, depth=2), 1.0, effort, pairs=11)


def _compare(network: Network, bound: float, effort: Effort, pairs: int) -> Row:
    small = network.args["width"] < 1000  # a large one takes too long to be made once more
    return compare(
        network.what,
        lambda: build(network.path, inputs=network.inputs, device="meta", **network.args),
        network.by_hand,
        bound=bound, effort=effort, control=small, pairs=pairs,
    )  # fmt: skip
