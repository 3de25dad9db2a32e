"""What an evaluation leaves: `evaluation.json`, pictures, sampled text, in a folder of the run."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from builder.durable import make_folder, plain, told, write_json, write_text
from builder.use import figures
from builder.use.evaluate import Gathered, Set
from builder.use.generate import continued, text_of
from builder.use.loaded import Loaded
from builder.use.scores import ClassScore, class_scores, confusion_of

FOLDER = "evaluations"
SAMPLES, TOKENS = 4, 400
"""Texts that a language model is let write, and how long each is."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a model does on some samples.

    `errors` are those of a number, in its own unit; `files` are what was written into `folder`.
    """

    run: Path
    checkpoint: Path
    weights: str
    data: str
    samples: int
    metrics: Mapping[str, float]
    classes: Sequence[ClassScore]
    confusion: list[list[int]] | None
    calibration_error: float | None
    errors: Mapping[str, float] | None
    folder: Path
    files: Sequence[str]
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        value: dict[str, Any] = plain(dataclasses.asdict(self))
        return value


def folder_of(loaded: Loaded, chosen: Set, wish: str | None) -> Path:
    """Where an evaluation is written: one of the same set and checkpoint takes the place of an older one."""
    if wish is not None:
        return Path(wish)
    name = re.sub(r"[^\w.=-]+", "_", Path(chosen.name).stem if chosen.phase == "test" else chosen.name).strip("_")
    return loaded.run.path / FOLDER / f"{name}-{loaded.run.checkpoint.stem}"


def report(loaded: Loaded, chosen: Set, found: Gathered, folder: Path, seed: int) -> Evaluation:
    """Write what was found into a folder.

    Raises:
        RunError: the system refuses.
    """
    with told("write", folder):
        make_folder(folder)
    drawn: dict[str, Any] = {}
    scores: list[ClassScore] = []
    counts: NDArray[Any] | None = None
    error: float | None = None
    if found.shares:
        scores, counts, error = _classification(loaded, found, drawn)
    errors = _regression(loaded, found, drawn) if found.predicted else None
    if found.given is not None and found.rebuilt is not None:
        drawn["reconstructions.png"] = figures.reconstructions(found.given.numpy(), found.rebuilt.numpy())
    for name, made in drawn.items():
        figures.save(made, folder / name)
    files = list(drawn)
    if loaded.kind == "Text":
        write_text(folder / "samples.txt", _sampled(loaded, seed))
        files.append("samples.txt")
    run = loaded.run
    evaluation = Evaluation(
        run.path, run.checkpoint, run.weights, chosen.name, found.samples, found.metrics, scores,
        None if counts is None else counts.tolist(), error, errors, folder, ("evaluation.json", *files), chosen.notes,
    )  # fmt: skip
    write_json(folder / "evaluation.json", json.loads(json.dumps(evaluation.to_json(), default=str)))
    return evaluation


def _classification(
    loaded: Loaded, found: Gathered, drawn: dict[str, Any]
) -> tuple[list[ClassScore], NDArray[Any] | None, float | None]:
    """Scores by class, the confusion matrix and the calibration error; the pictures of them go into `drawn`."""
    answers, shares, truth = loaded.answers, torch.cat(found.shares).numpy(), torch.cat(found.truth).numpy()
    assert answers.classes is not None
    classes, counts, error = list(answers.classes), None, None
    if answers.several:
        labels, said = truth, (shares > 0.5).astype(np.int64)
    else:
        chosen = shares.argmax(1)
        labels, said = (np.eye(len(classes), dtype=np.int64)[each] for each in (truth, chosen))
        counts = confusion_of(truth, chosen, len(classes))
        drawn["confusion.png"] = figures.confusion(counts, classes)
    if any(0 < column.sum() < len(column) for column in labels.T):
        drawn["roc.png"] = figures.roc(labels, shares, classes)
        drawn["precision_recall.png"] = figures.precision_recall(labels, shares, classes)
    if not answers.several:
        drawn["calibration.png"], error = figures.calibration(shares.max(1), chosen == truth)
    return class_scores(labels, said, shares, classes), counts, error


def _regression(loaded: Loaded, found: Gathered, drawn: dict[str, Any]) -> dict[str, float]:
    """The errors in the target's own unit; the picture of them goes into `drawn`."""
    target = (loaded.run.state or {}).get("target")
    name = str(target["name"]) if isinstance(target, Mapping) else "value"
    predicted, true = torch.cat(found.predicted).numpy(), torch.cat(found.target).numpy()
    drawn["residuals.png"] = figures.residuals(predicted, true, name)
    rest = true - predicted
    return {"mae": float(np.abs(rest).mean()), "rmse": float(np.sqrt((rest**2).mean())), "bias": float(rest.mean())}


def _sampled(loaded: Loaded, seed: int) -> str:
    """Texts that a language model writes by itself, drawn by consecutive seeds."""
    assert loaded.run.state is not None
    texts = []
    for number in range(seed, seed + SAMPLES):
        ids = torch.tensor([_first(loaded)])
        made = continued(loaded.logits, ids, TOKENS, context=loaded.form.length or TOKENS, seed=number)
        texts.append(f"--- seed {number}\n{text_of(loaded.run.state, made)}\n")
    return "\n".join(texts)


def _first(loaded: Loaded) -> int:
    """An id to begin with: that of a line's end, where there is one."""
    characters = (loaded.run.state or {}).get("characters") or ""
    return max("".join(characters).find("\n"), 0)
