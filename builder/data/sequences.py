"""Tokens and their tags in files like those of CoNLL's shared tasks: a token a line, sentences apart by empty lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from builder.data.facts import SPLITS, ArgumentError, Dataset, check_texts, class_facts, nearest_split, refuse
from builder.data.splits import FRACTIONS, split_indices
from builder.data.table_file import no_file, no_text
from builder.registry import datasets

PADDING, UNKNOWN = 0, 1
"""The indices of what fills short sentences up, and of tokens that the train split doesn't have."""
IGNORED = -100
"""The target of padding: what `cross_entropy` ignores."""
MAX_TOLD = 5
"""Bad lines that are told one by one."""


@datasets.register("Sequences")
def sequences(
    path: str | Mapping[str, str],
    token_column: int = 0,
    tag_column: int = -1,
    separator: str | None = None,
    comment: str | None = None,
    lower: bool = False,
    min_count: int = 1,
    length: int | None = None,
    split: Mapping[str, float] | None = None,
    fold: int | None = None,
    num_folds: int | None = None,
    *,
    seed: int,
) -> Dataset:
    """Sentences of tokens and tags, from one file (split by seed) or one for each split.

    A line is a token with what belongs to it, in columns apart by `separator` (null: white space), counted from 0, or
    from the end with -1; an empty line ends a sentence; lines that begin with `comment` and with `-DOCSTART-` are left
    out. `ids` [T] int64 are indices of the tokens that occur `min_count` times in the train split (0: padding,
    1: unknown), `target` [T] the tags' (-100, which cross_entropy ignores, for padding), `mask` [T] bool what isn't
    padding, `lengths` [] int64. T is `length`, to which longer sentences are cut, or that of the longest.

    Raises:
        Refusal: a file or line is wrong; all that was found.
    """
    check_texts("path", path)
    _check(token_column, tag_column, separator, min_count, length)
    by_split = _read_all(path, _Format(token_column, tag_column, separator, comment, lower), split, fold)
    if isinstance(path, str):
        sentences = by_split["train"]
        rows = split_indices(len(sentences), split or FRACTIONS, seed, fold=fold, num_folds=num_folds)
        by_split = {name: [sentences[i] for i in indices] for name, indices in rows.items()}
    longest = max(len(sentence) for part in by_split.values() for sentence in part)
    vocabulary = _vocabulary(by_split["train"], min_count)
    tags = sorted({tag for part in by_split.values() for sentence in part for _, tag in sentence})
    if len(tags) < 2:
        refuse([ArgumentError("tag_column", f"all tokens have the tag {tags[0]!r}", found=tag_column)])
    size = length or longest
    splits = {name: _tensors(part, vocabulary, tags, size) for name, part in by_split.items()}
    counts = torch.bincount(splits["train"]["target"][splits["train"]["mask"]], minlength=len(tags)).tolist()
    facts = {"vocab_size": len(vocabulary) + 2, "length": size, **class_facts(tags, counts)}
    state = {"type": "Sequences", "tokens": list(vocabulary), "tags": tags, "lower": lower}
    notes = _notes(by_split, vocabulary, tags, counts, longest, length)
    return Dataset(splits, facts, state, notes, {"model": "lstm_tagger", "task": "tagging"})


def apply_sequences(state: Mapping[str, Any], sentences: Sequence[Sequence[str]], length: int = 0) -> dict[str, Tensor]:
    """Sentences of tokens in the form in which a model was trained on: `ids`, `mask` and `lengths`.

    They are filled up to the longest of them, and at least to `length`.
    """
    lower = state["lower"]
    read = [[(token.lower() if lower else token, "") for token in sentence] for sentence in sentences]
    vocabulary = {token: index + 2 for index, token in enumerate(state["tokens"])}
    tensors = _tensors(read, vocabulary, [""], max([length, *map(len, read)]))
    return {name: tensor for name, tensor in tensors.items() if name != "target"}


Sentence = list[tuple[str, str]]
"""Tokens with their tags."""


@dataclass(frozen=True, slots=True)
class _Format:
    token_column: int
    tag_column: int
    separator: str | None
    comment: str | None
    lower: bool

    def left_out(self, line: str) -> bool:
        """Whether a line says nothing of a sentence."""
        return line.startswith("-DOCSTART-") or (self.comment is not None and line.startswith(self.comment))

    @property
    def least(self) -> int:
        """The columns that a line has at least."""
        columns = (self.token_column, self.tag_column)
        return max(2, *(column + 1 if column >= 0 else -column for column in columns))

    def fields(self, line: str) -> tuple[str, str] | None:
        """The token and tag of a line; None if it hasn't enough columns."""
        fields = line.split(self.separator)
        if len(fields) < self.least:
            return None
        token, tag = fields[self.token_column], fields[self.tag_column]
        return token.lower() if self.lower else token, tag


