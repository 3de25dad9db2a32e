"""SGD, Adam and AdamW for several models at once, each with rates of its own; what others do, they do one by one.

The formulas are those of PyTorch's documentation (`torch.optim.SGD`, `Adam`, `AdamW`), which follow Sutskever et al.
2013, Kingma and Ba 2015 (arXiv:1412.6980) and Loshchilov and Hutter 2019 (arXiv:1711.05101).

What depends on a model's numbers and on the step alone is computed beside the step, once for a whole group: within it
it would be computed again for every element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

Tensors = dict[str, Tensor]
State = dict[str, Tensors]
KINDS = (SGD, Adam, AdamW)
Step = Callable[[Tensors, Tensors, State, Sequence[Tensor]], None]
"""Changes parameters and state in place, given gradients and the numbers of each group."""


def has_rule(optimizers: Sequence[Optimizer]) -> bool:
    """Whether these step together: all of one type here, with no other options than numbers."""
    kind = type(optimizers[0])
    if kind not in KINDS or any(type(one) is not kind for one in optimizers):
        return False
    groups = [group for one in optimizers for group in one.param_groups]
    nesterov = {group.get("nesterov", False) for group in groups}
    return len(nesterov) == 1 and not any(group.get("amsgrad") or group.get("maximize") for group in groups)


def numbers_of(optimizers: Sequence[Optimizer], number: int, like: Tensor) -> list[Tensor]:
    """What the step `number` (from 1) takes of each group: a tensor [K, T] for T models, in the dtype of `like`."""
    of = _numbers_of_sgd if type(optimizers[0]) is SGD else _numbers_of_adam
    decoupled = type(optimizers[0]) is AdamW
    by_group = zip(*(one.param_groups for one in optimizers), strict=True)
    found = [[of(group, number, decoupled) for group in groups] for groups in by_group]
    return [torch.tensor(rows, dtype=like.dtype, device=like.device).T.contiguous() for rows in found]


def _numbers_of_sgd(group: Mapping[str, Any], number: int, decoupled: bool) -> list[float]:
    momentum = float(group["momentum"])
    # The first step's buffer is the gradient itself; without momentum there is none.
    taken = 1.0 if number == 1 or momentum == 0 else 1.0 - group["dampening"]
    return [float(group["lr"]), momentum, float(group["weight_decay"]), taken]


def _numbers_of_adam(group: Mapping[str, Any], number: int, decoupled: bool) -> list[float]:
    (beta1, beta2), lr, decay = map(float, group["betas"]), float(group["lr"]), float(group["weight_decay"])
    size, root = lr / (1 - beta1**number), (1 - beta2**number) ** 0.5
    decays = 1 - lr * decay if decoupled else decay
    return [decays, 1 - beta1, beta2, 1 - beta2, size, root, float(group["eps"])]


def state_of(kind: type[Optimizer], params: Tensors) -> State:
    """The state before the first step."""
    kept = ("momentum",) if kind is SGD else ("mean", "square")
    return {key: {name: torch.zeros_like(value) for name, value in params.items()} for key in kept}


def step_of(optimizers: Sequence[Optimizer], groups: Mapping[str, int]) -> Step:
    """The step of optimisers that have a rule; `groups` says the group of each parameter."""
    kind = type(optimizers[0])
    nesterov = bool(optimizers[0].param_groups[0].get("nesterov"))

    def step(params: Tensors, grads: Tensors, state: State, numbers: Sequence[Tensor]) -> None:
        for name, value in params.items():
            wide = [row.reshape(-1, *[1] * (value.dim() - 1)) for row in numbers[groups[name]].unbind()]
            own = [kept[name] for kept in state.values()]
            if kind is SGD:
                _sgd(value, grads[name], *own, *wide, nesterov=nesterov)
            else:
                _adam(value, grads[name], *own, *wide, decoupled=kind is AdamW)

    return step


def _sgd(
    value: Tensor, grad: Tensor, buffer: Tensor, lr: Tensor, momentum: Tensor, decay: Tensor, taken: Tensor,
    *, nesterov: bool,
) -> None:  # fmt: skip
    grad = grad + decay * value
    buffer.copy_(momentum * buffer + taken * grad)
    value.sub_(lr * (grad + momentum * buffer if nesterov else buffer))


def _adam(
    value: Tensor, grad: Tensor, mean: Tensor, square: Tensor, decay: Tensor, rate1: Tensor, beta2: Tensor,
    rate2: Tensor, size: Tensor, root: Tensor, eps: Tensor, *, decoupled: bool,
) -> None:  # fmt: skip
    if decoupled:
        value.mul_(decay)
    else:
        grad = grad + decay * value
    mean.lerp_(grad, rate1)
    square.mul_(beta2).addcmul_(rate2 * grad, grad)
    value.addcdiv_(-size * mean, (square.sqrt() / root).add_(eps))


def clipped(grads: Tensors, largest: float) -> Tensors:
    """The gradients with each model's norm at most `largest` (as `torch.nn.utils.clip_grad_norm_` bounds it)."""
    squares = [grad.flatten(1).square().sum(dim=1) for grad in grads.values()]
    norm = torch.stack(squares).sum(dim=0).sqrt()
    share = (largest / (norm + 1e-6)).clamp(max=1.0)
    return {name: grad * share.reshape(-1, *[1] * (grad.dim() - 1)) for name, grad in grads.items()}
