"""Samples that are made up: of any shape, from a seed, with something in them to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from builder.data.facts import ArgumentError, Dataset, class_facts, refuse
from builder.data.splits import FRACTIONS, split_indices
from builder.hashing import derive
from builder.registry import datasets


@datasets.register("Synthetic")
def synthetic(
    num_samples: int = 1024,
    shape: Sequence[int] = (16,),
    num_classes: int | None = 4,
    vocab_size: int | None = None,
    noise: float = 0.5,
    split: Mapping[str, float] = FRACTIONS,
    fold: int | None = None,
    num_folds: int | None = None,
    *,
    seed: int,
) -> Dataset:
    """Samples drawn from the seed, for trying a model out and for measuring speed.

    `x` [*shape] float32 is the pattern of a class with Gaussian noise of standard deviation `noise`, and `target` the
    class. Without `num_classes` it is standard Gaussian, and `target` float32 a linear function of it, with noise. With
    `vocab_size` samples are `ids` [*shape] int64 instead, each but the first following from the one before (it is the
    next index, or with probability `noise` any), and `target` those that follow.

    Raises:
        Refusal: an argument is out of range.
    """
    _check(num_samples, shape, num_classes, vocab_size, noise)
    generator = np.random.Generator(np.random.PCG64(derive(seed, "synthetic")))
    size = (num_samples, *shape)
    fits = {"model": "cnn" if len(shape) == 3 else "mlp", "task": "classification" if num_classes else "regression"}
    classes = None
    tensors: Mapping[str, NDArray[Any]]
    facts: dict[str, Any]
    if vocab_size is not None:
        tensors, facts = _ids(generator, size, vocab_size, noise)
        fits = {"model": "gpt", "task": "language_model"}
    elif num_classes is not None:
        tensors, facts = _patterns(generator, size, num_classes, noise), {}
        classes = tensors["target"]
    else:
        tensors, facts = _linear(generator, size, noise), {"num_outputs": 1}
    indices = split_indices(num_samples, split, seed, classes, fold=fold, num_folds=num_folds)
    if classes is not None and num_classes is not None:
        counts = np.bincount(classes[indices["train"]], minlength=num_classes).tolist()
        facts = class_facts([str(i) for i in range(num_classes)], counts)
    if vocab_size is None:
        facts["num_features"] = int(np.prod(shape))
        facts |= dict(zip(("in_channels", "height", "width"), shape, strict=True)) if len(shape) == 3 else {}
    splits = {
        name: {key: torch.from_numpy(array[rows]) for key, array in tensors.items()} for name, rows in indices.items()
    }
    return Dataset(splits, facts, None, (), fits)


def _patterns(
    generator: np.random.Generator, size: tuple[int, ...], num_classes: int, noise: float
) -> dict[str, NDArray[Any]]:
    """A pattern for each class, with noise; and the classes."""
    classes = generator.integers(num_classes, size=size[0])
    patterns = generator.standard_normal((num_classes, *size[1:]), dtype=np.float32)
    x = patterns[classes] + np.float32(noise) * generator.standard_normal(size, dtype=np.float32)
    return {"x": x, "target": classes}


def _linear(generator: np.random.Generator, size: tuple[int, ...], noise: float) -> dict[str, NDArray[Any]]:
    """Standard Gaussian numbers, and a linear function of them, with noise."""
    num_samples, *shape = size
    x = generator.standard_normal(size, dtype=np.float32)
    weight = generator.standard_normal(shape, dtype=np.float32) / np.sqrt(np.prod(shape, dtype=np.float32))
    target = (x * weight).reshape(num_samples, -1).sum(1) + noise * generator.standard_normal(num_samples)
    return {"x": x, "target": target.astype(np.float32)}


def _ids(
    generator: np.random.Generator, size: tuple[int, ...], vocab_size: int, noise: float
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    ids = np.empty((size[0], size[1] + 1), dtype=np.int64)
    ids[:, 0] = generator.integers(vocab_size, size=size[0])
    for place in range(1, size[1] + 1):
        other = generator.integers(vocab_size, size=size[0])
        ids[:, place] = np.where(generator.random(size[0]) < noise, other, (ids[:, place - 1] + 1) % vocab_size)
    return {"ids": ids[:, :-1].copy(), "target": ids[:, 1:].copy()}, {"vocab_size": vocab_size, "length": size[1]}


def _check(
    num_samples: int, shape: Sequence[int], num_classes: int | None, vocab_size: int | None, noise: float
) -> None:
    errors = []
    for argument, value, least in (
        ("num_samples", num_samples, 1), ("num_classes", num_classes, 2), ("vocab_size", vocab_size, 2),
    ):  # fmt: skip
        if value is not None and value < least:
            errors.append(ArgumentError(argument, f"{argument} must be at least {least}", found=value))
    if not shape or min(shape) < 1:
        errors.append(ArgumentError("shape", "no shape of a sample", found=list(shape), expected="sizes from 1"))
    if vocab_size is not None and len(shape) != 1:
        expected = "[length], since samples are sequences"
        errors.append(ArgumentError("shape", "no shape of a sequence", found=list(shape), expected=expected))
    if not 0 <= noise:
        errors.append(ArgumentError("noise", "noise can't be below 0", found=noise))
    refuse(errors)
