"""A model as weights, and as plain Python beside them; and what PyTorch alone makes of these."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from builder.durable import write_file
from builder.export.error import ExportError

_LOADER = """
import importlib.util, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "builder":
            raise ModuleNotFoundError("builder isn't there", name="builder")
if {alone}:
    sys.meta_path.insert(0, Absent())
sys.path[:0] = {paths}
import torch
spec = importlib.util.spec_from_file_location("exported_model", {code})
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
classes = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == spec.name]
model = classes[-1]()
weights = {weights}
if weights.endswith(".safetensors"):
    from safetensors.torch import load_model
    load_model(model, weights)
else:
    model.load_state_dict(torch.load(weights, weights_only=True))
model.eval()
with torch.inference_mode():
    output = model(*torch.load({inputs}, weights_only=True))
torch.save(output, {outputs})
"""


def save_state_dict(model: nn.Module, path: Path) -> None:
    """Write the state dict as `torch.load` reads it with `weights_only=True`."""
    write_file(path, partial(torch.save, {name: tensor.detach().clone() for name, tensor in _state(model).items()}))


def save_safetensors(model: nn.Module, path: Path) -> None:
    """Write the weights as `safetensors.torch.load_model` reads them: tensors that are one stand there once."""
    from safetensors.torch import save_model

    save_model(model, str(path))


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def run_plain(code: Path, weights: Path, given: Sequence[Tensor], *, alone: bool) -> Any:
    """What a printed model gives with weights from a file, in a process of its own.

    Args:
        code: a Python file, its last class the model.
        weights: a state dict, or a file of safetensors.
        given: what the model is called with.
        alone: whether this project can't be imported in that process.

    Raises:
        ExportError: it raises there.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "inputs.pt", Path(folder) / "outputs.pt"
        torch.save(tuple(given), inputs)
        paths = [path for path in sys.path if path]
        script = _LOADER.format(
            alone=alone, paths=paths, code=repr(str(code)), weights=repr(str(weights)), inputs=repr(str(inputs)),
            outputs=repr(str(outputs)),
        )  # fmt: skip
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            raise ExportError(f"{code.name} doesn't run with {weights.name}: {said}")
        return torch.load(outputs, weights_only=True)
