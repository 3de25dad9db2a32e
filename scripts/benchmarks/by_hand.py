"""The hand-written networks that ours are measured against: those that the tests compare bits with."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "model"))

from handwritten import Cnn, Gpt, Mlp  # noqa: E402

__all__ = ["Cnn", "Gpt", "Mlp"]
