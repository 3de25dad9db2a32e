"""SHA-256 of files of weights, so that a report says which bytes were loaded."""

from __future__ import annotations

import hashlib
import pathlib

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
