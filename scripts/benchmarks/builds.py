"""build: a YAML file to a real model, against its constructors called by hand, initialisation included."""

from __future__ import annotations

from collections.abc import Iterator

from by_hand import Gpt
from measure import Row, compare

from builder import build
from builder.config.folders import shipped_configs


def build_file() -> Iterator[Row]:
    """Parse, validate, infer and construct a transformer of 384 layers and more."""
    path = shipped_configs() / "model/gpt.yaml"
    sizes = {"vocab": 1000, "context": 64, "width": 256, "depth": 48, "heads": 4}
    yield compare("gpt, 48 blocks", lambda: build(path, **sizes), lambda: Gpt(**sizes), bound=1.10, calls=1, repeats=7)
