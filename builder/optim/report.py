"""What is trained in which group, and how: for the screen and for the run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from builder.errors import Fault

OF_THE_GROUP = ("params", "param_names", "name", "type")
"""Keys of a group that aren't hyperparameters."""
ALWAYS = ("lr", "weight_decay")
"""Hyperparameters that are shown even where they are the same for all groups."""
SHOWN = 3
"""Modules of a group that a line names."""


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group: how many tensors with how many numbers, all its hyperparameters, and which modules it holds whole."""

    name: str
    type: str
    tensors: int
    parameters: int
    values: Mapping[str, Any]
    holds: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def implementation(self) -> str:
        """How its step is computed: fused, foreach, or as PyTorch chooses."""
        chosen = [key for key in ("fused", "foreach") if self.values.get(key)]
        return chosen[0] if chosen else "torch's choice" if self.values.get("foreach", 0) is None else "plain loop"


@dataclass(frozen=True, slots=True)
class GroupReport:
    """All groups of an optimiser, the parameters of the model that are in none, and what the section says in vain."""

    rows: tuple[GroupRow, ...]
    untrained: int
    notes: tuple[Fault, ...] = ()

    def lines(self) -> list[str]:
        """A table, a line a group: hyperparameters are those that differ, and lr and weight decay in any case."""
        keys = [key for key in self._keys() if key in ALWAYS or self._differs(key)]
        head = ["group", "tensors", "parameters", *keys, *(["optimizer"] if self._types() > 1 else []), "step", "holds"]
        table = [head, *(self._cells(row, keys) for row in self.rows)]
        widths = [max(len(line[column]) for line in table) for column in range(len(head))]
        right = [name not in ("group", "optimizer", "step", "holds") for name in head]
        lines = [
            "  ".join(cell.rjust(width) if to_right else cell.ljust(width)
                      for cell, width, to_right in zip(line, widths, right, strict=True)).rstrip()
            for line in table
        ]  # fmt: skip
        return lines + ([f"in no group, since never trained: {self.untrained:,} parameters"] if self.untrained else [])

    def to_json(self) -> dict[str, Any]:
        """The report as plain values, with all names."""
        return {
            "groups": [
                {"name": row.name, "type": row.type, "tensors": row.tensors, "parameters": row.parameters,
                 "step": row.implementation, "hyperparameters": _plain(row.values), "holds": list(row.holds),
                 "names": list(row.names)}
                for row in self.rows
            ],
            "untrained": self.untrained,
        }  # fmt: skip

    def _keys(self) -> list[str]:
        """Hyperparameters by name; how a step is computed has a column of its own."""
        keys = dict.fromkeys(key for row in self.rows for key in row.values if key not in ("fused", "foreach"))
        return [*(key for key in ALWAYS if key in keys), *(key for key in keys if key not in ALWAYS)]

    def _differs(self, key: str) -> bool:
        values = [row.values[key] for row in self.rows if key in row.values]
        return any(value != values[0] for value in values)

    def _types(self) -> int:
        return len({row.type for row in self.rows})

    def _cells(self, row: GroupRow, keys: Sequence[str]) -> list[str]:
        own = [row.type] if self._types() > 1 else []
        holds = ", ".join(row.holds[:SHOWN]) + (f", … ({len(row.holds)})" if len(row.holds) > SHOWN else "")
        values = [_shown(row.values[key]) if key in row.values else "-" for key in keys]
        return [row.name, str(row.tensors), f"{row.parameters:,}", *values, *own, row.implementation, holds]


def group_report(optimizer: Optimizer, model: nn.Module) -> GroupReport:
    """The groups of an optimiser that was built for `model`, with the hyperparameters that they have now."""
    trained = {name for group in optimizer.param_groups for name in group["param_names"]}
    rows = []
    for group in optimizer.param_groups:
        names = tuple(group["param_names"])
        values = {key: value for key, value in group.items() if key not in OF_THE_GROUP}
        holds = tuple(_cover(model, "", set(names), trained))
        total = sum(parameter.numel() for parameter in group["params"])
        rows.append(GroupRow(group["name"], group["type"], len(names), total, values, holds, names))
    untrained = sum(parameter.numel() for name, parameter in model.named_parameters() if name not in trained)
    return GroupReport(tuple(rows), untrained, getattr(optimizer, "notes", ()))


def _cover(module: nn.Module, name: str, wanted: set[str], trained: set[str]) -> Iterator[str]:
    """The highest modules all of whose trained parameters are wanted, and the wanted parameters of others."""
    prefix = f"{name}." if name else ""
    here = {prefix + each for each, _ in module.named_parameters()} & trained
    if not here & wanted:
        return
    if here <= wanted:
        yield name or "all"
        return
    for own, _ in module.named_parameters(recurse=False):
        if prefix + own in wanted:
            yield prefix + own
    for child, each in module.named_children():
        yield from _cover(each, prefix + child, wanted, trained)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters as JSON has them."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
