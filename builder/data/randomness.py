"""Generators that are seeded by place, for what is drawn while data is made."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from builder.hashing import derive


def reseed(*place: int | str) -> None:
    """Seed the generators of Python, NumPy and torch's CPU by `place`."""
    seed = derive(*place)
    random.seed(seed)
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
    torch.default_generator.manual_seed(seed)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put Python's, NumPy's and torch's generators back as they were."""
    ours, numpys, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)
        torch.set_rng_state(torchs)
