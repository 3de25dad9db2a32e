"""Changes gradients: clips, scales, zeroes them, adds noise that is a function of where it is added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from builder.hashing import derive
from builder.training.hooks.rules import Rule


def change_all(rule: Rule, parameters: Mapping[str, nn.Parameter], seed: int, step: int) -> None:
    """Change the gradients of parameters in place; a norm is that of all of them together."""
    held = {name: parameter for name, parameter in parameters.items() if parameter.grad is not None}
    if rule.action == "clip" and "norm" in rule.value:
        nn.utils.clip_grad_norm_(list(held.values()), rule.value["norm"])
        return
    for name, parameter in held.items():
        assert parameter.grad is not None
        parameter.grad.copy_(changed(rule, parameter.grad, (seed, "hooks", rule.name, step, name)))


def changed(rule: Rule, gradient: Tensor, place: tuple[int | str, ...]) -> Tensor:
    """A gradient as the rule says; noise is drawn by a generator that is seeded with `place` alone."""
    if rule.action == "zero":
        return torch.zeros_like(gradient)
    if rule.action == "scale":
        return gradient * rule.value
    if rule.action == "noise":
        return gradient + rule.value["std"] * _noise(gradient, place)
    bound: Any = rule.value
    if "value" in bound:
        return gradient.clamp(-bound["value"], bound["value"])
    norm = torch.linalg.vector_norm(gradient)
    return gradient * torch.clamp(bound["norm"] / (norm + 1e-6), max=1.0)  # as torch.nn.utils.clip_grad_norm_


def _noise(like: Tensor, place: tuple[int | str, ...]) -> Tensor:
    generator = torch.Generator(like.device).manual_seed(derive(*place))
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