def _check(token_column: int, tag_column: int, separator: str | None, min_count: int, length: int | None) -> None:
    errors = []
    if separator == "":
        errors.append(ArgumentError("separator", "no separator", found="", expected="a text, or null for white space"))
    if token_column == tag_column:
        errors.append(ArgumentError("tag_column", "tokens and tags can't be one column", found=tag_column))
    for argument, value in (("min_count", min_count), ("length", length)):
        if value is not None and value < 1:
            errors.append(ArgumentError(argument, f"{argument} must be at least 1", found=value))
    refuse(errors)


def _read_all(
    path: str | Mapping[str, str], form: _Format, split: object, fold: int | None
) -> dict[str, list[Sentence]]:
    """The sentences of each file; of one file alone under `train`."""
    if isinstance(path, str):
        sentences, errors = _read(path, form, ("path",))
        refuse(errors)
        return {"train": sentences}
    found: dict[str, list[Sentence]] = {}
    errors = []
    for argument, value in (("split", split), ("fold", fold)):
        if value is not None:
            message = "the files say already which sentences are train, val and test"
            errors.append(ArgumentError(argument, message, found=value, expected="null"))
    for name, file in path.items():
        if name not in SPLITS:
            expected = "train | val | test"
            errors.append(
                ArgumentError(("path", name), "no split", found=name, expected=expected, nearest=nearest_split(name))
            )
            continue
        found[name], wrong = _read(file, form, ("path", name))
        errors += wrong
    if "train" not in path:
        errors.append(ArgumentError("path", "there is no file for train", found=dict(path)))
    refuse(errors)
    return found


def _read(path: str, form: _Format, at: tuple[str, ...]) -> tuple[list[Sentence], list[ArgumentError]]:
    if not Path(path).is_file():
        return [], [no_file(path, at)]
    sentences: list[Sentence] = [[]]
    bad: list[tuple[int, str]] = []
    try:
        with open(path, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                text = line.rstrip("\r\n")
                if not text.strip():
                    sentences.append([])
                elif not form.left_out(text):
                    fields = form.fields(text)
                    if fields is None:
                        bad.append((number, text))
                    else:
                        sentences[-1].append(fields)
    except UnicodeDecodeError as error:
        return [], [no_text(Path(path), error, at)]
    kept = [sentence for sentence in sentences if sentence]
    expected = f"{form.least} columns at least"
    if bad and not kept:
        message = f"no line has columns enough for tokens in {form.token_column} and tags in {form.tag_column}"
        return [], [ArgumentError("tag_column", message, found=bad[0][1], expected=expected)]
    errors = [
        ArgumentError(at, f"line {number} has too few columns", found=text, expected=expected)
        for number, text in bad[:MAX_TOLD]
    ]
    if len(bad) > MAX_TOLD:
        errors.append(ArgumentError(at, f"{len(bad) - MAX_TOLD} more lines have too few columns"))
    if not kept and not errors:
        errors.append(ArgumentError(at, "there are no sentences in it", found=path))
    return kept, errors


def _vocabulary(sentences: Sequence[Sentence], min_count: int) -> dict[str, int]:
    counts = Counter(token for sentence in sentences for token, _ in sentence)
    tokens = sorted(token for token, count in counts.items() if count >= min_count)
    return {token: index + 2 for index, token in enumerate(tokens)}


def _tensors(
    sentences: Sequence[Sentence], vocabulary: Mapping[str, int], tags: Sequence[str], length: int
) -> dict[str, Tensor]:
    number = {tag: index for index, tag in enumerate(tags)}
    ids = np.full((len(sentences), length), PADDING, dtype=np.int64)
    target = np.full((len(sentences), length), IGNORED, dtype=np.int64)
    lengths = np.array([min(len(sentence), length) for sentence in sentences], dtype=np.int64)
    for row, sentence in enumerate(sentences):
        cut = sentence[:length]
        ids[row, : len(cut)] = [vocabulary.get(token, UNKNOWN) for token, _ in cut]
        target[row, : len(cut)] = [number[tag] for _, tag in cut]
    mask = np.arange(length) < lengths[:, None]
    return {"ids": torch.from_numpy(ids), "target": torch.from_numpy(target), "mask": torch.from_numpy(mask),
            "lengths": torch.from_numpy(lengths)}  # fmt: skip


def _notes(
    by_split: Mapping[str, Sequence[Sentence]], vocabulary: Mapping[str, int], tags: Sequence[str],
    counts: Sequence[int], longest: int, length: int | None,
) -> list[str]:  # fmt: skip
    notes = [f"{len(vocabulary):,} tokens and {len(tags)} tags; the longest sentence has {longest}"]
    if length is not None and longest > length:
        cut = sum(len(sentence) > length for part in by_split.values() for sentence in part)
        notes.append(f"{cut:,} sentences are cut to {length} tokens")
    absent = [tag for tag, count in zip(tags, counts, strict=True) if not count]
    if absent:
        notes.append(f"no train token has the tag {', '.join(absent)}")
    return notes
