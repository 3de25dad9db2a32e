"""Rows as they come, in the form in which a model was trained on a table; and why those that are bad are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

from builder.data.columns import Category, Number, features_of
from builder.data.facts import ArgumentError, refuse
from builder.data.table_file import DATES, TRUTH
from builder.errors import nearest, printable

DAY = 86_400_000
"""Milliseconds."""
UNSEEN = 1000
"""Texts of a column that are remembered for not being known."""
FORMS = tuple(form for _, form in DATES)


class BadValue(ValueError):
    """A value of a row can't be used; says why, in a clause."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tensors of the rows that are good, which these are, and why the others aren't."""

    tensors: dict[str, Tensor]
    good: list[int]
    bad: dict[int, str]


class RowEncoder:
    """Encodes rows, mappings of columns to texts or values, by the state that a table left with its run.

    The result is that of `apply_table` for a file with these rows.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        features = features_of(state)
        self.numbers, self.missing = features.numbers, frozenset(state.get("missing_values", ()))
        self.indexed = features.indexed
        self.onehot = [category for category in features.categories if category.onehot]
        self._finders = {category.name: _Finder(category) for category in features.categories}
        self.columns = [number.name for number in self.numbers] + [each.name for each in features.categories]

    def check(self, names: Sequence[str]) -> None:
        """Refuse a table that lacks columns.

        Raises:
            Refusal: it does; all of them, each with the names that are near.
        """
        others = [name for name in names if name not in self.columns]
        refuse([
            ArgumentError("path", f"there is no column {name!r}", expected=", ".join(self.columns),
                          nearest=nearest(name, others))
            for name in self.columns if name not in names
        ])  # fmt: skip

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> Encoded:
        """`x` [N, num_features] float32 and `categories` [N, num_indexed] int64 of the N good ones of these rows."""
        x, categories, good, bad = [], [], [], {}
        for index, row in enumerate(rows):
            try:
                features, indices = self._row(row)
            except BadValue as error:
                bad[index] = str(error)
                continue
            x.append(features)
            categories.append(indices)
            good.append(index)
        width = sum(1 + number.flag for number in self.numbers) + sum(len(each.categories) for each in self.onehot)
        array = np.array(x, dtype=np.float64).reshape(len(good), width)
        indices_of = np.array(categories, dtype=np.int64).reshape(len(good), len(self.indexed))
        tensors = {"x": torch.from_numpy(array.astype(np.float32)), "categories": torch.from_numpy(indices_of)}
        return Encoded(tensors, good, bad)

    def unseen(self) -> dict[str, list[str]]:
        """The texts so far that the train split didn't have, by their columns; at most `UNSEEN` of each."""
        return {name: list(finder.unseen) for name, finder in self._finders.items() if finder.unseen}

    def _row(self, row: Mapping[str, Any]) -> tuple[list[float], list[int]]:
        features = [value for number in self.numbers for value in self._number(number, row)]
        found = {name: finder(self._value(row, name)) for name, finder in self._finders.items()}
        for category in self.onehot:
            features += [float(found[category.name] == place) for place in range(1, len(category.categories) + 1)]
        return features, [found[category.name] for category in self.indexed]

    def _value(self, row: Mapping[str, Any], name: str) -> Any:
        """The value of a column; None if it is missing."""
        if name not in row:
            near = nearest(name, row)
            raise BadValue(f"it has no {name!r}" + (f"; did you mean {' or '.join(map(repr, near))}?" if near else ""))
        value = row[name]
        return None if isinstance(value, str) and value in self.missing else value

    def _number(self, number: Number, row: Mapping[str, Any]) -> Iterable[float]:
        value = number_of(self._value(row, number.name), number.name)
        absent = math.isnan(value)
        if absent and number.fill is None:
            raise BadValue(f"the column {number.name!r} lacks a value, and nothing stands for it")
        scaled = ((number.fill if absent else value) - number.mean) / number.std  # type: ignore[operator]
        return (scaled, float(absent)) if number.flag else (scaled,)


def number_of(value: Any, column: str) -> float:
    """A value as a number: NaN if it is missing, dates as days since 1970-01-01, true and false as 1 and 0.

    Raises:
        BadValue: it is nothing of the kind, or infinite.
    """
    found = _number(value)
    if found is None:
        text = printable(repr(value))
        shown = text if len(text) < 60 else text[:59] + "…"
        raise BadValue(f"the column {column!r} holds {shown}, which is no number")
    if math.isinf(found):
        raise BadValue(f"the column {column!r} isn't finite")
    return found


def _number(value: Any) -> float | None:
    if value is None:
        return math.nan
    if isinstance(value, bool | int | float):
        return _float(value)
    if isinstance(value, date):
        return _days(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    found = None if "_" in text else _float(text)
    if found is None and text.lower() in TRUTH:
        return float(text.lower() == "true")
    return _days_of_text(text) if found is None else found


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _days_of_text(text: str) -> float | None:
    for form in FORMS:
        try:
            return _days(datetime.strptime(text, form))
        except ValueError:
            continue
    return None


def _days(value: date) -> float:
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    moment = moment.replace(tzinfo=moment.tzinfo or UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * DAY + since.seconds * 1000 + since.microseconds // 1000) / DAY


class _Finder:
    """Finds the index of a category: that of its text as the column was typed when the model was trained."""

    def __init__(self, category: Category) -> None:
        self.index = {text: place for place, text in enumerate(category.categories, 1)}
        self.unseen: dict[str, None] = {}
        self._spell = next((spell for spell in (_as_int, _as_float, _as_truth) if all(map(spell, self.index))), None)

    def __call__(self, value: Any) -> int:
        if value is None:
            return 0
        text = str(value).lower() if isinstance(value, bool) else str(value)
        found = self.index.get(text)
        if found is None and self._spell is not None:
            found = self.index.get(self._spell(text) or "")
        if found is None and len(self.unseen) < UNSEEN:
            self.unseen[text] = None
        return found or 0


def _as_int(text: str) -> str | None:
    found = text.strip()
    return str(int(found)) if found.lstrip("+-").isdecimal() and found.isascii() else None


def _as_float(text: str) -> str | None:
    found = _float(text.strip())
    return None if found is None or not math.isfinite(found) else str(found)


def _as_truth(text: str) -> str | None:
    return text.strip().lower() if text.strip().lower() in TRUTH else None
