"""Checkpoint files: written beside their final name, synced and renamed; tensors and plain values only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor

from builder.durable import write_file
from builder.errors import RunError, dotted
from builder.training import positions

POSITION = "position"
"""The option that makes a checkpoint one to go on from; its value is called with the path of the file."""
WRITER = "writer"
"""The option beside it with a `BackgroundWriter`; None to write at once."""
PLAIN = (Tensor, str, bytes, bool, int, float, complex, type(None), torch.Size, torch.dtype, torch.device)


class CheckpointFile(CheckpointIO):
    """How Lightning writes and reads a checkpoint here.

    Under the final name there is never half a file: either the old one or the new one, whatever happens in between.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`; with a hash in its name, which is told, where the options have `POSITION`.

        Raises:
            RunError: it holds something that couldn't be read back with `weights_only=True`, or can't be written.
        """
        check_plain(checkpoint)
        if storage_options is None or POSITION not in storage_options:
            write_file(Path(path), partial(positions.dump, checkpoint))
            return
        written, writer = storage_options[POSITION], storage_options[WRITER]
        if writer is None:
            written(positions.save(checkpoint, Path(path)))
        else:
            writer.begin(checkpoint, lambda copied: written(positions.save(copied, Path(path))))

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        """Read the checkpoint at `path`, with `weights_only=True` whatever is asked for."""
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the checkpoint at `path`, if it is there."""
        Path(path).unlink(missing_ok=True)


def check_plain(value: Any, path: tuple[str | int, ...] = ()) -> None:
    """Pass over what a checkpoint may hold: tensors, plain values, and mappings and lists of them.

    Raises:
        RunError: there is anything else; says where.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_plain(item, (*path, key if isinstance(key, int) else str(key)))
    elif isinstance(value, list | tuple | set):
        for index, item in enumerate(value):
            check_plain(item, (*path, index))
    elif not isinstance(value, PLAIN):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise RunError(f"a checkpoint holds tensors and plain values only, but {dotted(path)} is a {kind}")
