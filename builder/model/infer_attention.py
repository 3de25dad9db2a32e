"""The shape of what attention returns: `infer_rules`, for scaled dot products."""

from __future__ import annotations

import torch
from torch import Tensor

from builder.model.infer_layout import KINDS, blank, broadcast, is_meta, is_number, is_share


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor | None:  # fmt: skip
    """The rule of attention: query (…, L, E), key (…, S, E) and value (…, S, D) give (…, L, D)."""
    if not all(map(is_meta, (query, key, value))) or not query.ndim == key.ndim == value.ndim or query.ndim < 3:
        return None
    fitting = query.dtype is key.dtype is value.dtype and _share_heads(query, key, enable_gqa)
    fitting = fitting and key.shape[:-1] == value.shape[:-1] and query.shape[-1] == key.shape[-1]
    scores = (*query.shape[:-1], key.shape[-2])
    if not fitting or not _is_mask(attn_mask, is_causal, scores, query.dtype):
        return None
    plain = is_share(dropout_p) and (scale is None or is_number(scale))
    return blank((*query.shape[:-1], value.shape[-1]), query.dtype) if plain else None


def _share_heads(query: Tensor, key: Tensor, grouped: bool) -> bool:
    """Whether each head of the query, (…, heads, L, E), has its own of the key, or if they are grouped, one of it."""
    if grouped is False:
        return query.shape[:-2] == key.shape[:-2]
    same = grouped is True and query.ndim == 4 and query.shape[0] == key.shape[0]
    return same and query.shape[1] % key.shape[1] == 0


def _is_mask(mask: Tensor | None, is_causal: bool, scores: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether attention takes a mask with scores of that shape."""
    if mask is None:
        return type(is_causal) is bool
    fitting = is_causal is False and type(mask) in KINDS and mask.is_meta and mask.dtype in (dtype, torch.bool)
    return fitting and mask.ndim >= 2 and broadcast(scores, mask.shape) == scores
