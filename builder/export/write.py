"""Exports a model into a folder: writes it, loads it again in its own runtime, compares, and says so in a README."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from builder.durable import told, write_json, write_text
from builder.errors import UsageError
from builder.export import graph as graphs
from builder.export import plain
from builder.export.compare import Agreement, agreement
from builder.export.error import ExportError
from builder.export.subject import TRACED, Subject, chosen

TARGETS = ("onnx", "torch-export", "safetensors", "state-dict", "python")
TOLERANCE: Mapping[str, float] = {"onnx": 1e-3, "torch-export": 1e-4}
"""The share of the largest output by which outputs may differ; 0 for what PyTorch computes by the same code."""
CODE = "model.py"
README = "README.md"
STATE = "data.json"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, how it lies beside the model, and what is to be known of it."""

    folder: Path
    target: str
    files: tuple[Path, ...]
    agreements: tuple[Agreement, ...]
    dynamic: tuple[str, ...]
    fixed: Mapping[str, int]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        agreements = [
            {
                "shapes": [list(shape) for shape in one.shapes],
                "max_abs_difference": one.difference,
                "max_abs_output": one.scale,
            }
            for one in self.agreements
        ]
        return {"folder": str(self.folder), "target": self.target, "files": list(map(str, self.files)),
                "agreement": agreements, "dynamic": list(self.dynamic), "fixed": dict(self.fixed),
                "notes": list(self.notes)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Made:
    """The files of a target, and what loads and runs them."""

    files: tuple[Path, ...]
    run: Callable[[Sequence[Tensor]], Any]
    graph: graphs.Graph | None = None
    notes: tuple[str, ...] = ()


def export(
    subject: Subject, target: str, folder: Path, *, dynamic: Sequence[str] | None = None, opset: int | None = None
) -> Exported:
    """Write a model into a new folder, and compare what comes back from there with the model on real rows.

    Nothing is left behind if it can't be exported, or gives something else than the model.

    Raises:
        UsageError: there is something in the folder, or `dynamic` names no dimension.
        MissingExtra: a package isn't installed.
        ExportError: the model can't be exported so.
    """
    wanted = chosen(subject, dynamic)
    if dynamic is not None and target not in TOLERANCE:
        raise UsageError(f"--dynamic says nothing here: {target} has no graph")
    if target == "onnx":
        graphs.require_onnx()
    is_new = not folder.exists()
    with told("write", folder):
        if not is_new and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} isn't empty\n  hint:     name another folder with -o")
        folder.mkdir(parents=True, exist_ok=True)
    try:
        made = _MAKERS[target](subject, folder, wanted, opset)
        found = _compared(subject, made, TOLERANCE.get(target, 0.0), target)
        result = _result(subject, target, folder, made, found)
    except BaseException:
        for path in folder.iterdir():
            path.unlink()
        if is_new:
            shutil.rmtree(folder)
        raise
    from builder.export.card import card

    write_json(folder / STATE, {"facts": subject.run.facts, "state": subject.run.state})
    write_text(folder / README, card(subject, result))
    return result


def _result(
    subject: Subject, target: str, folder: Path, made: _Made, found: tuple[tuple[Agreement, ...], tuple[str, ...]]
) -> Exported:
    agreements, notes = found
    dynamic: tuple[str, ...] = () if made.graph is None else made.graph.dynamic
    fixed: Mapping[str, int] = {} if made.graph is None else made.graph.fixed
    files = (*made.files, folder / STATE, folder / README)
    return Exported(folder, target, files, agreements, dynamic, fixed, (*subject.notes, *made.notes, *notes))


