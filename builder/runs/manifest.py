"""What a run left behind, by SHA-256: so that a copy can be checked and two runs compared without reading tensors."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from builder.durable import told, write_json
from builder.errors import RunError

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


def write(run: pathlib.Path, weights: Mapping[str, str] | None = None) -> None:
    """Write `manifest.json`; `weights` are SHA-256 of the tensors of some weights, by what these are called.

    Raises:
        RunError: the system refuses.
    """
    hashes = {name: {"sha256": sha256} for name, sha256 in (weights or {}).items()}
    write_json(run / FILE, {"files": manifest(run), **({"weights": hashes} if hashes else {})})


def check(run: pathlib.Path, *names: str, cheap: int | None = None) -> None:
    """See that files are as the run left them; those that the manifest doesn't list are passed over.

    Args:
        run: the run folder, which was sealed.
        names: paths within it.
        cheap: of larger files than so many bytes only the size is compared.

    Raises:
        RunError: one of them has changed, or can't be read.
    """
    known = _read(run)
    for name in names:
        if name not in known or not (path := run / name).is_file():
            continue
        size = path.stat().st_size
        same = size == known[name].get("bytes")
        if same and (cheap is None or size <= cheap):
            same = _described(path)["sha256"] == known[name].get("sha256")
        if not same:
            what = "checksum" if size == known[name].get("bytes") else "size"
            raise RunError(f"{path} isn't what the run left: its {what} differs from that in {FILE}")


def _read(run: pathlib.Path) -> dict[str, dict[str, Any]]:
    path = run / FILE
    if not path.is_file():
        return {}
    with told("read", path):
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        files: dict[str, dict[str, Any]] = json.loads(text)["files"]
        return {name: dict(each) for name, each in files.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise RunError(f"cannot read {path}: it is damaged") from None


def _described(path: pathlib.Path) -> dict[str, Any]:
    with told("read", path), open(path, "rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": file.tell()}
