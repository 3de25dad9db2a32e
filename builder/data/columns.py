"""What a column of a table becomes: a number that is standardised, or an index of a category. Fitted to train rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.data.facts import ArgumentError
from builder.data.table_file import polars
from builder.errors import nearest

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["number", "category", "ignore"]
Policy = Literal["mean", "median", "zero", "flag", "drop", "error"]
FEW = 20
"""Texts are categories, and whole numbers classes, if there are no more different ones than these, or (texts only)
than half of the rows."""


INDEX = re.compile(r"|Unnamed: 0|__index_level_\d+__")
"""Names under which pandas writes row numbers: a model that saw them would learn the order of the file."""


@dataclass(frozen=True, slots=True)
class Number:
    """A column of numbers: `fill` stands for missing ones, then `mean` is taken away and `std` divided by.

    With `flag` another column says which were missing.
    """

    name: str
    mean: float
    std: float
    fill: float | None
    flag: bool = False


@dataclass(frozen=True, slots=True)
class Category:
    """A column of texts: their indices from 1 on; 0 is for missing and unknown ones. `onehot` makes columns of them."""

    name: str
    categories: tuple[str, ...]
    onehot: bool = False


@dataclass(frozen=True, slots=True)
class Features:
    """The columns of a table that a model sees."""

    numbers: tuple[Number, ...]
    categories: tuple[Category, ...]

    @property
    def names(self) -> list[str]:
        """The names of the columns of `x`."""
        names = [name for number in self.numbers for name in _names(number)]
        onehot = [category for category in self.categories if category.onehot]
        return names + [f"{category.name}={text}" for category in onehot for text in category.categories]

    @property
    def indexed(self) -> list[Category]:
        """The columns that are given as indices."""
        return [category for category in self.categories if not category.onehot]

    def state(self) -> dict[str, Any]:
        """Plain values from which `features_of` makes these again."""
        numbers = [asdict(number) for number in self.numbers]
        categories = [{**asdict(item), "categories": list(item.categories)} for item in self.categories]
        return {"numbers": numbers, "categories": categories}

    def encode(self, frame: pl.DataFrame) -> dict[str, Tensor]:
        """`x` [N, num_features] float32 and `categories` [N, num_indexed] int64 of the rows of a table.

        Raises:
            ArgumentError: a column is missing, isn't of its kind, or lacks values that nothing stands for.
        """
        columns = [part for number in self.numbers for part in _encoded(number, frame)]
        indices = {category.name: _indices(category, frame) for category in self.categories}
        columns += [
            (indices[category.name] == index + 1).astype(np.float64)
            for category in self.categories
            if category.onehot
            for index in range(len(category.categories))
        ]
        indexed = [indices[category.name] for category in self.indexed]
        x = np.stack(columns, 1) if columns else np.zeros((len(frame), 0))
        categories = np.stack(indexed, 1) if indexed else np.zeros((len(frame), 0), dtype=np.int64)
        return {"x": torch.from_numpy(x.astype(np.float32)), "categories": torch.from_numpy(categories)}


def features_of(state: Mapping[str, Any]) -> Features:
    """The features whose `state` this is."""
    numbers = tuple(Number(**item) for item in state["numbers"])
    categories = tuple(
        Category(item["name"], tuple(item["categories"]), item["onehot"]) for item in state["categories"]
    )
    return Features(numbers, categories)


def fit_features(
    frame: pl.DataFrame, kinds: Mapping[str, Kind], train: NDArray[np.int64], policy: Policy, standardise: bool,
    onehot: bool,
) -> Features:  # fmt: skip
    """The features of a table whose statistics and categories are those of its rows `train`."""
    rows = frame[train]
    numbers = [_fit_number(rows, name, policy, standardise) for name, kind in kinds.items() if kind == "number"]
    categories = [_fit_category(rows, name, onehot) for name, kind in kinds.items() if kind == "category"]
    return Features(tuple(numbers), tuple(categories))


def infer_kind(column: pl.Series) -> tuple[Kind, str]:
    """What a column is taken for, and why."""
    pl = polars()
    known = column.drop_nulls()
    if not len(known):
        return "ignore", "empty"
    if INDEX.fullmatch(column.name):
        return "ignore", "an index, as pandas writes it"
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return "number", ""
    if column.dtype in (pl.Date, pl.Datetime):
        return "number", "days since 1970"
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return "ignore", f"of type {column.dtype}"
    different = known.n_unique()
    if different > max(FEW, len(known) // 2):
        return "ignore", almost_numbers(known) or f"{different:,} different texts in {len(column):,} rows"
    return "category", ""


def almost_numbers(texts: pl.Series) -> str | None:
    """What keeps a column of texts from being one of numbers, where most of them are numbers; else None."""
    pl = polars()
    texts = texts.cast(pl.String).str.strip_chars()
    if 2 * int(texts.str.contains(r"^[+-]?\d+,\d+$").sum()) > len(texts):
        return f"numbers with a decimal comma, as {texts[0]}: only those with a point are read"
    others = texts.filter(texts.cast(pl.Float64, strict=False).is_null())
    if 2 * len(others) < len(texts):
        return f"numbers but for {listed(others.unique(maintain_order=True).to_list(), 3)}: see data.missing_values"
    return None


def first_row(rows: NDArray[np.bool_]) -> str:
    """The first of some rows in words."""
    return f"row {int(np.flatnonzero(rows)[0]) + 1}"


def numbers_of(column: pl.Series, where: Callable[[NDArray[np.bool_]], str] = first_row) -> NDArray[np.float64]:
    """A column's values as float64, NaN where they are missing; dates as days since 1970-01-01.

    Raises:
        ArgumentError: it holds something else, or an infinity; `where` says in which rows.
    """
    pl = polars()
    if column.dtype in (pl.Date, pl.Datetime):
        column = column.cast(pl.Datetime("ms")).dt.timestamp("ms") / 86_400_000
    try:
        values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    except pl.exceptions.PolarsError:
        texts = column.cast(pl.String)
        wrong = texts.is_not_null() & texts.cast(pl.Float64, strict=False).is_null()
        message = f"the column {column.name!r} holds no number in {where(wrong.to_numpy())}"
        raise ArgumentError(("columns", column.name), message, found=texts.filter(wrong)[0]) from None
    if np.isinf(values).any():
        message = f"the column {column.name!r} isn't finite in {where(np.isinf(values))}"
        raise ArgumentError(("columns", column.name), message, found=float(values[np.isinf(values)][0]))
    return values


def missing_of(frame: pl.DataFrame, kinds: Mapping[str, Kind]) -> dict[str, NDArray[np.bool_]]:
    """Which rows lack a value, for each column that a model sees and that lacks some."""
    pl = polars()
    found = {}
    for name, kind in kinds.items():
        column = frame[name]
        if kind != "ignore":
            absent = column.is_null()
            if column.dtype in (pl.Float32, pl.Float64):
                absent = absent | column.is_nan().fill_null(True)
            if absent.any():
                found[name] = absent.to_numpy()
    return found


def _names(number: Number) -> list[str]:
    return [number.name, f"{number.name} missing"] if number.flag else [number.name]


def _encoded(number: Number, frame: pl.DataFrame) -> list[NDArray[np.float64]]:
    values = numbers_of(_column(frame, number.name))
    missing = np.isnan(values)
    if missing.any():
        if number.fill is None:
            row = int(np.flatnonzero(missing)[0])
            message = f"the column {number.name!r} lacks a value in row {row + 1}, and nothing stands for it"
            raise ArgumentError("missing", message, expected="mean | median | zero | flag")
        values = np.where(missing, number.fill, values)
    scaled = (values - number.mean) / number.std
    return [scaled, missing.astype(np.float64)] if number.flag else [scaled]


def _indices(category: Category, frame: pl.DataFrame) -> NDArray[np.int64]:
    pl = polars()
    texts = _column(frame, category.name).cast(pl.String)
    known = {text: index + 1 for index, text in enumerate(category.categories)}
    if not known:
        return np.zeros(len(frame), dtype=np.int64)
    return texts.replace_strict(known, default=0, return_dtype=pl.Int64).to_numpy().astype(np.int64)


def _column(frame: pl.DataFrame, name: str) -> pl.Series:
    if name not in frame.columns:
        near = nearest(name, frame.columns)
        raise ArgumentError("path", f"there is no column {name!r}", expected=", ".join(frame.columns), nearest=near)
    return frame[name]


def _fit_number(rows: pl.DataFrame, name: str, policy: Policy, standardise: bool) -> Number:
    values = numbers_of(rows[name])
    known = values[~np.isnan(values)]
    fill = _fill(known, policy)
    filled = values if fill is None else np.where(np.isnan(values), fill, values)
    flag = policy == "flag" and len(known) < len(values)
    if not standardise:
        return Number(name, 0.0, 1.0, fill, flag)
    mean, std = float(filled.mean()), float(filled.std())
    return Number(name, mean, std if std > 0 else 1.0, fill, flag)


def _fill(known: NDArray[np.float64], policy: Policy) -> float | None:
    if policy in ("drop", "error"):
        return None
    if policy == "zero" or not len(known):
        return 0.0
    return float(np.median(known) if policy == "median" else known.mean())


def _fit_category(rows: pl.DataFrame, name: str, onehot: bool) -> Category:
    texts = rows[name].cast(polars().String).drop_nulls().unique().to_list()
    return Category(name, tuple(sorted(texts)), onehot)


def listed(names: Sequence[str], limit: int = 8) -> str:
    """Names in a line, the first few if there are many."""
    shown = ", ".join(map(str, names[:limit]))
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
