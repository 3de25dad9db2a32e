"""Sets Python's, NumPy's and torch's generators from a place in training: what they draw is a function of it."""

from __future__ import annotations

import random

import numpy as np
import torch

from builder.hashing import derive


def reseed(*place: int | str) -> None:
    """Seed all global generators by `place`, e.g. `reseed(seed, "init")` or `reseed(seed, "train", epoch)`."""
    seed = derive(*place)
    random.seed(seed)
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
    # Not torch.manual_seed: while CUDA isn't initialised it formats a traceback at every call.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
