"""Silences what Lightning says that nobody asked for, and nothing else."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")

NOISE = (
    r"Checkpoint directory .* exists and is not empty",  # it is the run's own
    r"The number of training batches .* is smaller than the logging interval",  # epochs are logged in any case
    r"The '.*_dataloader' does not have many workers",  # batches are slices of tensors in memory
    r"You're resuming from a checkpoint that ended before the epoch ended",  # our loaders begin at any batch
    r"Be aware that when using `ckpt_path`,",  # a callback that only reports was taken away
    r"You defined a `validation_step` but have no `val_dataloader`",  # a data set without a val split
    r"Total length of `list` across ranks is zero",  # the same
    r"It is recommended to use `self.log\('.*', ..., sync_dist=True\)`",  # the values are those of all processes
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own use of torch
)
"""Warnings of Lightning that say nothing to whoever trains, by their beginnings."""


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Within it, Lightning logs warnings and errors only (no tips, no hardware report), and the `NOISE` is left out."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in NOISE:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
