"""`torch.compile` for the model that is trained."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn


class Compile(Callback):
    """Compiles the model in place before training, so that checkpoints keep their names.

    `mode` (default, reduce-overhead, max-autotune), `backend`, `dynamic` and `fullgraph` are those of `torch.compile`.
    The first steps take longer, and floating-point results may differ in their last bits.
    """

    def __init__(
        self,
        mode: str | None = None,
        backend: str = "inductor",
        dynamic: bool | None = None,
        fullgraph: bool = False,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"backend": backend, "dynamic": dynamic, "fullgraph": fullgraph}
        self.arguments |= {} if mode is None else {"mode": mode}

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Compile; nothing is done until the first batch comes."""
        if stage == "fit":
            _compile(pl_module.model, **self.arguments)


def _compile(model: nn.Module, **arguments: Any) -> None:
    """`model.compile(**arguments)`, which by itself leaves out modules of torch's own classes, as Sequential."""
    call = model._call_impl

    def run(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    model._compiled_call_impl = torch.compile(run, **arguments)
