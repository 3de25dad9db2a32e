"""Files of activations in a run's folder: one a step that is due, of which the newest are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path as Folder

from torch import Tensor

from builder.durable import write_bytes
from builder.training.hooks.rules import Rule

FOLDER = "hooks"
_FILE = re.compile(r"step_(\d+)\.safetensors")


def save(run_dir: Folder, rule: Rule, step: int, tensors: Mapping[str, Tensor]) -> None:
    """Write `hooks/NAME/step_….safetensors`, and take away files older than those that are kept.

    Raises:
        RunError: the system refuses.
    """
    from safetensors.torch import save as serialised

    folder = run_dir / FOLDER / re.sub(r"[^\w.-]", "_", rule.name)
    held = {name or "model": tensor.contiguous() for name, tensor in tensors.items()}
    write_bytes(
        folder / f"step_{step:08d}.safetensors", serialised(held, {"of": rule.of})
    )  # one key: their order varies
    files = sorted((int(found[1]), file) for file in folder.iterdir() if (found := _FILE.fullmatch(file.name)))
    for _, file in files[: -rule.keep]:
        file.unlink(missing_ok=True)
