"""Ends a process after its first training step; `builder train --import first_step +callbacks.end.type=FirstStep`."""

from __future__ import annotations

import os
from typing import Any

import pytorch_lightning as pl

from builder.registry import callbacks


@callbacks.register("FirstStep")
class FirstStep(pl.Callback):
    """Ends the process there, with nothing tidied up."""

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """The first step is done."""
        os._exit(0)
