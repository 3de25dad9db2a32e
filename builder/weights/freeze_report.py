"""What is frozen, for the screen: what each rule takes, and how much trains in each phase."""

from __future__ import annotations

from collections.abc import Sequence

from builder.errors import dotted
from builder.weights.freeze_plan import FrozenPlan, PlannedRule

NUMBERS = ("tensors", "parameters", "in eval mode", "trainable", "frozen")
"""Columns that are numbers."""


def rules_table(plan: FrozenPlan) -> list[str]:
    """A line a rule: what it takes, how many tensors with how many numbers, and how many modules it holds."""
    if not plan.rules:
        return []
    head = ("rule", "select", "mode", "until", "tensors", "parameters", "in eval mode")
    return _aligned([head, *(_cells(rule, plan) for rule in plan.rules)])


def phases_table(plan: FrozenPlan, steps_per_epoch: int | None = None) -> list[str]:
    """A line a phase of training: from when, and how many parameters train and don't; none if nothing is frozen."""
    if not plan.rules:
        return []
    phases = plan.phases(steps_per_epoch)
    rows = [(str(phase), f"{phase.trainable:,}", f"{phase.frozen:,}") for phase in phases]
    return _aligned([("from", "trainable", "frozen"), *rows])


def _cells(rule: PlannedRule, plan: FrozenPlan) -> tuple[str, ...]:
    numbers = sum(plan.sizes[name] for name in rule.parameters)
    until = "for good" if rule.until is None else str(rule.until)
    return (
        dotted(rule.path), rule.select, rule.mode, until,
        str(len(rule.parameters)), f"{numbers:,}", str(len(rule.modules)),
    )  # fmt: skip


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose first row is its head; numbers to the right."""
    head = table[0]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if name in NUMBERS else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ).rstrip()
        for row in table
    ]
