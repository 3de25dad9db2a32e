"""Which sample belongs to train, val and test: a pure function of the seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from builder.data.facts import SPLITS, ArgumentError
from builder.hashing import derive

Indices = NDArray[np.int64]


def split_indices(
    num_samples: int, fractions: Mapping[str, float], seed: int, classes: NDArray[np.generic] | None = None
) -> dict[str, Indices]:
    """Indices of the samples of each split, ascending; every index is in exactly one split.

    `classes` [num_samples]: with it each class is divided by the same fractions (stratified).

    Raises:
        ArgumentError: `fractions` aren't fractions, or leave a split that is asked for empty.
    """
    bounds = _bounds(fractions)
    groups = [np.arange(num_samples)] if classes is None else [np.flatnonzero(classes == c) for c in np.unique(classes)]
    generator = np.random.Generator(np.random.PCG64(derive(seed, "split")))
    parts = [np.split(generator.permutation(group), _cuts(len(group), bounds)) for group in groups]
    split = {name: np.sort(np.concatenate([part[i] for part in parts])) for i, name in enumerate(SPLITS)}
    for name, indices in split.items():
        if not len(indices) and fractions.get(name):
            message = f"the {name} split is empty: {num_samples} samples are too few"
            raise ArgumentError("split", message, found=dict(fractions))
    return {name: indices for name, indices in split.items() if len(indices)}


def split_ranges(length: int, fractions: Mapping[str, float]) -> dict[str, range]:
    """Positions of each split in a sequence of `length` items, in the order train, val, test.

    Raises:
        ArgumentError: `fractions` aren't fractions.
    """
    cuts = [0, *_cuts(length, _bounds(fractions)), length]
    return {name: range(cuts[i], cuts[i + 1]) for i, name in enumerate(SPLITS) if cuts[i] < cuts[i + 1]}


def _bounds(fractions: Mapping[str, float]) -> list[float]:
    """Where train ends and where val ends, as fractions of the whole."""
    expected = "fractions of train, val and test that add up to 1, e.g. {train: 0.7, val: 0.15, test: 0.15}"
    values = [fractions.get(name, 0) for name in SPLITS]
    unknown = [name for name in fractions if name not in SPLITS]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if unknown or not numbers or min(values) < 0 or not values[0] or abs(sum(values) - 1) > 1e-6:
        raise ArgumentError("split", "the split can't be made", found=dict(fractions), expected=expected)
    return [values[0], values[0] + values[1]]


def _cuts(length: int, bounds: list[float]) -> list[int]:
    # Rounded after a step of 1e-9 so that 0.7 + 0.15 of 100 is 85 whatever the last bit of the sum says.
    return [min(length, int(bound * length + 0.5 + 1e-9)) for bound in bounds]
