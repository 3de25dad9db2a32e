"""Sets Python's, NumPy's and torch's generators from a place: what they draw is a function of it, never of the past."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from builder import plugins
from builder.hashing import derive


def reseed(*place: int | str) -> None:
    """Seed all global generators by `place`, e.g. `reseed(seed, "init")`."""
    seed = derive(*place)
    _seed_python(seed)
    _seed_torch(seed)


def reseed_cpu(*place: int | str) -> None:
    """Seed the generators of Python, NumPy and torch's CPU by `place`; those of GPUs, that training uses, stay."""
    seed = derive(*place)
    _seed_python(seed)
    torch.default_generator.manual_seed(seed)


def reseed_step(seed: int, phase: str, epoch: int, batch: int, rank: int = 0) -> None:
    """Seed what a step of training or validation may draw from by its place.

    That is torch, and Python and NumPy where users' modules were imported: nothing of ours, of PyTorch's or of
    torchmetrics' draws from these two in a step, and to seed them takes twice as long as all the rest.
    """
    number = derive(seed, phase, epoch, batch, rank)
    if plugins.imported:
        _seed_python(number)
    _seed_torch(number)


def _seed_python(seed: int) -> None:
    random.seed(seed)
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])


def _seed_torch(seed: int) -> None:
    # Not torch.manual_seed: while CUDA isn't initialised it formats a traceback at every call.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put Python's, NumPy's and torch's generators back as they were; not those of GPUs."""
    ours, numpys, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)
        torch.set_rng_state(torchs)
