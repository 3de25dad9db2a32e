"""What formulas compute with: operators and functions over plain values, bounded in time and memory."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_BITS = 4096
"""Of an integer."""
MAX_ITEMS = 100_000
"""In a list, tuple, dict or text, counting what is inside of what is inside."""
MAX_STEPS = 100_000
"""To work a formula out; an operation on a list takes a step for each item."""


class TooMuch(Exception):
    """A bound is reached; the message says which."""


class Budget:
    """The steps left."""

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Take steps.

        Raises:
            TooMuch: fewer are left.
        """
        self.left -= steps
        if self.left < 0:
            raise TooMuch(f"the formula takes more than {MAX_STEPS} steps")

    def take(self, value: Any) -> Any:
        """A value within bounds, paid for with a step for each thing in it."""
        self.spend(size_of(value))
        return value


def size_of(value: Any) -> int:
    """How many values a value holds, itself counted; a text counts its characters.

    Raises:
        TooMuch: more than `MAX_ITEMS`, or an integer of more than `MAX_BITS`.
    """
    count, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        count += 1
        if isinstance(item, int) and item.bit_length() > MAX_BITS:
            raise TooMuch(f"an integer is larger than 2**{MAX_BITS}")
        if isinstance(item, str | list | tuple | Mapping):
            count += len(item)
        if count > MAX_ITEMS:
            raise TooMuch(f"a list or text is longer than {MAX_ITEMS} items")
        if isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
    return count


def is_number(value: Any) -> bool:
    """Whether it is an int, float or bool."""
    return isinstance(value, int | float)


def kind_of(value: Any) -> str:
    """What a value is, in plain words."""
    if is_number(value):
        return f"the number {value!r}" if size_of(value) and len(repr(value)) < 30 else "a number"
    words = {str: "a text", list: "a list", tuple: "a tuple", dict: "a mapping", type(None): "null"}
    return words.get(type(value), f"a {type(value).__name__}")


def _add(left: Any, right: Any) -> Any:
    if is_number(left) and is_number(right):
        return left + right
    if type(left) is type(right) and isinstance(left, list | tuple | str):
        _room(len(left) + len(right))
        return left + right
    return NotImplemented


def _multiply(left: Any, right: Any) -> Any:
    if isinstance(right, list | tuple | str):
        left, right = right, left
    if isinstance(left, list | tuple | str) and isinstance(right, int):
        _room(len(left) * max(right, 0))
        return left * right
    return left * right if is_number(left) and is_number(right) else NotImplemented


def _power(left: Any, right: Any) -> Any:
    if not (is_number(left) and is_number(right)):
        return NotImplemented
    if isinstance(left, int) and isinstance(right, int) and abs(left) > 1 and left.bit_length() * right > 2 * MAX_BITS:
        raise TooMuch(f"an integer is larger than 2**{MAX_BITS}")
    result = left**right
    if isinstance(result, complex):
        raise ValueError("a negative number has no such power")
    return result


def _of_numbers(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda left, right: compute(left, right) if is_number(left) and is_number(right) else NotImplemented


def _room(length: int) -> None:
    if length > MAX_ITEMS:
        raise TooMuch(f"a list or text is longer than {MAX_ITEMS} items")


OPERATORS: Mapping[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", _add),
    ast.Sub: ("-", _of_numbers(operator.sub)),
    ast.Mult: ("*", _multiply),
    ast.Div: ("/", _of_numbers(operator.truediv)),
    ast.FloorDiv: ("//", _of_numbers(operator.floordiv)),
    ast.Mod: ("%", _of_numbers(operator.mod)),
    ast.Pow: ("**", _power),
}
"""Operators by their syntax node: how they are written, and what they compute (`NotImplemented` for wrong types)."""

COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, container: item in container,
    ast.NotIn: lambda item, container: item not in container,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


def _numbers(values: Sequence[Any]) -> Sequence[Any]:
    for value in values:
        if not is_number(value):
            raise TypeError(f"{kind_of(value)} is not a number")
    return values


def _of_many(compute: Callable[[Any], Any]) -> Callable[..., Any]:
    """`min` and `max`: of several numbers, or of those in a list."""

    def call(first: Any, *others: Any) -> Any:
        if not others and not isinstance(first, list | tuple):
            raise TypeError(f"{kind_of(first)} is not a list")
        return compute(_numbers((first, *others) if others else first))

    return call


def _sum(values: Any) -> Any:
    if not isinstance(values, list | tuple):
        raise TypeError(f"{kind_of(values)} is not a list")
    return sum(_numbers(values))


def _range(*bounds: Any) -> list[int]:
    values = range(*bounds)
    if values and len(values) > MAX_ITEMS:
        raise TooMuch(f"a list or text is longer than {MAX_ITEMS} items")
    return list(values)


def _round(value: Any, digits: int | None = None) -> Any:
    if digits is not None and abs(digits) > MAX_BITS:
        raise ValueError("so many digits")
    return round(_numbers((value,))[0], digits)


def _len(value: Any) -> int:
    if not isinstance(value, str | list | tuple | Mapping):
        raise TypeError(f"{kind_of(value)} has no length")
    return len(value)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "round": _round,
    "abs": lambda value: abs(_numbers((value,))[0]),
    "min": _of_many(min),
    "max": _of_many(max),
    "sum": _sum,
    "len": _len,
    "range": _range,
    "sqrt": math.sqrt,
    "ceil": math.ceil,
    "floor": math.floor,
    "log": math.log,
    "log2": math.log2,
    "exp": math.exp,
}
"""The functions of formulas. `range` gives a list."""
