"""Shapes with names: what each size of a model is in terms of the free dimensions of its inputs.

The model is run on the meta device with several sizes of each free dimension; a size that moves with them is written as
the formula that fits all runs, `4*T` or `H/2-1`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from builder.errors import ConfigError
from builder.model.infer import Exploration, rerun
from builder.model.record import Call
from builder.model.spec import Definition

Sizes = Mapping[str, int]
"""Free dimension → its size."""

NamedShape = tuple[str, ...]
"""A size or a formula for each dimension."""

BATCH_NAME = "B"
"""The first dimension of an input that says nothing of its shape."""

STEP = 96
"""Sizes that strides of 2 and 3 divide without a rest are multiples of it."""

LARGEST = 1000
"""A multiple of both the size that was found and `STEP` is tried only up to here, as a `forward` may loop over it."""

MAX_DENOMINATOR = 8
"""Of a factor like 3/2; a larger one is no formula that one would write, unless it is 1/n."""


@dataclass(frozen=True, slots=True)
class NamedCall:
    """The shapes of the tensors that went into a module and came out at its first call."""

    inputs: tuple[NamedShape, ...]
    outputs: tuple[NamedShape, ...]


def free_dimensions(definition: Definition, found: Exploration) -> dict[str, int]:
    """The named dimensions of the inputs, with the sizes that they had when the model was explored."""
    sizes: dict[str, int] = {}
    for dims, example in _named_inputs(definition, found).values():
        for dim, size in zip(dims, example.shape, strict=True):
            if isinstance(dim, str):
                sizes.setdefault(dim, size)
    return sizes


def batch_dimensions(definition: Definition, found: Exploration) -> tuple[str, ...]:
    """The names of the first dimensions of the inputs, where these are free."""
    first = [dims[0] for dims, _ in _named_inputs(definition, found).values() if dims and isinstance(dims[0], str)]
    return tuple(dict.fromkeys(first))


def inputs_of(definition: Definition, found: Exploration, sizes: Sizes) -> dict[str, Any]:
    """The inputs that the model was explored with, their free dimensions of these sizes."""
    inputs = dict(found.inputs)
    for name, (dims, example) in _named_inputs(definition, found).items():
        shape = [sizes.get(str(dim), size) for dim, size in zip(dims, example.shape, strict=True)]
        inputs[name] = torch.empty(shape, dtype=example.dtype, device="meta")
    return inputs


def _named_inputs(definition: Definition, found: Exploration) -> dict[str, tuple[Sequence[Any], torch.Tensor]]:
    """The dimensions of each tensor among the inputs (only texts are names), and the tensor."""
    named: dict[str, tuple[Sequence[Any], torch.Tensor]] = {}
    for item in definition.inputs:
        example = found.inputs.get(item.name)
        if isinstance(example, torch.Tensor):
            unsaid = (BATCH_NAME, *[None] * (example.ndim - 1))[: example.ndim]
            named[item.name] = (unsaid if item.shape is None else item.shape, example)
    return named


def named_calls(definition: Definition, found: Exploration) -> dict[str, NamedCall]:
    """Module path → the shapes of its first call, by names."""
    if not found.ran:
        return {}
    actual = free_dimensions(definition, found)

    def run(sizes: Sizes) -> Mapping[str, Call] | None:
        try:
            return {call.path: call for call in rerun(found, inputs_of(definition, found, sizes))}
        except ConfigError:
            return None

    return name_calls(actual, {call.path: call for call in found.calls}, run)


def name_calls(actual: Sizes, calls: Mapping[str, Call], run: Run) -> dict[str, NamedCall]:
    """Calls at the sizes `actual` by names; `run` gives them at other sizes, under the same keys."""
    names, points, runs = _experiment(actual, calls, run)
    speller = _Speller(names, points)
    return {path: _name(call, [calls.get(path) for calls in runs], speller) for path, call in calls.items()}


Run = Callable[[Sizes], Mapping[str, Call] | None]
"""Runs the model with these sizes: the calls by module path, None if it doesn't run."""


