"""The hand-written networks that ours are measured against: those that the tests compare bits with."""

import sys
from functools import partial
from pathlib import Path

from torch import nn

TESTS = Path(__file__).resolve().parents[2] / "tests" / "model"
sys.path[:0] = [str(TESTS), str(TESTS / "zoo")]

from by_hand_blocks import Bottleneck  # noqa: E402
from by_hand_models import ResNet  # noqa: E402
from handwritten import Cnn, Gpt, GptAttention, GptBlock, Mlp  # noqa: E402

__all__ = ["Cnn", "Gpt", "GptAttention", "GptBlock", "Mlp", "ResNet50", "same_keys"]

ResNet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))


def same_keys(ours: nn.Module, theirs: nn.Module) -> None:
    """Refuse to compare what isn't the same network."""
    shapes = [{name: tuple(x.shape) for name, x in side.state_dict().items()} for side in (ours, theirs)]
    assert shapes[0] == shapes[1], "the two sides are not the same network"
