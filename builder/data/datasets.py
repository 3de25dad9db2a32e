"""The data sets that scikit-learn ships, and an import of all others, so that they are known."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.data.facts import ArgumentError, Dataset, class_facts
from builder.data.splits import FRACTIONS, Indices, split_indices
from builder.registry import datasets


@datasets.register("SklearnDataset")
def sklearn_dataset(
    name: Literal["digits", "breast_cancer", "wine", "iris", "diabetes"],
    split: Mapping[str, float] = FRACTIONS,
    standardise: bool = True,
    standardise_target: bool = False,
    classes: Sequence[int] | None = None,
    fold: int | None = None,
    num_folds: int | None = None,
    *,
    seed: int,
) -> Dataset:
    """A data set that scikit-learn ships, split by seed, stratified by class.

    `x` is float32: images [1, 8, 8] scaled to 0..1 for `digits`, else columns [num_features] that `standardise` brings
    to mean 0 and standard deviation 1 on the train split. `target` is int64 class indices, or float32 for `diabetes`,
    which `standardise_target` treats likewise (`data.target_mean` and `data.target_std` lead back to its unit).
    `classes` keeps the samples of these classes only; the first of them becomes class 0, the next class 1, and so on.

    Raises:
        Refusal: there is no data set of that name or no such class, or the split can't be made.
    """
    bunch = _load_sklearn(name)
    if classes is not None:
        _keep_classes(bunch, name, classes)
    labels = None if name == "diabetes" else np.asarray(bunch.target)
    indices = split_indices(len(bunch.target), split, seed, labels, fold=fold, num_folds=num_folds)
    if labels is None:
        target, facts = _regression(bunch.target, indices["train"], standardise_target)
    elif standardise_target:
        raise ArgumentError("standardise_target", f"the target of {name!r} is a class, not a value", found=True)
    else:
        target, facts = _classification(labels, bunch.target_names, indices["train"])
    state: dict[str, Any] = {"type": "SklearnDataset", "name": name, "mean": 0.0, "std": 1.0}
    if name == "digits":
        x = (bunch.images / 16.0)[:, None]
        state["std"] = 16.0
        facts |= {"num_features": 64, "in_channels": 1, "height": 8, "width": 8}
    else:
        x, mean, std = _standardised(bunch.data, indices["train"]) if standardise else (bunch.data, 0.0, 1.0)
        state |= {"mean": np.asarray(mean).tolist(), "std": np.where(std > 0, std, 1.0).tolist()}
        facts |= {"num_features": x.shape[1], "feature_names": [str(name) for name in bunch.feature_names]}
    whole = {"x": torch.from_numpy(x.astype(np.float32)), "target": target}
    fits = {"model": "cnn" if name == "digits" else "mlp", "task": "regression" if labels is None else "classification"}
    return Dataset({part: _taken(whole, rows) for part, rows in indices.items()}, facts, state, (), fits)


def _load_sklearn(name: str) -> Any:
    loaders = {"digits", "breast_cancer", "wine", "iris", "diabetes"}
    if name not in loaders:
        raise ArgumentError(
            "name", "scikit-learn has no such data set", found=name, expected=" | ".join(sorted(loaders))
        )
    if name == "digits" and "sklearn" not in sys.modules and (file := _digits_file()) is not None:
        return _digits(file)
    load = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")
    # Unscaled: scikit-learn's own scaling of diabetes uses the rows that are test here.
    return load(scaled=False) if name == "diabetes" else load()


def _digits_file() -> Path | None:
    """The file of digits within scikit-learn, which takes as long to import as half of PyTorch; None if it moved."""
    found = importlib.util.find_spec("sklearn")
    folders = [] if found is None else found.submodule_search_locations or []
    files = (Path(folder) / "datasets" / "data" / "digits.csv.gz" for folder in folders)
    return next((file for file in files if file.is_file()), None)


def _digits(file: Path) -> dict[str, Any]:
    """What `sklearn.datasets.load_digits` makes of its file: rows of 64 pixels and a class."""
    with gzip.open(file, "rt") as lines:
        rows = np.loadtxt(lines, delimiter=",")
    return _Bunch(images=rows[:, :-1].reshape(-1, 8, 8), target=rows[:, -1].astype(int), target_names=np.arange(10))


class _Bunch(dict[str, Any]):
    """A mapping with its keys as attributes, as scikit-learn's."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


def _keep_classes(bunch: Any, name: str, classes: Sequence[int]) -> None:
    """Leave only the samples of `classes` in a bunch, renumbered in that order.

    Raises:
        ArgumentError: these aren't at least two different classes of the data set.
    """
    if name == "diabetes":
        raise ArgumentError("classes", "the target of 'diabetes' is a value, not a class", found=list(classes))
    known = range(len(bunch.target_names))
    if len(classes) < 2 or len(set(classes)) < len(classes) or any(label not in known for label in classes):
        expected = f"two or more different numbers from 0 to {known[-1]}"
        raise ArgumentError("classes", "these classes can't be kept", found=list(classes), expected=expected)
    rows = np.isin(bunch.target, classes)
    number = np.zeros(len(known), dtype=np.int64)
    number[list(classes)] = np.arange(len(classes))
    bunch.target = number[bunch.target[rows]]
    bunch.target_names = [bunch.target_names[label] for label in classes]
    for key in ("data", "images"):
        if key in bunch:
            bunch[key] = bunch[key][rows]


def _classification(classes: NDArray[Any], names: Any, train: Indices) -> tuple[Tensor, dict[str, Any]]:
    facts = class_facts([str(name) for name in names], np.bincount(classes[train], minlength=len(names)).tolist())
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


# Each of these registers a data set; what they need to read files is imported where it is used.
for _name in ("arrays", "huggingface", "images", "sequences", "synthetic", "table", "text"):
    importlib.import_module(f"builder.data.{_name}")
