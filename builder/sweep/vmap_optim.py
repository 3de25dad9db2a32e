"""SGD, Adam and AdamW for several models at once, each with rates of its own; what others do, they do one by one.

The formulas are those of PyTorch's documentation (`torch.optim.SGD`, `Adam`, `AdamW`), which follow Sutskever et al.
2013, Kingma and Ba 2015 (arXiv:1412.6980) and Loshchilov and Hutter 2019 (arXiv:1711.05101).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

Tensors = dict[str, Tensor]
Rates = Mapping[str, Mapping[str, Tensor]]
"""Numbers of groups by parameter and name, each of shape [T] for T models."""
KEYS = {
    SGD: ("lr", "momentum", "dampening", "weight_decay"),
    Adam: ("lr", "beta1", "beta2", "eps", "weight_decay"),
    AdamW: ("lr", "beta1", "beta2", "eps", "weight_decay"),
}
"""The numbers that a step of each uses."""


def has_rule(optimizers: Sequence[Optimizer]) -> bool:
    """Whether these step together: all of one type here, with no other options than numbers."""
    kind = type(optimizers[0])
    if kind not in KEYS or any(type(one) is not kind for one in optimizers):
        return False
    groups = [group for one in optimizers for group in one.param_groups]
    nesterov = {group.get("nesterov", False) for group in groups}
    return len(nesterov) == 1 and not any(group.get("amsgrad") or group.get("maximize") for group in groups)


def rates_of(optimizers: Sequence[Optimizer], names: Mapping[int, Mapping[int, str]]) -> dict[str, dict[str, Tensor]]:
    """The numbers as they are now; `names` says the parameter of each place in each group."""
    found: dict[str, dict[str, Tensor]] = {}
    for number, places in names.items():
        groups = [_numbers(one.param_groups[number]) for one in optimizers]
        columns = {key: torch.tensor([float(group[key]) for group in groups], dtype=torch.float64)
                   for key in KEYS[type(optimizers[0])]}  # fmt: skip
        found.update(dict.fromkeys(places.values(), columns))
    return found


def _numbers(group: Mapping[str, Any]) -> dict[str, Any]:
    beta1, beta2 = group.get("betas", (0.0, 0.0))
    return {**group, "beta1": beta1, "beta2": beta2}


def state_of(kind: type[Optimizer], params: Tensors) -> dict[str, Tensors]:
    """The state before the first step."""
    kept = ("momentum",) if kind is SGD else ("mean", "square")
    return {key: {name: torch.zeros_like(value) for name, value in params.items()} for key in kept}


Step = Callable[[Tensors, Tensors, dict[str, Tensors], Rates, Tensor], tuple[Tensors, dict[str, Tensors]]]
"""New parameters and state, of parameters, gradients, state, rates, and the step's number from 1 (a number)."""


def step_of(optimizers: Sequence[Optimizer]) -> Step:
    """The step of optimisers that have a rule."""
    kind = type(optimizers[0])
    if kind is SGD:
        nesterov = bool(optimizers[0].param_groups[0]["nesterov"])
        return lambda *parts: _sgd(*parts, nesterov=nesterov)
    return lambda *parts: _adam(*parts, decoupled=kind is AdamW)


def _wide(value: Tensor, like: Tensor) -> Tensor:
    """Numbers [T] as [T, 1, …], to go with a tensor [T, …]."""
    return value.to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))


def _sgd(
    params: Tensors, grads: Tensors, state: dict[str, Tensors], rates: Rates, number: Tensor, *, nesterov: bool
) -> tuple[Tensors, dict[str, Tensors]]:
    new, buffers = {}, {}
    for name, value in params.items():
        rate = rates[name]
        lr, momentum, decay = (_wide(rate[key], value) for key in ("lr", "momentum", "weight_decay"))
        grad = grads[name] + decay * value
        # The first step's buffer is the gradient itself; without momentum there is none.
        damped = torch.where(number > 1, 1 - rate["dampening"], torch.ones_like(rate["dampening"]))
        damped = torch.where(rate["momentum"] == 0, torch.ones_like(damped), damped)
        buffers[name] = momentum * state["momentum"][name] + _wide(damped, value) * grad
        new[name] = value - lr * (grad + momentum * buffers[name] if nesterov else buffers[name])
    return new, {"momentum": buffers}


def _adam(
    params: Tensors, grads: Tensors, state: dict[str, Tensors], rates: Rates, number: Tensor, *, decoupled: bool
) -> tuple[Tensors, dict[str, Tensors]]:
    new, means, squares = {}, {}, {}
    for name, value in params.items():
        rate = rates[name]
        lr, decay, eps = (_wide(rate[key], value) for key in ("lr", "weight_decay", "eps"))
        beta1, beta2 = _wide(rate["beta1"], value), _wide(rate["beta2"], value)
        grad = grads[name] if decoupled else grads[name] + decay * value
        start = value * (1 - lr * decay) if decoupled else value
        means[name] = state["mean"][name] + (1 - beta1) * (grad - state["mean"][name])
        squares[name] = state["square"][name] * beta2 + (1 - beta2) * grad * grad
        size = _wide(rate["lr"] / (1 - rate["beta1"] ** number), value)
        root = _wide((1 - rate["beta2"] ** number).sqrt(), value)
        new[name] = start - size * means[name] / (squares[name].sqrt() / root + eps)
    return new, {"mean": means, "square": squares}


def clipped(grads: Tensors, largest: float) -> Tensors:
    """The gradients with each model's norm at most `largest` (as `torch.nn.utils.clip_grad_norm_` bounds it)."""
    squares = [grad.flatten(1).square().sum(dim=1) for grad in grads.values()]
    norm = torch.stack(squares).sum(dim=0).sqrt()
    share = (largest / (norm + 1e-6)).clamp(max=1.0)
    return {name: grad * _wide(share, grad) for name, grad in grads.items()}
