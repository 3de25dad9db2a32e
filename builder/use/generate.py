"""Text that a language model goes on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from builder.optional import require

Logits = Callable[[Tensor], Tensor]
"""From ids [B, T] to the logits [B, T, V] of those that follow."""


def continued(
    logits: Logits, ids: Tensor, count: int, *, context: int, temperature: float = 1.0, seed: int | None = None
) -> Tensor:
    """The ids [count] that follow `ids` [T], one after the other.

    Args:
        logits: the model.
        ids: what is gone on with, int64; empty for nothing.
        count: how many.
        context: of how many ids at most the model is shown the last.
        temperature: by which logits are divided before one is drawn.
        seed: of the drawing; None: the most likely id is taken.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    known = ids.tolist()
    for _ in range(count):
        last = logits(torch.tensor([known[-context:]], dtype=torch.int64))[0, -1].float().cpu()
        if generator is None:
            known.append(int(last.argmax()))
        else:
            shares = (last / temperature).softmax(0)
            known.append(int(torch.multinomial(shares, 1, generator=generator)))
    return torch.tensor(known[len(ids) :], dtype=torch.int64)


def text_of(state: Mapping[str, Any], ids: Tensor) -> str:
    """The text that ids stand for, by the state that `Text` left with a run."""
    numbers = ids.tolist()
    if state["level"] == "bytes":
        return bytes(numbers).decode("utf-8", "replace")
    if state["level"] == "characters":
        return "".join(state["characters"][number] for number in numbers)
    tokenizer: Any = require("tokenizers", "text", "a tokenizer's file").Tokenizer.from_str(state["tokenizer"])
    text: str = tokenizer.decode(numbers)
    return text
