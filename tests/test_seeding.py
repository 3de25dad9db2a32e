import random

import numpy as np
import torch

from builder.hashing import derive
from builder.seeding import reseed


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_draws_are_a_function_of_the_place():
    reseed(1, "train", 0)
    first = draws()
    reseed(1, "train", 1)
    other = draws()
    reseed(1, "train", 0)
    assert draws() == first and all(a != b for a, b in zip(first, other, strict=True))


def test_a_place_stays_what_it_is():
    assert derive(1, "train", 0) == 6829224237804602901
    assert derive(1, "train", 0) != derive("1", "train", 0) != derive(1, "train", 10)
