"""The data sets that need no download: scikit-learn's, and the text of Python's own documentation."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.data.facts import ArgumentError, Dataset
from builder.data.splits import Indices, split_indices, split_ranges
from builder.registry import datasets

FRACTIONS: Mapping[str, float] = {"train": 0.7, "val": 0.15, "test": 0.15}
TEXT_FRACTIONS: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}


@datasets.register("SklearnDataset")
def sklearn_dataset(
    name: Literal["digits", "breast_cancer", "wine", "iris", "diabetes"],
    split: Mapping[str, float] = FRACTIONS,
    standardise: bool = True,
    standardise_target: bool = False,
    *,
    seed: int,
) -> Dataset:
    """A data set that scikit-learn ships, split by seed, stratified by class.

    `x` is float32: images [1, 8, 8] scaled to 0..1 for `digits`, else columns [num_features] that `standardise` brings
    to mean 0 and standard deviation 1 on the train split. `target` is int64 class indices, or float32 for `diabetes`,
    which `standardise_target` treats likewise (`data.target_mean` and `data.target_std` lead back to its unit).

    Raises:
        ArgumentError: there is no data set of that name, or the split can't be made.
    """
    bunch = _load_sklearn(name)
    classes = None if name == "diabetes" else np.asarray(bunch.target)
    indices = split_indices(len(bunch.target), split, seed, classes)
    if classes is None:
        target, facts = _regression(bunch.target, indices["train"], standardise_target)
    elif standardise_target:
        raise ArgumentError("standardise_target", f"the target of {name!r} is a class, not a value", found=True)
    else:
        target, facts = _classification(classes, bunch.target_names, indices["train"])
    if name == "digits":
        x = (bunch.images / 16.0)[:, None]
        facts |= {"num_features": 64, "in_channels": 1, "height": 8, "width": 8}
    else:
        x = _standardised(bunch.data, indices["train"])[0] if standardise else bunch.data
        facts |= {"num_features": x.shape[1], "feature_names": [str(name) for name in bunch.feature_names]}
    whole = {"x": torch.from_numpy(x.astype(np.float32)), "target": target}
    return Dataset({part: _taken(whole, rows) for part, rows in indices.items()}, facts)


@datasets.register("Topics")
def topics(length: int = 128, stride: int | None = None, split: Mapping[str, float] = TEXT_FRACTIONS) -> Dataset:
    """The text of Python's documentation (`pydoc_data.topics`) in windows of `length` characters, for a language model.

    `ids` [length] are indices of characters and `target` [length] those that follow them, both int64. A window begins
    every `stride` characters (`length`, if it isn't given). The text is cut into train, val and test by position, and
    no window reaches across a cut. The vocabulary is that of the whole text.

    Raises:
        ArgumentError: the windows don't fit into the text.
    """
    for argument, value in (("length", length), ("stride", stride)):
        if value is not None and value < 1:
            raise ArgumentError(argument, f"{argument} must be at least 1", found=value)
    text = topics_text()
    characters = sorted(set(text))
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    known = np.array([ord(character) for character in characters], dtype=np.uint32)
    ids = torch.from_numpy(np.searchsorted(known, codes).astype(np.int64))
    places = split_ranges(len(ids), split)
    parts = {name: _windows(ids[at.start : at.stop], length, stride or length) for name, at in places.items()}
    return Dataset(parts, {"vocab_size": len(characters), "characters": "".join(characters), "length": length})


def topics_text() -> str:
    """All topics of `pydoc_data.topics` in the order of their names, an empty line between each two."""
    entries: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "\n\n".join(entries[name].strip() for name in sorted(entries))


def _load_sklearn(name: str) -> Any:
    loaders = {"digits", "breast_cancer", "wine", "iris", "diabetes"}
    if name not in loaders:
        raise ArgumentError(
            "name", "scikit-learn has no such data set", found=name, expected=" | ".join(sorted(loaders))
        )
    load = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")
    # Unscaled: scikit-learn's own scaling of diabetes uses the rows that are test here.
    return load(scaled=False) if name == "diabetes" else load()


def _classification(classes: NDArray[Any], names: Any, train: Indices) -> tuple[Tensor, dict[str, Any]]:
    count = np.bincount(classes[train], minlength=len(names))
    weights = len(train) / (len(names) * np.maximum(count, 1))  # inversely proportional to the class's frequency
    facts = {
        "num_classes": len(names),
        "num_outputs": len(names),
        "class_names": [str(name) for name in names],
        "class_weights": [float(weight) for weight in weights],
    }
    return torch.from_numpy(classes.astype(np.int64)), facts


def _regression(values: NDArray[Any], train: Indices, standardise: bool) -> tuple[Tensor, dict[str, Any]]:
    scaled, mean, std = _standardised(values, train)
    target = torch.from_numpy((scaled if standardise else values).astype(np.float32))
    return target, {"num_outputs": 1, "target_mean": float(mean), "target_std": float(std)}


def _standardised(values: NDArray[Any], train: Indices) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """`values` brought to mean 0 and standard deviation 1 over the rows `train`; a constant column to 0."""
    mean, std = values[train].mean(axis=0), values[train].std(axis=0)
    return (values - mean) / np.where(std > 0, std, 1.0), mean, std


def _taken(tensors: Mapping[str, Tensor], rows: Indices) -> dict[str, Tensor]:
    index = torch.from_numpy(rows)
    return {name: tensor[index] for name, tensor in tensors.items()}


def _windows(ids: Tensor, length: int, stride: int) -> dict[str, Tensor]:
    """Windows over `ids` and over what follows each id; views, so that overlapping windows cost no memory."""
    if len(ids) <= length:
        raise ArgumentError("length", f"a window is longer than a split of {len(ids)} characters", found=length)
    return {"ids": ids[:-1].unfold(0, length, stride), "target": ids[1:].unfold(0, length, stride)}
