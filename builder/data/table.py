"""A table of one's own: CSV or Parquet, columns of numbers and of categories, one of them the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.data.columns import (
    FEW,
    Features,
    Kind,
    Policy,
    almost_numbers,
    features_of,
    fit_features,
    infer_kind,
    listed,
    missing_of,
    numbers_of,
)  # fmt: skip
from builder.data.facts import SPLITS, ArgumentError, Dataset, Refusal, check_texts, class_facts, nearest_split, refuse
from builder.data.splits import FRACTIONS, Indices, split_by, split_indices
from builder.data.table_file import MISSING, line_of, polars, read_table, read_tables
from builder.errors import nearest
from builder.registry import datasets

if TYPE_CHECKING:
    import polars as pl


@datasets.register("Table")
def table(
    path: str | Mapping[str, str],
    target: str,
    target_type: Literal["class", "number"] | None = None,
    columns: Mapping[str, Kind] | None = None,
    missing: Policy = "mean",
    encode: Literal["index", "onehot"] = "index",
    standardise: bool = True,
    standardise_target: bool = True,
    split: Mapping[str, float] | str | None = None,
    groups: str | None = None,
    fold: int | None = None,
    num_folds: int | None = None,
    separator: str | None = None,
    missing_values: Sequence[str] = MISSING,
    *,
    seed: int,
) -> Dataset:
    """A CSV or Parquet file (or one for each split), split by seed, stratified by class.

    `x` [num_features] float32 are the columns of numbers, `categories` [number of such columns] int64 the indices of
    texts in those of the train split (0: missing or not among them), `target` an int64 class or a float32 number. What
    a column is follows from its values; `columns` says otherwise: `number`, `category` or `ignore`. All statistics are
    those of the train split.

    `missing` says what stands for a missing number: the column's `mean` or `median`, `zero`, or `flag` (the mean, and
    another column that says so); or the row is left out (`drop`), or refused (`error`). `encode: onehot` puts
    categories into `x`, a column each. `split` is fractions, or the name of a column that says train, val or test;
    rows that are equal in the column `groups` stay together.

    Raises:
        Refusal: a file, column or value is wrong; all that was found.
        MissingExtra: polars isn't installed.
    """
    check_texts("path", path)
    check_texts("columns", columns or None)
    separator = "\t" if separator == "\\t" else separator  # as an override can't hold a tab
    if separator is not None and len(separator.encode()) != 1:
        raise ArgumentError("separator", "no separator", found=separator, expected="one character")
    frame, by_file = read_tables(path, separator, missing_values)
    where = _Where(path, len(frame))
    kinds, reasons = _kinds(frame, target, columns or {}, split, groups)
    _check_files_and_split(path, split, fold)
    frame, by_file, dropped = _checked_missing(frame, kinds, missing, target, by_file, where)
    labels, names = _target(frame, target, target_type)
    indices = _indices(frame, labels if names else None, split, by_file, groups, fold, num_folds, seed)
    features = fit_features(frame, kinds, indices["train"], missing, standardise, encode == "onehot")
    tensors = features.encode(frame)
    tensors["target"], facts = _encode_target(labels, names, indices["train"], standardise_target)
    facts |= {"num_features": tensors["x"].shape[1], **_feature_facts(features, names)}
    state = {"type": "Table", "separator": separator, "missing_values": list(missing_values), **features.state(),
             "target": {"name": target, "classes": names, **_scale(facts, standardise_target)}}  # fmt: skip
    seen = set(labels[indices["train"]].tolist())
    absent = [name for index, name in enumerate(names or ()) if index not in seen]
    notes = _notes(frame, target, names, features, reasons, dropped, missing, absent)
    fits = {"model": "table" if features.indexed else "mlp", "task": facts["task"]}
    splits = {name: {key: tensor[torch.from_numpy(rows)] for key, tensor in tensors.items()}
              for name, rows in indices.items()}  # fmt: skip
    return Dataset(splits, facts, state, notes, fits)


def _feature_facts(features: Features, classes: list[str] | None) -> dict[str, Any]:
    return {
        "feature_names": features.names,
        "category_names": [category.name for category in features.indexed],
        "category_sizes": [len(category.categories) + 1 for category in features.indexed],
        "task": "classification" if classes else "regression",
    }


def apply_table(state: Mapping[str, Any], path: str) -> dict[str, Tensor]:
    """The rows of another file in the form in which a table was trained on, and their target if they have one.

    Raises:
        ArgumentError: the file lacks a column, or a value of it isn't of its column's kind.
    """
    frame = read_table(path, state["separator"], state["missing_values"])
    tensors = features_of(state).encode(frame)
    target = state["target"]
    if target["name"] in frame.columns:
        tensors["target"] = _apply_target(frame[target["name"]], target)
    return tensors


def _apply_target(column: pl.Series, target: Mapping[str, Any]) -> Tensor:
    if target["classes"] is None:
        return torch.from_numpy(((numbers_of(column) - target["mean"]) / target["std"]).astype(np.float32))
    known = {name: index for index, name in enumerate(target["classes"])}
    texts = _class_texts(column)
    unknown = [text for text in texts if text not in known]
    if unknown:
        expected, near = listed(target["classes"]), nearest(unknown[0], known)
        message = f"the column {column.name!r} holds a class that the model wasn't trained on"
        raise ArgumentError("target", message, found=unknown[0], expected=expected, nearest=near)
    return torch.tensor([known[text] for text in texts])


class _Where:
    """Says where a row stands in its file."""

    def __init__(self, path: str | Mapping[str, str], num_rows: int) -> None:
        self.path, self.num_rows = path, num_rows

    def __call__(self, rows: NDArray[np.bool_]) -> str:
        found = np.flatnonzero(rows)
        first = int(found[0])
        text = line_of(self.path, first, self.num_rows) if isinstance(self.path, str) else f"row {first + 1}"
        return text if len(found) == 1 else f"{text} and {len(found) - 1} more"


def _kinds(
    frame: pl.DataFrame, target: str, given: Mapping[str, Kind], split: object, groups: str | None
) -> tuple[dict[str, Kind], dict[str, str]]:
    """What each column is that isn't there for something else, and why where that isn't plain."""
    beside = {name: argument for argument, name in (("split", split), ("groups", groups), ("target", target))
              if isinstance(name, str)}  # fmt: skip
    errors = [_no_column(frame, argument, name) for name, argument in beside.items() if name not in frame.columns]
    errors += [_no_column(frame, ("columns", name), name) for name in given if name not in frame.columns]
    for name, kind in given.items():
        if kind not in ("number", "category", "ignore"):
            expected, near = "number | category | ignore", nearest(kind, ("number", "category", "ignore"))
            errors.append(
                ArgumentError(("columns", name), "no kind of column", found=kind, expected=expected, nearest=near)
            )
        elif name in beside:
            errors.append(ArgumentError(("columns", name), f"this column is the {beside[name]}, not a feature"))
    refuse(errors)
    kinds, reasons = {}, {}
    for name in frame.columns:
        if name not in beside:
            kinds[name], reasons[name] = (given[name], "") if name in given else infer_kind(frame[name])
    if all(kind == "ignore" for kind in kinds.values()):
        shown = "; ".join(f"{name}: {reason or 'as said'}" for name, reason in reasons.items()) or "there are none"
        raise ArgumentError("columns", f"no column is left for the model to see ({shown})")
    return kinds, reasons


def _no_column(frame: pl.DataFrame, argument: str | tuple[str, ...], name: str) -> ArgumentError:
    names = [name if name == name.strip() else repr(name) for name in frame.columns]
    spaced = [other for other in frame.columns if other.strip() == name]
    expected, near = listed(names, 20), spaced or nearest(name, frame.columns)
    return ArgumentError(argument, f"the table has no column {name!r}", expected=expected, nearest=near)


def _check_files_and_split(path: str | Mapping[str, str], split: object, fold: int | None) -> None:
    if isinstance(path, str):
        return
    errors = []
    for name in path:
        if name not in SPLITS:
            errors.append(ArgumentError(("path", name), "no split", found=name, expected="train | val | test",
                                        nearest=nearest_split(name)))  # fmt: skip
    if "train" not in path:
        errors.append(ArgumentError("path", "there is no file for train", found=dict(path)))
    for argument, value in (("split", split), ("fold", fold)):
        if value is not None:
            message = "the files say already which rows are train, val and test"
            errors.append(ArgumentError(argument, message, found=value, expected="null"))
    refuse(errors)


def _checked_missing(
    frame: pl.DataFrame, kinds: Mapping[str, Kind], policy: Policy, target: str, by_file: list[str] | None,
    where: _Where,
) -> tuple[pl.DataFrame, list[str] | None, dict[str, int]]:  # fmt: skip
    """The table without the rows that are to be dropped, and how many values each column lacks."""
    errors = []
    no_target = missing_of(frame, {target: "number"})
    if no_target:
        message = f"the target {target!r} lacks a value in {where(no_target[target])}"
        errors.append(ArgumentError("target", message))
    absent = missing_of(frame, kinds)
    if policy == "error":
        others = "mean | median | zero | flag | drop"
        errors += [
            ArgumentError("missing", f"the column {name!r} lacks a value in {where(rows)}", expected=others)
            for name, rows in absent.items()
        ]
    for name, kind in kinds.items():
        if kind == "number":
            try:
                numbers_of(frame[name], where)
            except Refusal as error:
                errors += error.errors
    refuse(errors)
    if policy == "drop" and absent:
        kept = ~np.logical_or.reduce(list(absent.values()))
        frame = frame.filter(polars().Series(kept))
        by_file = by_file and [split for split, keep in zip(by_file, kept, strict=True) if keep]
        if not len(frame):
            raise ArgumentError("missing", "every row lacks a value, so none is left", found=policy)
    return frame, by_file, {name: int(rows.sum()) for name, rows in absent.items()}


def _target(frame: pl.DataFrame, name: str, kind: str | None) -> tuple[NDArray[Any], list[str] | None]:
    """The target's values [N], and the names of its classes; class indices if there are some.

    Raises:
        Refusal: it has no two classes, or too many.
    """
    column = frame[name]
    if (kind or _target_type(column)) == "number":
        try:
            return numbers_of(column), None
        except Refusal as error:
            raise ArgumentError("target", str(error), found=error.errors[0].found) from None
    texts = _class_texts(column)
    names = sorted(set(texts), key=_by_value)
    if len(names) < 2:
        raise ArgumentError("target", f"the target {name!r} is always the same", found=names[0])
    if len(names) > max(FEW, len(texts) // 2):
        message = (
            f"the target {name!r} has {len(names):,} different values in {len(texts):,} rows: too many for classes"
        )
        number = column.dtype != polars().String
        hint = "if it is a number: data.target_type=number" if number else almost_numbers(column)
        raise ArgumentError("target", message, hint=hint)
    index = {text: number for number, text in enumerate(names)}
    return np.array([index[text] for text in texts]), names


def _target_type(column: pl.Series) -> str:
    pl = polars()
    if not column.dtype.is_numeric():
        return "number" if column.dtype in (pl.Date, pl.Datetime) else "class"
    different = column.n_unique()
    whole = column.dtype.is_integer() or bool((column == column.round(0)).all())
    return "class" if whole and different <= min(FEW, max(2, len(column) // 2)) else "number"


def _class_texts(column: pl.Series) -> list[str]:
    pl = polars()
    if column.dtype.is_float() and bool((column == column.round(0)).all()):
        column = column.cast(pl.Int64)
    return column.cast(pl.String).to_list()


def _by_value(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def _indices(
    frame: pl.DataFrame, classes: NDArray[Any] | None, split: Mapping[str, float] | str | None,
    by_file: list[str] | None, groups: str | None, fold: int | None, num_folds: int | None, seed: int,
) -> dict[str, Indices]:  # fmt: skip
    if by_file is not None:
        return split_by(by_file, "path")
    if isinstance(split, str):
        if fold is not None or num_folds is not None:
            message = "the split is that of a column, which leaves nothing to fold"
            raise ArgumentError("fold", message, found=fold, expected="null")
        return split_by(frame[split].to_list(), split)
    of_groups = None if groups is None else frame[groups].cast(polars().String).fill_null("").to_numpy()
    return split_indices(
        len(frame), split or FRACTIONS, seed, classes, groups=of_groups, fold=fold, num_folds=num_folds
    )


def _encode_target(
    values: NDArray[Any], names: list[str] | None, train: Indices, standardise: bool
) -> tuple[Tensor, dict[str, Any]]:
    if names is not None:
        counts = np.bincount(values[train], minlength=len(names)).tolist()
        return torch.from_numpy(values.astype(np.int64)), class_facts(names, counts)
    mean, std = float(values[train].mean()), float(values[train].std())
    facts = {"num_outputs": 1, "target_mean": mean, "target_std": std if std > 0 else 1.0}
    scaled = (values - mean) / facts["target_std"] if standardise else values
    return torch.from_numpy(scaled.astype(np.float32)), facts


def _scale(facts: Mapping[str, Any], standardise: bool) -> dict[str, float]:
    """What is taken from a target that is a number, and what it is divided by."""
    known = facts if standardise else {}
    return {"mean": known.get("target_mean", 0.0), "std": known.get("target_std", 1.0)}


def _notes(
    frame: pl.DataFrame, target: str, names: list[str] | None, features: Features, reasons: Mapping[str, str],
    missing: Mapping[str, int], policy: Policy, absent: Sequence[str],
) -> list[str]:  # fmt: skip
    """What was decided about the columns, a line each."""
    what = "a number" if names is None else f"one of {len(names)} classes: {listed(names)}"
    notes = [f"target {target}: {what}"]
    seen = {item.name for item in features.numbers} | {item.name for item in features.categories}
    days = [name for name in reasons if reasons[name].startswith("days") and name in seen]
    numbers = [f"{item.name} (days)" if item.name in days else item.name for item in features.numbers]
    if numbers:
        notes.append(f"numbers: {listed(numbers)}")
    if features.categories:
        shown = [f"{category.name} ({len(category.categories)})" for category in features.categories]
        notes.append(f"categories: {listed(shown)}")
    left = [f"{name or repr(name)} ({reason or 'as said'})" for name, reason in reasons.items() if name not in seen]
    if left:
        notes.append(f"left out: {listed(left)}")
    if missing:
        stand_in = {"drop": "those rows are left out", "flag": "the mean and a column of flags stand for numbers"}
        said = stand_in.get(policy, f"{policy if policy == 'zero' else 'the ' + policy} stands for numbers")
        shown = [f"{name} {count}" for name, count in missing.items()]
        notes.append(f"missing: {listed(shown)}; {said}" + ("" if policy == "drop" else ", index 0 for categories"))
    if absent:
        notes.append(f"no train sample is of the class {listed(absent)}")
    return notes
