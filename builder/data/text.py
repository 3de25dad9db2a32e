"""Text in windows of fixed length for a language model: by characters, bytes, or the tokens of a tokenizer's file."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.data.facts import ArgumentError, Dataset, refuse
from builder.data.sources import Batch, TensorSource
from builder.data.splits import split_ranges
from builder.data.table_file import no_file
from builder.optional import require
from builder.registry import datasets

TEXT_FRACTIONS: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}
Level = Literal["characters", "bytes", "tokens"]


@datasets.register("Text")
def text(
    path: str | Sequence[str],
    level: Level = "characters",
    tokenizer: str | None = None,
    length: int = 128,
    stride: int | None = None,
    split: Mapping[str, float] = TEXT_FRACTIONS,
) -> Dataset:
    """UTF-8 text files in windows of `length`, for a language model: a file, a list of them, or a folder of `.txt`.

    `ids` [length] are indices and `target` [length] those that follow them, both int64. `level` says of what:
    `characters` (the vocabulary is that of the whole text), `bytes` (256), or `tokens`, for which `tokenizer` is the
    path of a `tokenizer.json`. A window begins every `stride` places (`length`, if it isn't given). The text, files one
    after the other, is cut into train, val and test by position, and no window reaches across a cut.

    Raises:
        Refusal: a file can't be read, or the windows don't fit into the text.
        MissingExtra: `level` is tokens, and the package tokenizers isn't installed.
    """
    check_windows(length, stride)
    _check_level(level, tokenizer)
    whole = "\n\n".join(_read(file) for file in _files(path))
    if not whole:
        refuse([ArgumentError("path", "there is no text in it", found=path)])
    ids, facts, state = _encode(whole, level, tokenizer)
    state = {"type": "Text", "level": level, **state}
    places = split_ranges(len(ids), split)
    parts = {
        name: windows(ids[at.start : at.stop], length, stride or length, what=level) for name, at in places.items()
    }
    notes = [f"{len(ids):,} {level}, {facts['vocab_size']:,} different ones known"]
    splits = {name: TensorSource(part, _as_indices) for name, part in parts.items()}
    return Dataset(splits, {**facts, "length": length}, state, notes, {"model": "gpt", "task": "language_model"})


def apply_text(state: Mapping[str, Any], value: str) -> Tensor:
    """The indices [N], int64, of a text, as a model was trained on them.

    Raises:
        ArgumentError: a character isn't in the vocabulary.
    """
    if state["level"] == "bytes":
        return torch.tensor(list(value.encode()), dtype=torch.int64)
    if state["level"] == "tokens":
        return torch.tensor(_tokenizers().Tokenizer.from_str(state["tokenizer"]).encode(value).ids)
    known = {character: index for index, character in enumerate(state["characters"])}
    unknown = [character for character in value if character not in known]
    if unknown:
        raise ArgumentError("path", "the model wasn't trained on this character", found=unknown[0])
    return torch.tensor([known[character] for character in value], dtype=torch.int64)


def check_windows(length: int, stride: int | None) -> None:
    """Refuse windows of no length.

    Raises:
        Refusal: `length` or `stride` is below 1.
    """
    refuse([
        ArgumentError(argument, f"{argument} must be at least 1", found=value)
        for argument, value in (("length", length), ("stride", stride))
        if value is not None and value < 1
    ])  # fmt: skip


def characters_of(value: str) -> tuple[NDArray[np.int64], list[str]]:
    """The indices of a text's characters, and the characters, sorted."""
    characters = sorted(set(value))
    codes = np.frombuffer(value.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    known = np.array([ord(character) for character in characters], dtype=np.uint32)
    return np.searchsorted(known, codes), characters


def windows(ids: Tensor, length: int, stride: int, *, what: str = "characters") -> dict[str, Tensor]:
    """Windows over `ids` and over what follows each id; views, so that overlapping windows cost no memory.

    Raises:
        ArgumentError: there aren't enough ids for one.
    """
    if len(ids) <= length:
        raise ArgumentError("length", f"a window is longer than a split of {len(ids)} {what}", found=length)
    return {"ids": ids[:-1].unfold(0, length, stride), "target": ids[1:].unfold(0, length, stride)}


def _as_indices(batch: Batch) -> Batch:
    return {name: tensor.long() for name, tensor in batch.items()}


def _check_level(level: str, tokenizer: str | None) -> None:
    if level == "tokens" and tokenizer is None:
        refuse([ArgumentError("tokenizer", "tokens need a tokenizer", expected="the path of a tokenizer.json")])
    if level != "tokens" and tokenizer is not None:
        hint = "data.level=tokens"
        refuse([ArgumentError("tokenizer", f"{level} need no tokenizer", found=tokenizer, hint=hint)])


def _files(path: str | Sequence[str]) -> list[Path]:
    if not isinstance(path, str):
        refuse([no_file(file, ("path",)) for file in path if not Path(file).is_file()])
        return [Path(file) for file in path]
    place = Path(path)
    if place.is_dir():
        files = sorted(file for file in place.rglob("*.txt") if file.is_file())
        if not files:
            refuse([ArgumentError("path", "there are no .txt files in this folder", found=path)])
        return files
    if not place.is_file():
        refuse([no_file(path)])
    return [place]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        refuse([ArgumentError("path", f"line {line} isn't UTF-8 text ({error.reason})", found=str(file))])
        raise AssertionError from error


def _encode(value: str, level: Level, tokenizer: str | None) -> tuple[Tensor, dict[str, Any], dict[str, Any]]:
    """The ids of a text in the smallest dtype, their facts, and what makes them of other texts."""
    if level == "bytes":
        return torch.from_numpy(np.frombuffer(value.encode(), dtype=np.uint8).copy()), {"vocab_size": 256}, {}
    if level == "characters":
        ids, characters = characters_of(value)
        known = "".join(characters)
        return torch.from_numpy(ids.astype(np.int32)), {"vocab_size": len(characters), "characters": known}, {
            "characters": known
        }  # fmt: skip
    assert tokenizer is not None
    made = read_tokenizer(tokenizer)
    ids = np.array(made.encode(value).ids, dtype=np.int32)
    return torch.from_numpy(ids), {"vocab_size": made.get_vocab_size()}, {"tokenizer": made.to_str()}


def read_tokenizer(path: str) -> Any:
    """The tokenizer of a `tokenizer.json`.

    Raises:
        Refusal: the file isn't there, or is none.
        MissingExtra: the package tokenizers isn't installed.
    """
    tokenizers = _tokenizers()
    if not Path(path).is_file():
        refuse([no_file(path, ("tokenizer",))])
    try:
        made = tokenizers.Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
    except Exception as error:  # the package raises plain Exceptions
        refuse([ArgumentError("tokenizer", f"no tokenizer can be read: {str(error).splitlines()[0]}", found=path)])
        raise
    made.no_truncation()
    made.no_padding()
    return made


def _tokenizers() -> Any:
    return require("tokenizers", "text", "a tokenizer's file")


@datasets.register("Topics")
def topics(length: int = 128, stride: int | None = None, split: Mapping[str, float] = TEXT_FRACTIONS) -> Dataset:
    """The text of Python's documentation (`pydoc_data.topics`) in windows of `length` characters, for a language model.

    `ids` [length] are indices of characters and `target` [length] those that follow them, both int64. A window begins
    every `stride` characters (`length`, if it isn't given). The text is cut into train, val and test by position, and
    no window reaches across a cut. The vocabulary is that of the whole text.

    Raises:
        ArgumentError: the windows don't fit into the text.
    """
    check_windows(length, stride)
    codes, characters = characters_of(topics_text())
    ids = torch.from_numpy(codes.astype(np.int64))
    places = split_ranges(len(ids), split)
    parts = {name: windows(ids[at.start : at.stop], length, stride or length) for name, at in places.items()}
    known = "".join(characters)
    facts = {"vocab_size": len(characters), "characters": known, "length": length}
    state = {"type": "Text", "level": "characters", "characters": known}
    return Dataset(parts, facts, state, (), {"model": "gpt", "task": "language_model"})


def topics_text() -> str:
    """All topics of `pydoc_data.topics` in the order of their names, an empty line between each two."""
    entries: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "\n\n".join(entries[name].strip() for name in sorted(entries))
