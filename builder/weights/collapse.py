"""Names of repeated layers on one line: `blocks.{0..11}.attn.weight`; in archives of NumPy, with slashes."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Line(Generic[T]):
    """Names that differ in numbers only, which run without gaps, and what all of them have in common."""

    name: str
    common: T
    count: int

    def __str__(self) -> str:
        return self.name


def collapse(items: Iterable[tuple[str, T]]) -> list[Line[T]]:
    """Names as few lines, in the order of their first members; only those with the same `common` share a line."""
    lines = [(tuple(re.split(r"([./])", name)), common, 1) for name, common in items]
    deepest = max((len(segments) for segments, _, _ in lines), default=0)
    for position in range(0, deepest, 2):
        lines = _merged(lines, position)
    return [Line("".join(segments), common, count) for segments, common, count in lines]


def collapsed_names(names: Iterable[str]) -> list[str]:
    """Names alone as few lines."""
    return [line.name for line in collapse((name, None) for name in names)]


_Lines = list[tuple[tuple[str, ...], T, int]]
"""Segments of names with what stands between them, what lines have in common, and how many they are."""


def _merged(lines: _Lines[T], position: int) -> _Lines[T]:
    """The lines with runs of numbers at one position put together."""
    groups: dict[Hashable, list[tuple[int, tuple[str, ...], T, int]]] = {}
    for order, (segments, common, count) in enumerate(lines):
        is_number = position < len(segments) and segments[position].isdecimal()
        rest = (segments[:position], segments[position + 1 :]) if is_number else order
        groups.setdefault((rest, common, count), []).append((order, segments, common, count))
    placed = [line for group in groups.values() for line in _runs(group, position)]
    return [line for _, line in sorted(placed, key=lambda each: each[0])]


def _runs(
    group: list[tuple[int, tuple[str, ...], T, int]], position: int
) -> list[tuple[int, tuple[tuple[str, ...], T, int]]]:
    """The runs of consecutive numbers in lines that differ at one position only, each with its place."""
    if len(group) == 1:
        order, segments, common, count = group[0]
        return [(order, (segments, common, count))]
    found = []
    members = sorted(group, key=lambda each: int(each[1][position]))
    start = 0
    for end in range(1, len(members) + 1):
        if end < len(members) and int(members[end][1][position]) == int(members[end - 1][1][position]) + 1:
            continue
        found.append(_run(members[start:end], position))
        start = end
    return found


def _run(
    members: list[tuple[int, tuple[str, ...], T, int]], position: int
) -> tuple[int, tuple[tuple[str, ...], T, int]]:
    _, segments, common, count = members[0]
    if len(members) > 1:
        numbers = f"{{{segments[position]}..{members[-1][1][position]}}}"
        segments = (*segments[:position], numbers, *segments[position + 1 :])
    return min(order for order, *_ in members), (segments, common, count * len(members))
