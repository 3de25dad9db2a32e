"""Which weights of one model would load into another, by the rules by which files are loaded; neither needs values."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from builder.errors import DEFAULT
from builder.weights.entries import Entry, WeightsFile
from builder.weights.load_report import Row
from builder.weights.load_section import Allowed, SourceSpec
from builder.weights.match import laid_beside
from builder.weights.targets import targets_of


@dataclass(frozen=True, slots=True)
class Between:
    """What of one model loads into another, and what doesn't.

    Attributes:
        loaded: tensors that both have, in one shape.
        differing: tensors that both have, in different shapes.
        missing: names that only the other model has.
        unexpected: names that only the one model has.
        share: how much of the other model's parameters is loaded, by elements.
    """

    loaded: tuple[Row, ...]
    differing: tuple[Row, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    share: float

    @property
    def all_load(self) -> bool:
        """Whether the state dict of the one is one of the other."""
        return not (self.differing or self.missing or self.unexpected)

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "loaded": [row.name for row in self.loaded],
            "differing": [row.to_json() for row in self.differing],
            "missing": list(self.missing), "unexpected": list(self.unexpected), "share": self.share,
        }  # fmt: skip


def between(one: nn.Module, other: nn.Module) -> Between:
    """What of the weights of `one` would load into `other` if shapes had to fit and nothing were renamed."""
    given, targets = targets_of(one), targets_of(other)
    entries = {name: Entry(target.shape, target.tensor.dtype, name) for name, target in given.items()}
    file = WeightsFile(pathlib.Path(), "a model", entries, _unread)
    nothing = Allowed("error", ())
    spec = SourceSpec((), lambda path: DEFAULT, "", "", None, "raw", (), (), "error", nothing, nothing, None)
    draft = laid_beside(spec, file, targets)
    known = {row.name for row in (*draft.rows, *draft.differing)}
    taken = {targets[name].first for name in known}
    missing = tuple(name for name, target in targets.items() if name not in known and target.first not in taken)
    sizes = {target.first: target.tensor.numel() for target in targets.values() if target.is_parameter}
    loaded = {targets[row.name].first for row in draft.rows}
    share = sum(size for name, size in sizes.items() if name in loaded) / max(sum(sizes.values()), 1)
    return Between(tuple(draft.rows), tuple(draft.differing), missing, tuple(draft.unexpected), share)


def _unread(name: str) -> Tensor:
    raise AssertionError(f"{name} has no values")
