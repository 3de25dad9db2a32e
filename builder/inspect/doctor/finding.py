"""What can be wrong with a layer, and how it is mended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RULES = {
    "super": (
        "__init__ doesn't call super().__init__(): no layer or parameter can be assigned",
        "call `super().__init__()` in its first line",
    ),
    "modules": (
        "self.{name} holds modules in a plain {kind}: they are neither trained, nor saved, nor moved with .to()",
        "put them into nn.ModuleList, nn.ModuleDict or nn.Sequential",
    ),
    "tensors": (
        "self.{name} holds tensors in a plain {kind}: they are neither saved nor moved with .to()",
        "put parameters into nn.ParameterList or nn.ParameterDict; call register_buffer for each other tensor",
    ),
    "parameter": (
        "self.{name} is a plain tensor that requires a gradient: no optimiser sees it, and it isn't saved",
        "wrap it: `self.{name} = nn.Parameter(…)`",
    ),
    "buffer": (
        "self.{name} is a plain tensor: it isn't saved, and stays where it is when the layer moves with .to()",
        "call `self.register_buffer('{name}', …)`; with persistent=False if it needn't be saved",
    ),
    "hidden": (
        "self.{name} holds tensors or modules inside of a {kind}: they are neither saved nor moved with .to()",
        "let {kind} be an nn.Module, or register what it holds here",
    ),
    "forward": (
        "{name}.forward(…) is called directly: hooks, torch.compile and what counts calls pass it by",
        "call the module itself: `{name}(…)`",
    ),
    "device": (
        "{name} is on one device wherever the layer is",
        "take the device of a parameter or of what comes in: device=x.device",
    ),
    "pickle": (
        "self.{name} can't be pickled ({kind}): the layer can't be saved whole, or go to other processes",
        "make it a method, a function at the top of the file, or functools.partial of one",
    ),
    "local": (
        "the class is made inside of a function, so that what is made of it can't be pickled",
        "put it at the top of the file",
    ),
}  # fmt: skip
"""Rule → what is said, and the mend."""

FINE = "doctor: fine"
"""A comment on a line that isn't to be told of."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: by which rule, with what, where."""

    rule: str
    layer: str
    file: str
    line: int
    name: str = ""
    kind: str = ""

    @property
    def message(self) -> str:
        """What is wrong."""
        return RULES[self.rule][0].format(name=self.name, kind=self.kind)

    @property
    def mend(self) -> str:
        """What to do."""
        return RULES[self.rule][1].format(name=self.name, kind=self.kind)

    @property
    def place(self) -> tuple[str, str, int]:
        """What it has in common with the same thing found in another way."""
        family = (
            "modules" if self.rule in ("tensors", "hidden") else "buffer" if self.rule == "parameter" else self.rule
        )
        return family, self.file, self.line

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.layer}: {self.message}\n  mend:     {self.mend}"

    def to_json(self) -> dict[str, Any]:
        """The finding for programs."""
        return {
            "rule": self.rule, "layer": self.layer, "file": self.file, "line": self.line, "name": self.name,
            "message": self.message, "mend": self.mend,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, what was found, and what couldn't be looked at."""

    layers: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The report for programs."""
        return {
            "ok": not self.findings, "layers": list(self.layers),
            "findings": [finding.to_json() for finding in self.findings], "notes": list(self.notes),
        }  # fmt: skip
