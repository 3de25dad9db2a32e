"""The search space: keys of overrides with what each may be, in Hydra's grammar, some only under a condition."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep
from hydra.errors import HydraException

from builder.config.folders import choices, groups
from builder.config.hydra_rules import hydra_rules
from builder.errors import ConfigError, Fault, Origin, nearest
from builder.hashing import derive
from builder.sweep.values import Label, label, written

FORMS = "choice(a, b), a comma list, range(1, 10), interval(0.1, 1.0), tag(log, interval(…)) or, of a group, glob(*)"
MOST_VALUES = 10_000
"""The most values that an axis may list."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Values in the order in which a grid takes them: what the study calls each, and its text in an override."""

    labels: tuple[Label, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers from `low` to `high`; in steps where `step` says so, evenly on a log scale with `log`."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def grid(self) -> list[float] | None:
        """All of them in order; None if they are too many to list."""
        if self.step is None:
            return None
        count = int(round((self.high - self.low) / self.step)) + 1
        numbers = [self.low + index * self.step for index in range(count)]
        return [int(number) for number in numbers] if self.whole else [float(f"{number:.12g}") for number in numbers]


@dataclass(frozen=True, slots=True)
class Axis:
    """One key that is varied: `key` as in an override (with its `+`), `name` without it, over `values`.

    `when` says under which values (as texts) of earlier axes it exists; `text` is what the user wrote.
    """

    key: str
    values: Choices | Numbers
    text: str
    origin: Origin
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The key without `+`: what the study calls it."""
        return self.key.lstrip("+")

    def choices(self) -> Choices | None:
        """All values; None if they are infinitely many."""
        if isinstance(self.values, Choices):
            return self.values
        numbers = self.values.grid()
        return None if numbers is None else Choices(tuple(numbers), tuple(map(written, numbers)))


def is_sweep(word: str) -> bool:
    """Whether a word of the command line says several values; one that can't be read doesn't."""
    try:
        with hydra_rules():
            return bool(OverridesParser.create().parse_override(word).is_sweep_override())
    except (HydraException, ValueError, TypeError, RecursionError):
        return False


def read_axis(
    key: str, text: str, origin: Origin, folders: Sequence[Path], *, seed: int = 0, path: tuple[str, ...] = ()
) -> Axis:
    """The axis of `key=text`; one value alone is a choice of one.

    Raises:
        ConfigError: it isn't well written, or can't be varied so.
    """
    try:
        with hydra_rules():
            override = OverridesParser.create().parse_override(f"{key}={text}")
        value: Any = override.value()
        values = _values(key, value, folders, derive(seed, "shuffle", key))
    except _Refused as refused:
        fault = Fault(str(refused), path, origin, found=text, expected=refused.expected, nearest=refused.near)
        raise ConfigError(fault) from None
    except (HydraException, ValueError, TypeError, RecursionError) as error:
        said = (str(error).strip().splitlines() or [""])[0]
        fault = Fault(f"not a search space: {said}", path, origin, found=text, expected=FORMS)
        raise ConfigError(fault) from None
    return Axis(key, values, f"{key}={text}", origin)


class _Refused(Exception):
    def __init__(self, message: str, expected: str | None = None, near: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.expected, self.near = expected, near


def _values(key: str, value: Any, folders: Sequence[Path], seed: int) -> Choices | Numbers:
    tags = set(getattr(value, "tags", ()))
    if unknown := sorted(tags - {"log"}):
        raise _Refused(f"unknown tag {unknown[0]!r}", "tag(log, …)", nearest(unknown[0], ["log"]))
    if isinstance(value, IntervalSweep):
        return _interval(value, "log" in tags)
    if isinstance(value, RangeSweep):
        return _range(value, "log" in tags, seed)
    if tags:
        raise _Refused("a choice has no scale: 'log' says nothing of it", "tag(log, interval(…)) or tag(log, range(…))")
    if isinstance(value, Glob):
        return _listed(_globbed(key, value, folders))
    if isinstance(value, ChoiceSweep):
        items = list(value.list)
        if value.shuffle:
            random.Random(seed).shuffle(items)
        return _listed(items)
    return _listed([value])


def _interval(value: IntervalSweep, log: bool) -> Numbers:
    low, high = value.start, value.end
    assert low is not None and high is not None
    if not low < high:
        raise _Refused("an empty interval", "interval(LOW, HIGH) with LOW below HIGH")
    if log and low <= 0:
        raise _Refused("a log scale begins above 0", "tag(log, interval(1e-4, 1e-1))")
    whole = isinstance(low, int) and isinstance(high, int)
    return Numbers(low, high, log, None, whole)


def _range(value: RangeSweep, log: bool, seed: int) -> Choices | Numbers:
    numbers = list(itertools.islice(_steps(value), MOST_VALUES + 1))
    if not numbers:
        raise _Refused("an empty range", "range(START, STOP) with values between")
    if len(numbers) > MOST_VALUES:
        raise _Refused(f"more than {MOST_VALUES:,} values", "an interval")
    if value.shuffle:
        random.Random(seed).shuffle(numbers)
        return _listed(numbers)
    whole = all(isinstance(number, int) for number in numbers)
    if value.step < 0 or len(numbers) == 1:
        return _listed(numbers)
    if log and (not whole or value.step != 1 or numbers[0] < 1):
        raise _Refused("a log scale of steps is one of whole numbers from 1 on", "tag(log, range(1, 100))")
    return Numbers(numbers[0], numbers[-1], log, value.step, whole)


def _steps(value: RangeSweep) -> Iterator[int | float]:
    """The numbers from start up to stop, without stop; decimal ones as they are written (Hydra adds binary ones up)."""
    assert value.start is not None and value.stop is not None
    if all(isinstance(number, int) for number in (value.start, value.stop, value.step)):
        yield from range(int(value.start), int(value.stop), int(value.step))
        return
    number, stop, step = (Decimal(str(part)) for part in (value.start, value.stop, value.step))
    while (number < stop) if step > 0 else (number > stop):
        yield float(number)
        number += step


def _listed(items: Sequence[Any]) -> Choices:
    if not items:
        raise _Refused("a choice of nothing", FORMS)
    texts = tuple(map(written, items))
    if twice := [text for index, text in enumerate(texts) if text in texts[:index]]:
        raise _Refused(f"{twice[0]} stands here twice")
    labels = tuple(map(label, items))
    distinct = len({(type(one), one) for one in labels}) == len(labels) and len(set(labels)) == len(labels)
    return Choices(labels if distinct else texts, texts)


def _globbed(key: str, glob: Glob, folders: Sequence[Path]) -> list[str]:
    group = key.lstrip("+").split("@")[0]
    known = choices(folders, group)
    if not known:
        raise _Refused(f"a glob chooses among the configs of a group, and {group!r} is none", None,
                       nearest(group, groups(folders)))  # fmt: skip
    found: list[str] = glob.filter(known)
    if not found:
        raise _Refused(f"no config of the group {group!r} fits", f"one of {', '.join(known)}")
    return found


def points(axes: Sequence[Axis], taken: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """Every point of a grid, as texts by axis, in the order in which Hydra takes them: the last axis changes first.

    `taken` are the texts of axes before these.
    """
    taken = dict(taken or {})
    if not axes:
        yield taken
        return
    axis, rest = axes[0], axes[1:]
    if not exists(axis, taken):
        yield from points(rest, taken)
        return
    listed = axis.choices()
    assert listed is not None, "a grid has no intervals"
    for text in listed.texts:
        yield from points(rest, {**taken, axis.name: text})


def exists(axis: Axis, taken: Mapping[str, str]) -> bool:
    """Whether an axis exists where the earlier ones have these texts."""
    return all(taken.get(name) in texts for name, texts in axis.when.items())


def is_finite(axes: Sequence[Axis]) -> bool:
    """Whether the space is a grid."""
    return all(axis.choices() is not None for axis in axes)


def overrides_of(axes: Sequence[Axis], point: Mapping[str, str]) -> tuple[str, ...]:
    """The overrides that a point, as texts, stands for."""
    return tuple(f"{axis.key}={point[axis.name]}" for axis in axes if axis.name in point)


def corners(axes: Sequence[Axis], count: int, seed: int) -> Iterator[dict[str, str]]:
    """Points that are tried before an infinite space is: the first value of every axis, both ends of each beside it,
    and `count` at random.
    """
    generator = random.Random(derive(seed, "corners"))
    first = next(_picked(axes, lambda texts: texts[0]))
    yield first
    for axis in axes:
        for text in _ends(axis)[1:]:
            conditions = {name: texts[0] for name, texts in axis.when.items()}
            yield from _picked(axes, lambda texts: texts[0], {**conditions, axis.name: text})
    for _ in range(count):
        yield from _picked(axes, lambda texts: generator.choice(texts))


def _picked(axes: Sequence[Axis], pick: Any, fixed: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    taken: dict[str, str] = {}
    for axis in axes:
        if exists(axis, taken):
            taken[axis.name] = (fixed or {}).get(axis.name) or pick(_ends(axis))
    yield taken


def _ends(axis: Axis) -> tuple[str, ...]:
    """All choices, or the ends of an interval and its middle."""
    if isinstance(axis.values, Choices):
        return axis.values.texts
    low, high = axis.values.low, axis.values.high
    middle = (low * high) ** 0.5 if axis.values.log else (low + high) / 2
    return tuple(written(round(number) if axis.values.whole else number) for number in (low, high, middle))
