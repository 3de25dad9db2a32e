"""What it takes to be told that a config is fine."""

from __future__ import annotations

from collections.abc import Iterator

from measure import Effort, Row
from processes import BUILDER, PYTHON, compare_commands

TITLE = "builder check / python -c 'import torch'"
PICTURES = ("data=synthetic", "data.shape=[3,64,64]", "data.num_samples=64")


def rows(effort: Effort) -> Iterator[Row]:
    """A ResNet-50, and the MLP on scanned digits, which come with scikit-learn."""
    theirs = (PYTHON, "-c", "import torch")
    for words in (("model=resnet50", *PICTURES), ("experiment=digits_mlp",)):
        command = (*BUILDER, "check", *words)
        yield compare_commands(words[0], command, theirs, bound=1.6, effort=effort, pairs=3)
