"""A sweep in words: its trials, the best of them, how many of each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builder.sweep.book import COMPLETE, FAILED, PRUNED, RUNNING, WAITING, Row
from builder.sweep.objectives import Objective

ORDER = (COMPLETE, PRUNED, FAILED, RUNNING, WAITING)


def point_text(point: Mapping[str, str]) -> str:
    """The overrides of a trial, ready to paste."""
    return " ".join(f"{_quoted(f'{name}={text}')}" for name, text in point.items())


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)


def values_text(values: Sequence[float], objectives: Sequence[Objective], spread: Sequence[float] | None = None) -> str:
    """The values of a trial by name, with their standard deviations where it has several trainings."""
    deviations = [f" ± {one:.2g}" for one in spread] if spread else [""] * len(values)
    named = zip(objectives, values, deviations, strict=True)
    return ", ".join(f"{one.name} {value:.6g}{deviation}" for one, value, deviation in named)


def counted(counts: Mapping[str, int]) -> str:
    """How many trials there are of each kind."""
    total = sum(counts.values())
    parts = [f"{counts[state]} {state}" for state in ORDER if counts.get(state)]
    return f"{total} trial{'' if total == 1 else 's'}: {', '.join(parts)}" if parts else "no trials"


def best_lines(best: Sequence[Row], objectives: Sequence[Objective]) -> list[str]:
    """The best trials, one a line, with the overrides to paste; of several objectives those that none beats."""
    return [
        f"{'best' if index == 0 and len(objectives) == 1 else '    '}  trial {row.number}: "
        f"{values_text(row.values or (), objectives, row.spread)}  {point_text(row.point)}"
        for index, row in enumerate(best)
    ]
