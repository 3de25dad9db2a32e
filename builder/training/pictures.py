"""Pictures of what a model sees and gives, as PNG files in the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as Folder
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from builder.errors import ConfigError, RunError
from builder.optional import require
from builder.training.placed import PlacedCallback
from builder.training.terms import Expression, TaskReader

SCALE = 64
"""Pixels of the shorter side of a picture that is shown enlarged."""
LINE = 14
"""Pixels of a line of numbers."""


class Pictures(PlacedCallback):
    """Writes `pictures/epoch_N.png`: a column for each of `count` samples spread over the first validation batch.

    Each of `rows` is an expression over the batch's tensors, `output` and `prediction` that gives pictures [B, C, H, W]
    or [B, H, W], with one channel or three; `numbers` one that gives a number for each sample, to stand below
    its column. Written every `every` epochs and after the last one.
    """

    FOLDER = "pictures"

    def __init__(
        self, rows: list[str], numbers: str | None = None, count: int = 16, every: int = 10, dirpath: str = "pictures"
    ) -> None:
        super().__init__()
        require("PIL", "images", "the callback 'Pictures'")
        if not rows or count < 1 or every < 1:
            raise ValueError("rows has to name a picture, and count and every have to be 1 or more")
        self.rows, self.numbers, self.count, self.every = list(rows), numbers, count, every
        self.folder = Folder(dirpath)
        self._terms: list[Expression] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Read the expressions."""
        tensors = (*trainer.datamodule.data.facts.tensors, *pl_module.task.tensors)  # type: ignore[attr-defined]
        self._terms = self._read(tensors)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Write the picture, if it is its turn."""
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs
        due = epoch % self.every == 0 or epoch == last
        if batch_idx or not due or trainer.sanity_checking or not trainer.is_global_zero:
            return
        task, whole = pl_module.task, pl_module.task.complete(batch)
        samples = {name: tensor[_spread(len(tensor), self.count)] for name, tensor in whole.items()}
        with torch.no_grad():
            values = task.names(samples, pl_module.model(*task.arguments(samples)))
            drawn = [term(values) for term in self._terms]
        rows, numbers = drawn[: len(self.rows)], drawn[len(self.rows) :]
        self.folder.mkdir(parents=True, exist_ok=True)
        sheet(rows, numbers[0] if numbers else None).save(self.folder / f"epoch_{epoch}.png")

    def _read(self, tensors: tuple[str, ...]) -> list[Expression]:
        reader = TaskReader({}, tensors, self.origins())
        names = ("output", "prediction", *tensors)
        terms = [reader.expression(text, names, (*self.path, "rows", i)) for i, text in enumerate(self.rows)]
        if self.numbers is not None:
            terms.append(reader.expression(self.numbers, names, (*self.path, "numbers")))
        if reader.faults:
            raise ConfigError(*reader.faults)
        return [term for term in terms if term is not None]


def _spread(size: int, count: int) -> list[int]:
    """Up to `count` indices below `size`, at equal distances."""
    count = min(size, count)
    return [index * size // count for index in range(count)]


def sheet(rows: Sequence[Tensor], numbers: Tensor | None = None) -> Any:
    """One picture of rows of pictures [N, C, H, W] or [N, H, W] of 0..1, with a number below each column.

    Small pictures are enlarged by a whole number, without smoothing.

    Raises:
        RunError: a row isn't of pictures.
    """
    from PIL import Image, ImageDraw

    strips = [_strip(row) for row in rows]
    width = max(strip.width for strip in strips)
    below = 0 if numbers is None else LINE
    page = Image.new("RGB", (width, sum(strip.height for strip in strips) + below), "white")
    top = 0
    for strip in strips:
        page.paste(strip, (0, top))
        top += strip.height
    if numbers is not None:
        draw, values = ImageDraw.Draw(page), numbers.detach().flatten().tolist()
        for index, value in enumerate(values):
            draw.text((index * width // len(values) + 2, top + 1), f"{value:.2f}", fill="black")
    return page


def _strip(row: Tensor) -> Any:
    """Pictures side by side, each with a border of one pixel of the enlarged picture's grid."""
    from PIL import Image

    pictures = row.detach().float().cpu()
    pictures = pictures[:, None] if pictures.dim() == 3 else pictures
    if pictures.dim() != 4 or pictures.shape[1] not in (1, 3):
        found = f"this is {list(row.shape)}"
        raise RunError(f"a row of pictures is [B, C, H, W] with one channel or three, or [B, H, W]; {found}")
    times = max(1, SCALE // min(pictures.shape[2:]))
    pixels = (pictures.clamp(0, 1) * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
    pixels = pixels.repeat_interleave(times, 2).repeat_interleave(times, 3)
    pixels = torch.nn.functional.pad(pixels, (0, 2, 0, 2), value=255)
    return Image.fromarray(torch.cat(list(pixels), 2).permute(1, 2, 0).contiguous().numpy())
