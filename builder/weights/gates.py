"""Gates of recurrent layers: the parts of one parameter that PyTorch stacks along its first dimension."""

from __future__ import annotations

import torch
from torch import nn

EACH = "each"
"""Stands for all gates, each by itself."""

LSTM_GATES = ("input", "forget", "cell", "output")
"""In PyTorch's order: `W_ii|W_if|W_ig|W_io` (documentation of `torch.nn.LSTM`)."""

GRU_GATES = ("reset", "update", "new")
"""In PyTorch's order: `W_ir|W_iz|W_in` (documentation of `torch.nn.GRU`)."""

GATES = tuple(dict.fromkeys((*LSTM_GATES, *GRU_GATES)))
"""All names of gates."""

STACKED = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""What the names of parameters that hold gates begin with."""


def gates_of(layer: nn.Module, name: str) -> tuple[str, ...]:
    """The gates that a parameter of a layer holds, in their order; none, if it holds none."""
    if not name.startswith(STACKED):
        return ()
    if isinstance(layer, nn.LSTM | nn.LSTMCell):
        return LSTM_GATES
    return GRU_GATES if isinstance(layer, nn.GRU | nn.GRUCell) else ()


def gates_in(tensor: torch.Tensor, known: tuple[str, ...], chosen: tuple[str, ...]) -> list[torch.Tensor]:
    """Views of the chosen gates of a stacked parameter, in the order in which they were chosen."""
    parts = dict(zip(known, tensor.chunk(len(known)), strict=True))
    return list(parts.values()) if chosen == (EACH,) else [parts[gate] for gate in chosen]