def _compared(
    subject: Subject, made: _Made, tolerance: float, target: str
) -> tuple[tuple[Agreement, ...], tuple[str, ...]]:
    """All rows, then each free dimension at another size; as many rows as it was traced with where that is fixed."""
    free = () if made.graph is None else made.graph.dynamic
    first = next(iter(subject.names.values())).get(0)
    given = subject.given(None if made.graph is None or first in free else TRACED)
    agreements, notes = [_agreement(subject, made, given, tolerance, target)], []
    for name in free:
        smaller = _smaller(subject, given, name, to=1 if name == first else None)
        try:
            agreements.append(_agreement(subject, made, smaller, tolerance, target))
        except _Refused:
            continue  # the model itself doesn't take that size
        except (ExportError, AssertionError, RuntimeError):
            if name != first:
                raise
            notes.append(f"it takes batches of 2 and more, not of 1: {first} is from 2 on")
    return tuple(agreements), tuple(notes)


class _Refused(Exception):
    """The model doesn't take such inputs, exported or not."""


def _smaller(subject: Subject, given: Sequence[Tensor], name: str, to: int | None) -> tuple[Tensor, ...]:
    """The inputs with a dimension cut to one size, or to half of what it is."""
    cut = []
    for tensor, dims in zip(given, subject.names.values(), strict=True):
        for index, dim in dims.items():
            if dim == name:
                tensor = tensor.narrow(index, 0, to or max(tensor.shape[index] // 2, 2)).contiguous()
        cut.append(tensor)
    return tuple(cut)


def _agreement(subject: Subject, made: _Made, given: Sequence[Tensor], tolerance: float, target: str) -> Agreement:
    try:
        with torch.inference_mode():
            expected = subject.model(*given)
    except Exception as error:  # a model raises what it likes
        raise _Refused from error
    try:
        found = agreement(expected, made.run(given), given)
    except ValueError as error:
        raise ExportError(f"the {target} export gives something else than the model: {error}") from error
    if not found.within(tolerance):
        raise ExportError(f"the {target} export gives something else than the model: {found}")
    return found


def _onnx(subject: Subject, folder: Path, wanted: tuple[str, ...] | None, opset: int | None) -> _Made:
    path = folder / "model.onnx"
    graph = graphs.trace(subject, wanted, "ONNX")
    graphs.save_onnx(graph, subject, path, opset)
    return _Made((path, *_beside(path)), lambda given: graphs.run_onnx(path, given), graph)


def _beside(path: Path) -> list[Path]:
    """What lies beside a file of ONNX that is too large for one."""
    return sorted(other for other in path.parent.iterdir() if other != path)


def _program(subject: Subject, folder: Path, wanted: tuple[str, ...] | None, opset: int | None) -> _Made:
    path = folder / "model.pt2"
    graph = graphs.trace(subject, wanted, "torch.export")
    graphs.save_program(graph, path)
    return _Made((path,), lambda given: graphs.run_program(path, given), graph)


def _weights(name: str) -> Callable[..., _Made]:
    def make(subject: Subject, folder: Path, wanted: tuple[str, ...] | None, opset: int | None) -> _Made:
        path, code = folder / name, folder / CODE
        save = plain.save_safetensors if path.suffix == ".safetensors" else plain.save_state_dict
        save(subject.model, path)
        write_text(code, subject.code())
        alone = not _needs_users(subject)
        notes = () if alone else ("model.py imports layers of yours, which need builder",)
        return _Made((path, code), lambda given: plain.run_plain(code, path, given, alone=alone), notes=notes)

    return make


def _needs_users(subject: Subject) -> bool:
    """Whether the model holds modules of neither PyTorch nor a definition: these lie in the user's own files."""
    from builder.model.classes import DefinedModule

    return any(
        not isinstance(module, DefinedModule) and type(module).__module__.partition(".")[0] != "torch"
        for module in subject.model.modules()
    )


_MAKERS: Mapping[str, Callable[[Subject, Path, tuple[str, ...] | None, int | None], _Made]] = {
    "onnx": _onnx,
    "torch-export": _program,
    "safetensors": _weights("model.safetensors"),
    "state-dict": _weights("model.pt"),
    "python": _weights("weights.pt"),
}