def _experiment(
    actual: Sizes, calls: Mapping[str, Call], run: Run
) -> tuple[tuple[str, ...], list[Sizes], list[Mapping[str, Call]]]:
    """Runs at a base, then with each free dimension moved alone, then with all moved; and `calls`, at the actual sizes.

    Returns:
        The dimensions that can be moved, the sizes of the runs, and the calls of each.
    """
    base, first = _base(actual, calls, run)
    moved: dict[str, int] = {}
    points, runs = [base], [first]
    for name, size in base.items():
        for other in (2 * size, size // 2, size + 1):
            found = run({**base, name: other}) if other else None
            if found is not None:
                moved[name] = other
                points.append({**base, name: other})
                runs.append(found)
                break
    together = runs[-1] if len(moved) == 1 else run({**base, **moved})
    if together is None:
        return (), [actual], [calls]
    return tuple(moved), [*points, {**base, **moved}, actual], [*runs, together, calls]


def _base(actual: Sizes, calls: Mapping[str, Call], run: Run) -> tuple[Sizes, Mapping[str, Call]]:
    """Sizes that are all different and that strides divide without a rest, as far as the model runs with them."""
    even = {name: _even(size) * (index + 1) for index, (name, size) in enumerate(actual.items())}
    for fixed in (None, *actual):  # often one dimension, the channels, can't be moved
        sizes = even if fixed is None else {**even, fixed: actual[fixed]}
        found = run(sizes)
        if found is not None:
            return sizes, found
    base = dict(actual)
    for name, size in even.items():
        found = run({**base, name: size})
        if found is not None:
            base[name], calls = size, found
    return base, calls


def _even(size: int) -> int:
    common = math.lcm(size, STEP) if size else STEP
    return common if common <= LARGEST else STEP * math.ceil(size / STEP)


def _name(call: Call, others: Sequence[Call | None], speller: _Speller) -> NamedCall:
    """A call with names, if all runs made it with tensors of as many dimensions; with sizes if not."""
    inputs = [other.inputs for other in others if other is not None]
    outputs = [other.outputs for other in others if other is not None]
    complete = len(inputs) == len(others)
    return NamedCall(
        tuple(_shapes(call.inputs, inputs if complete else [], speller)),
        tuple(_shapes(call.outputs, outputs if complete else [], speller)),
    )


def _shapes(
    shapes: Sequence[tuple[int, ...]], others: Sequence[Sequence[tuple[int, ...]]], speller: _Speller
) -> Iterator[NamedShape]:
    alike = others and all([len(shape) for shape in other] == [len(shape) for shape in shapes] for other in others)
    for index, shape in enumerate(shapes):
        if alike:
            seen = zip(*[other[index] for other in others], strict=True)
            yield tuple(speller.spell(values, size) for values, size in zip(seen, shape, strict=True))
        else:
            yield tuple(map(str, shape))


class _Speller:
    """Writes a size as a formula of the free dimensions, from its values in the runs of `_experiment`."""

    def __init__(self, names: Sequence[str], points: Sequence[Sizes]) -> None:
        self.names, self.points = names, points
        self._known: dict[tuple[int, ...], str | None] = {}

    def spell(self, values: tuple[int, ...], size: int) -> str:
        """The formula that gives these values; the size itself if there is none."""
        if not self.names:
            return str(size)
        if values not in self._known:
            self._known[values] = next((formula.text for formula in self._candidates(values) if formula.fits), None)
        return self._known[values] or str(size)

    def _candidates(self, values: Sequence[int]) -> Iterator[_Candidate]:
        base, *alone = values[: len(self.names) + 1]
        at = self.points[0]
        slopes = {
            name: Fraction(value - base, point[name] - at[name])
            for name, value, point in zip(self.names, alone, self.points[1:], strict=False)
            if value != base
        }
        if not slopes:
            return
        rests = {name: base - slope * at[name] for name, slope in slopes.items()}
        check = list(zip(self.points[-2:], values[-2:], strict=True))
        # k·H·W + c: each slope is k times the other dimensions.
        volume = math.prod(at[name] for name in slopes)
        rest = next(iter(rests.values()))
        yield _Candidate((((base - rest) / volume, tuple(slopes)),), rest, (), check)
        # (a·H + c)·B: one dimension with a rest, the others proportional.
        shifted = [name for name, rest in rests.items() if rest]
        if len(shifted) == 1 and len(slopes) > 1:
            others = tuple(name for name in slopes if name not in shifted)
            scale = math.prod(at[name] for name in others)
            (name,) = shifted
            yield _Candidate(((slopes[name] / scale, (name,)),), rests[name] / scale, others, check)
        # a·H + b·W + c
        rest = base - sum((slope * at[name] for name, slope in slopes.items()), Fraction(0))
        yield _Candidate(tuple((slope, (name,)) for name, slope in slopes.items()), rest, (), check)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """(Σ factor·dimensions + rest)·others, and the points and sizes that it should give."""

    terms: tuple[tuple[Fraction, tuple[str, ...]], ...]
    rest: Fraction | int
    others: tuple[str, ...]
    check: Sequence[tuple[Sizes, int]]

    @property
    def fits(self) -> bool:
        """Whether it gives the size with all dimensions moved, and the actual one but for rounding; and is simple."""
        (moved, exact), (actual, rounded) = self.check
        plain = all(
            factor.denominator == 1 or factor.numerator == 1 or factor.denominator <= MAX_DENOMINATOR
            for factor, _ in self.terms
        )
        whole = Fraction(self.rest).denominator == 1
        return plain and whole and self._at(moved) == exact and abs(self._at(actual) - rounded) < 1

    def _at(self, sizes: Sizes) -> Fraction:
        total = sum(
            (factor * math.prod(sizes[name] for name in names) for factor, names in self.terms), Fraction(self.rest)
        )
        return total * math.prod(sizes[name] for name in self.others)

    @property
    def text(self) -> str:
        """As one would write it."""
        text = "+".join(_term(factor, names) for factor, names in self.terms).replace("+-", "-")
        if self.rest:
            text += f"{int(self.rest):+d}"
        return "*".join([*self.others, f"({text})"]) if self.others else text


def _term(factor: Fraction, names: tuple[str, ...]) -> str:
    product = "*".join(names)
    head = "" if factor.numerator == 1 else "-" if factor.numerator == -1 else f"{factor.numerator}*"
    return f"{head}{product}" + (f"/{factor.denominator}" if factor.denominator != 1 else "")
