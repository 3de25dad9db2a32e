"""Which sample belongs to train, val and test: a pure function of the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from builder.data.facts import SPLITS, ArgumentError, nearest_split, refuse
from builder.hashing import derive

Indices = NDArray[np.int64]
FRACTIONS: Mapping[str, float] = {"train": 0.7, "val": 0.15, "test": 0.15}


def split_indices(
    num_samples: int,
    fractions: Mapping[str, float],
    seed: int,
    classes: NDArray[np.generic] | None = None,
    *,
    groups: NDArray[np.generic] | None = None,
    fold: int | None = None,
    num_folds: int | None = None,
) -> dict[str, Indices]:
    """Indices of the samples of each split, ascending; every index is in exactly one split.

    Args:
        num_samples: how many there are.
        fractions: the share of each split.
        seed: what the division follows from.
        classes: [num_samples]; each class is divided by the same fractions (stratified).
        groups: [num_samples]; samples of one group lie in one split, for which fractions are met as nearly as can be.
            They aren't stratified then.
        fold: which of `num_folds` parts is val. `test` is what it is without folds; the rest is cut into folds, and
            what isn't val is train. Each of these samples is in val in exactly one fold.
        num_folds: how many folds there are.

    Raises:
        ArgumentError: `fractions` aren't fractions, there is no such fold, or a split that is asked for is empty.
    """
    bounds = _bounds(fractions)
    _check_folds(fold, num_folds)
    generator = np.random.Generator(np.random.PCG64(derive(seed, "split")))
    if groups is not None:
        parts = [_grouped(groups, generator, bounds, fold, num_folds)]
    else:
        strata = [np.arange(num_samples)]
        if classes is not None:
            strata = [np.flatnonzero(classes == label) for label in np.unique(classes)]
        shuffled = [generator.permutation(stratum) for stratum in strata]
        parts = [np.split(stratum, _cuts(len(stratum), bounds)) for stratum in shuffled]
        if fold is not None and num_folds is not None:
            parts = _folded(parts, fold, num_folds)
    split = {name: np.sort(np.concatenate([part[i] for part in parts])) for i, name in enumerate(SPLITS)}
    for name, indices in split.items():
        if not len(indices) and (fractions.get(name) or (fold is not None and name == "val")):
            message = f"the {name} split is empty: {num_samples} samples are too few"
            raise ArgumentError("split", message, found=dict(fractions))
    return {name: indices for name, indices in split.items() if len(indices)}


def split_by(values: Sequence[object] | NDArray[np.generic], column: str) -> dict[str, Indices]:
    """Indices of the samples of each split, as a column says: `train`, `val` or `test` for each sample.

    Raises:
        ArgumentError: it says something else, or leaves train empty.
    """
    texts = np.array([str(value) for value in values])
    wrong = [text for text in dict.fromkeys(texts.tolist()) if text not in SPLITS]
    expected = " | ".join(SPLITS)
    if wrong:
        message = f"the column {column!r} doesn't say for every sample which split it is in"
        raise ArgumentError("split", message, found=wrong[0], expected=expected, nearest=nearest_split(wrong[0]))
    split = {name: np.flatnonzero(texts == name) for name in SPLITS}
    if not len(split["train"]):
        raise ArgumentError("split", f"the column {column!r} leaves the train split empty", expected=expected)
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
        near = nearest_split(unknown[0]) if unknown else ()
        raise ArgumentError(
            "split", "the split can't be made", found=dict(fractions), expected=expected, nearest=near
        )  # fmt: skip
    return [values[0], values[0] + values[1]]


def _cuts(length: int, bounds: Sequence[float]) -> list[int]:
    # Rounded after a step of 1e-9 so that 0.7 + 0.15 of 100 is 85 whatever the last bit of the sum says.
    return [min(length, int(bound * length + 0.5 + 1e-9)) for bound in bounds]


def _check_folds(fold: int | None, num_folds: int | None) -> None:
    if fold is None and num_folds is None:
        return
    errors = []
    if num_folds is None or num_folds < 2:
        errors.append(ArgumentError("num_folds", "folds need a number of them", found=num_folds, expected="2 or more"))
    if fold is None or fold < 0 or (num_folds is not None and fold >= num_folds):
        expected = "the number of the fold that is val" + (f", from 0 to {num_folds - 1}" if num_folds else "")
        errors.append(ArgumentError("fold", "there is no such fold", found=fold, expected=expected))
    if errors:
        refuse(errors)


def _folded(parts: Sequence[Sequence[Indices]], fold: int, num_folds: int) -> list[list[Indices]]:
    """Strata divided into train, val and test, divided anew: val is the fold, test stays.

    Strata begin at the fold at which the one before ended, so that small ones don't all lie in the first folds.
    """
    found, begin = [], 0
    for train, val, test in parts:
        rest = np.concatenate([train, val])
        place = (np.arange(len(rest)) + begin) % num_folds
        begin = (begin + len(rest)) % num_folds
        found.append([rest[place != fold], rest[place == fold], test])
    return found


def _grouped(
    groups: NDArray[np.generic],
    generator: np.random.Generator,
    bounds: Sequence[float],
    fold: int | None,
    num_folds: int | None,
) -> list[Indices]:
    """Whole groups for train, val and test, in a random order: each goes where its middle falls."""
    names, of = np.unique(groups, return_inverse=True)
    order = generator.permutation(len(names))
    sizes = np.bincount(of, minlength=len(names))[order]
    middles = np.empty(len(names))
    middles[order] = (np.cumsum(sizes) - sizes / 2) / len(groups)
    part = np.searchsorted(np.asarray(bounds), middles, side="right")
    if fold is not None and num_folds is not None:
        share = np.minimum((middles / bounds[1] * num_folds).astype(int), num_folds - 1)
        part = np.where(part == 2, 2, np.where(share == fold, 1, 0))
    return [np.flatnonzero(part[of] == i) for i in range(len(SPLITS))]
