"""What a run left behind, by SHA-256: so that a copy can be checked and two runs compared without reading tensors."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

from builder.durable import told, write_json

FILE = "manifest.json"
_FILES = ("config.yaml", "model.yaml", "metrics.csv")
_FOLDER = "checkpoints"


def manifest(run: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of the config, the model, the metrics and every checkpoint, by path within the run folder.

    Raises:
        RunError: one of them can't be read.
    """
    paths = [run / name for name in _FILES]
    paths += sorted(path for path in (run / _FOLDER).rglob("*") if not path.name.startswith("."))
    return {path.relative_to(run).as_posix(): _described(path) for path in paths if path.is_file()}


def write(run: pathlib.Path) -> None:
    """Write `manifest.json`.

    Raises:
        RunError: the system refuses.
    """
    write_json(run / FILE, {"files": manifest(run)})


def _described(path: pathlib.Path) -> dict[str, Any]:
    with told("read", path), open(path, "rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": file.tell()}
