"""A few samples of the test set with what a trained model says of them, for the report: `predictions.json`."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from builder.data.load import Data
from builder.training.task import Task
from builder.use.answers import Answers, read_answers
from builder.use.generate import continued, text_of

COUNT = 24
"""Samples that are shown."""
SIDE = 96
"""Pixels of the longer side of a picture at most."""
VALUES = 8
"""Numbers of a sample or of its prediction that are shown."""
TEXT, CONTEXT = 200, 64
"""Characters of a sampled text, and ids that it begins with."""


def sample_predictions(model: nn.Module, task: Task, data: Data, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Samples spread over the test split (else the validation one), and what the model says of them.

    Returns:
        What stands in `predictions.json`; None where there is no such split, or nothing that can be shown.
    """
    split = next((split for split in ("test", "val") if split in data.splits), None)
    if split is None:
        return None
    columns = data.splits[split]
    length = len(next(iter(columns.values())))
    rows = torch.tensor([index * length // min(COUNT, length) for index in range(min(COUNT, length))])
    like = next((each for each in model.parameters() if each.is_floating_point()), torch.empty(0))
    taken = {name: torch.as_tensor(column[rows]) for name, column in columns.items()}
    batch = {name: each.to(like if each.is_floating_point() else like.device) for name, each in taken.items()}
    answers = read_answers(config["task"], data.facts.values, data.state, config["data"])
    model.eval()
    with torch.inference_mode():
        if (data.state or {}).get("type") == "Text":
            samples = _texts(model, task, batch, data.state or {})
        else:
            values = task.names(batch, model(*task.arguments(batch)))
            samples = _samples(values["prediction"], batch, task, answers, data.facts.values.get("feature_names"))
    note = f"{len(samples)} of {length} samples of the {'test' if split == 'test' else 'validation'} set"
    return {"note": note, "samples": samples} if samples else None


def _samples(
    predicted: Any, batch: Mapping[str, Tensor], task: Task, answers: Answers, features: Sequence[str] | None
) -> list[dict[str, Any]]:
    """For each sample what it is, what it should give and what was predicted."""
    count = len(next(iter(batch.values())))
    columns = answers.columns(predicted, count, False, batch.get("lengths"))
    target = batch.get("target")
    made: list[dict[str, Any]] = [{} for _ in range(count)]
    for name in filter(None, task.inputs):
        tensor = batch.get(name)
        for index, sample in enumerate(made):
            if tensor is not None:
                sample |= _given(name, tensor[index].cpu(), features)
    true = _true(target, answers) if target is not None else None
    for index, sample in enumerate(made):
        said = {name: _short(values[index]) for name, values in columns.items()}
        if true is not None:
            sample["target"] = _short(true[index])
            if isinstance(true[index], str):
                sample["right"] = said.get("prediction") == true[index]
        sample |= said
    return made


def _true(target: Tensor, answers: Answers) -> list[Any]:
    """The targets as predictions are told: names of classes, numbers in their own unit."""
    if answers.classes is not None and not answers.several and target.dim() == 1 and not target.is_floating_point():
        return [answers.classes[index] for index in target.tolist()]
    if target.is_floating_point() and target.dim() <= 2:
        target = target.double() * answers.std + answers.mean
    target = target.flatten(1)[:, 0] if target.dim() == 2 and target.shape[1] == 1 else target
    return list(target.tolist())


def _given(name: str, tensor: Tensor, features: Sequence[str] | None) -> dict[str, Any]:
    """A tensor of a sample as it is shown: a picture, columns by their names, or some numbers."""
    if tensor.dim() == 3 and tensor.shape[0] in (1, 3) and min(tensor.shape[1:]) >= 4 and tensor.is_floating_point():
        return {"image": f"data:image/png;base64,{base64.b64encode(png(tensor)).decode()}"}
    if tensor.dim() == 1 and features is not None and len(features) == len(tensor):
        return dict(zip(features[:VALUES], _short(tensor.tolist()), strict=False))
    return {name: _short(tensor.tolist())}


def _short(value: Any) -> Any:
    """A value that isn't long: few numbers, of few digits."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        shown = [_short(each) for each in value[:VALUES]]
        return [*shown, "…"] if len(value) > VALUES else shown
    return value


def png(picture: Tensor) -> bytes:
    """A picture [C, H, W], of one channel or three, as PNG; its least value is black, its greatest white."""
    picture = picture.float()
    scale = SIDE / max(picture.shape[1:])
    if scale < 1:
        size = [max(1, int(side * scale)) for side in picture.shape[1:]]
        picture = nn.functional.interpolate(picture[None], size, mode="area")[0]
    low, high = picture.min(), picture.max()
    pixels = ((picture - low) / (high - low).clamp(min=1e-12) * 255).round().to(torch.uint8).permute(1, 2, 0)
    height, width, channels = pixels.shape
    lines = b"".join(b"\0" + bytes(line.flatten().tolist()) for line in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _texts(model: nn.Module, task: Task, batch: Mapping[str, Tensor], state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The beginnings of some texts, and how the model goes on with them, taking the most likely each time."""
    ids = batch[next(name for name in task.inputs if name is not None and name in batch)][:4]
    device, size = ids.device, ids.shape[1]

    def logits(known: Tensor) -> Tensor:
        output: Tensor = model(known.to(device))
        return output

    begun = ids[:, : min(CONTEXT, size)].cpu()
    return [
        {
            "text": text_of(state, each)[-TEXT:],
            "goes on": text_of(state, continued(logits, each, CONTEXT, context=size)),
        }
        for each in begun
    ]
