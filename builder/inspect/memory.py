"""What training a model takes of a device's memory, estimated without having it there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; None for what isn't known.

    `weights` are parameters and buffers, `gradients` those of all trainable parameters, `optimizer_state` what the
    optimiser keeps after its first step, `activations` the tensors that autograd keeps from one forward pass, inputs
    among them. What kernels use while they run, and the allocator's rounding, are not counted.
    """

    weights: int
    gradients: int
    optimizer: str
    optimizer_state: int | None
    activations: int | None

    @property
    def total(self) -> int:
        """All that is known."""
        return self.weights + self.gradients + (self.optimizer_state or 0) + (self.activations or 0)


def memory(model: nn.Module, optimizer: Optimizer | None, activations: int | None) -> Memory:
    """The memory of a model on the meta device; nothing is trained where there is no optimiser."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Memory(
        weights=_bytes((*model.parameters(), *model.buffers())),
        gradients=_bytes(trainable),
        optimizer="" if optimizer is None else " and ".join(_types(optimizer)),
        optimizer_state=0 if optimizer is None else optimizer_state_bytes(optimizer),
        activations=activations,
    )


def _types(optimizer: Optimizer) -> list[str]:
    """The types of an optimiser's groups, each once; that of one whose groups say none is its own."""
    return list(dict.fromkeys(group.get("type", type(optimizer).__name__) for group in optimizer.param_groups))


def optimizer_state_bytes(optimizer: Optimizer) -> int | None:
    """The bytes that an optimiser of parameters on the meta device keeps, found by a step there.

    Of the parameters of a group that have one shape and dtype only one takes that step, since all keep as much.
    None for an optimiser whose step needs values (ASGD, Adafactor) or a closure (LBFGS).
    """
    alike: dict[Any, list[Tensor]] = {}
    for index, group in enumerate(optimizer.param_groups):
        group.update({key: False for key in ("fused", "capturable") if group.get(key)})  # kernels that need a device
        for parameter in group["params"]:
            alike.setdefault((index, parameter.shape, parameter.dtype), []).append(parameter)
    stepping = [parameters[0] for parameters in alike.values()]
    for parameter in stepping:
        parameter.grad = torch.empty_like(parameter)
    try:
        with torch.no_grad():
            optimizer.step()
    except Exception:  # whatever an optimiser, a user's among them, can't do on the meta device
        return None
    finally:
        for parameter in stepping:
            parameter.grad = None
    return sum(len(parameters) * _state_bytes(optimizer, parameters[0]) for parameters in alike.values())


def _state_bytes(optimizer: Optimizer, parameter: Tensor) -> int:
    return _bytes(value for value in optimizer.state[parameter].values() if isinstance(value, Tensor))


def _bytes(tensors: Iterable[Tensor]) -> int:
    """The bytes of tensors, each once."""
    return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in tensors}.values())
