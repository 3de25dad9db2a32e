"""Brings new samples into the form in which a model was trained on, by the state that a data set left with its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from builder.data.arrays import apply_arrays
from builder.data.changes import chain_of
from builder.data.facts import ArgumentError
from builder.data.images import apply_images
from builder.data.sequences import apply_sequences
from builder.data.table import apply_table
from builder.data.text import apply_text


def apply(state: Mapping[str, Any], given: Any) -> dict[str, Tensor]:
    """The batch that a model takes, of new samples, after the transforms of evaluation.

    Args:
        state: `Data.state` of the run, or what JSON made of it.
        given: for Table the path of a file with the same columns (the target may be missing), for ImageFolder that of
            a picture or a folder, for Arrays that of a file; for Text a text, for Sequences lists of tokens, for
            SklearnDataset rows of numbers.

    Raises:
        Refusal: what was given isn't of that form.
    """
    batch = _read(state, given)
    return chain_of(state.get("transforms", ()))(batch, Generator().manual_seed(0))


def _read(state: Mapping[str, Any], given: Any) -> dict[str, Tensor]:
    match state["type"]:
        case "Table":
            return apply_table(state, given)
        case "ImageFolder":
            return apply_images(state, given)
        case "Arrays":
            return apply_arrays(state, given)
        case "Sequences":
            return apply_sequences(state, given)
        case "Text":
            return {"ids": apply_text(state, given)[None]}
        case "SklearnDataset":
            mean, std = (torch.as_tensor(state[key], dtype=torch.float64) for key in ("mean", "std"))
            return {"x": ((torch.as_tensor(given, dtype=torch.float64) - mean) / std).float()}
    raise ArgumentError("type", "nothing is known of how new samples are read", found=state["type"])
