"""Samples of other files with their targets, in the form in which a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from builder.data.apply import apply
from builder.data.changes import chain_of
from builder.data.images import pictures_in, read_pictures
from builder.data.table_file import read_table
from builder.data.table_rows import RowEncoder
from builder.data.text import apply_text, windows
from builder.errors import RunError, UsageError, nearest
from builder.use.records import existing

KINDS = ("Table", "Arrays", "ImageFolder", "Text")


def labelled(
    state: Mapping[str, Any] | None, path: str, section: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The samples of a file, or of a folder with one for each class, after the run's transforms of evaluation.

    Args:
        state: of the run's data.
        path: a table, arrays, a folder of classes, or a text.
        section: the run's section `data`.
        facts: what it found about its data.

    Raises:
        UsageError: there is no such file, or it has no targets, or nothing is known of files.
        Refusal: it isn't of the form that the model was trained on.
        RunError: a picture can't be read.
    """
    kind = None if state is None else state["type"]
    if state is None or kind not in KINDS:
        of = f"data of the type {section.get('type')}"
        raise UsageError(f"--data takes no file for {of}: say what changes in the config, as --data batch_size=16")
    if not Path(path).exists():
        existing(path)
    if kind == "ImageFolder":
        return _changed(state, _pictures(state, Path(path)))
    if kind == "Text":
        ids = apply_text(state, existing(path).read_text(encoding="utf-8-sig"))
        length = int(facts["length"])
        return windows(ids, length, int(section.get("stride") or length), what=state["level"])
    if kind == "Table":
        columns = read_table(path, state["separator"], state["missing_values"]).columns
        RowEncoder(state).check(columns)
    found = apply(state, path)
    if "target" not in found:
        named = state["target"]["name"] if kind == "Table" else state["target"]
        raise UsageError(f"{path} has no {named!r}, which the model is to be compared with")
    return found


def _pictures(state: Mapping[str, Any], folder: Path) -> dict[str, Tensor]:
    """The pictures of a folder that has a folder for each class, in the order of their names."""
    classes = list(state["classes"])
    inside = sorted(item.name for item in folder.iterdir() if item.is_dir()) if folder.is_dir() else []
    unknown = [name for name in inside if name not in classes]
    if unknown or not inside:
        near = [each for name in unknown for each in nearest(name, classes)]
        asked = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        what = (
            f"the folder {unknown[0]!r} of {folder} is no class" if unknown else f"{folder} has no folder for a class"
        )
        raise UsageError(f"{what}; there are {', '.join(classes)}{asked}")
    files = [(file, classes.index(name)) for name in inside for file in pictures_in(folder / name)]
    batch, bad = read_pictures(state, [file for file, _ in files])
    if bad:
        index, reason = next(iter(bad.items()))
        raise RunError(
            f"{files[index][0]} can't be used: {reason}" + (f"; nor can {len(bad) - 1} more" * (len(bad) > 1))
        )
    return batch | {"target": torch.tensor([label for _, label in files])}


def _changed(state: Mapping[str, Any], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return chain_of(state.get("transforms", ()))(batch, Generator().manual_seed(0))
