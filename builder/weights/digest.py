"""SHA-256 of files of weights, so that a report says which bytes were loaded; and of tensors, whatever holds them."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import torch

from builder.weights.entries import WeightsError

BLOCK = 1 << 20
"""Bytes that are in memory at a time."""


def sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a file, in hex.

    Raises:
        WeightsError: it can't be read.
    """
    digest, block = hashlib.sha256(), bytearray(BLOCK)
    view = memoryview(block)
    try:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(block):
                digest.update(view[:count])
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def tensors_sha256(weights: Mapping[str, Any]) -> str:
    """The SHA-256 of the tensors of a state dict, in hex: of names, dtypes, shapes and bits, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name]
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
