"""What training a model takes of a device's memory, estimated without having it there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
        optimizer="" if optimizer is None else type(optimizer).__name__,
        optimizer_state=0 if optimizer is None else optimizer_state_bytes(optimizer),
        activations=activations,
    )


def optimizer_state_bytes(optimizer: Optimizer) -> int | None:
    """The bytes that an optimiser of parameters on the meta device keeps, found by a step there.

    None for one whose step needs values (ASGD, Adafactor) or a closure (LBFGS).
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    try:
        with torch.no_grad():
            optimizer.step()
    except Exception:  # whatever an optimiser, a user's among them, can't do on the meta device
        return None
    finally:
        for parameter in parameters:
            parameter.grad = None
    state = [value for values in optimizer.state.values() for value in values.values()]
    return _bytes(value for value in state if isinstance(value, Tensor))


def _bytes(tensors: Iterable[Tensor]) -> int:
    """The bytes of tensors, each once."""
    return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in tensors}.values())
