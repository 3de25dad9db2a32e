"""How functions of PyTorch are called while a model is on the meta device: without work that has no effect there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MethodDescriptorType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from builder.lang.guard import spend
from builder.model.infer_layout import blank
from builder.model.infer_rules import RULES, Rule
from builder.model.infer_windows import WINDOWS

RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
"""What LSTM, GRU and RNN call."""

STEPS_OF_A_CALL = 50
"""What a function of PyTorch costs of the steps that a model may take while it is checked."""

TAKEN_APART = (
    torch.unbind, torch.split, torch.chunk, torch.tensor_split,
    torch.Tensor.unbind, torch.Tensor.split, torch.Tensor.chunk, torch.Tensor.tensor_split,
)  # fmt: skip
"""What makes many tensors of one."""

ALL_RULES: Mapping[Callable[..., Any], Rule] = {**RULES, **WINDOWS}


FILLS = (torch.Tensor.fill_, torch.Tensor.zero_, torch.Tensor.normal_, torch.Tensor.uniform_)
"""What initialises a tensor in a constructor."""


class SkipInit(TorchFunctionMode):
    """Leaves out initialisers, which do nothing on the meta device, while a model is made there."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the tensor of an initialiser unchanged; else call."""
        kwargs = kwargs or {}
        if _initialises(func):
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if type(func) is MethodDescriptorType:  # a method of tensors makes no tensor on another device
            with torch._C.DisableTorchFunction():
                return args[0] if func in FILLS else func(*args, **kwargs)
        return func(*args, **kwargs)


def as_usual() -> AbstractContextManager[Any]:
    """Within it tensors are made and filled as if neither a device nor a mode were set around it."""
    return torch._C.DisableTorchFunction()


def _initialises(func: Callable[..., Any]) -> bool:
    return getattr(func, "__module__", None) == "torch.nn.init"


class Exploring(TorchFunctionMode):
    """Leaves out what costs time and does nothing on the meta device: initialisers, the steps of recurrent layers.

    Where no gradients are asked for, shapes that follow from a rule are not worked out by PyTorch. Each call is paid
    for with steps.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the tensor of an initialiser unchanged, one of the right shape where a rule tells it; else call."""
        kwargs = kwargs or {}
        spend(STEPS_OF_A_CALL + (_parts(func, *args, **kwargs) if func in TAKEN_APART else 0))
        rule = ALL_RULES.get(func)
        if rule is not None:
            found = by_rule(rule, args, kwargs)
            if found is not None:
                return found
        elif _initialises(func):
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        elif is_unrolled(func, args, kwargs):
            return _unrolled(*args)
        return func(*args, **kwargs)


def by_rule(rule: Rule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """What a rule says of a call; None if it says nothing, or if the call isn't one that the function takes."""
    if torch.is_grad_enabled():
        return None
    with torch._C.DisableTorchFunction():
        try:
            return rule(*args, **kwargs)
        except TypeError:  # arguments that the rule doesn't have
            return None


def _parts(func: Callable[..., Any], x: torch.Tensor, *args: Any, **kwargs: Any) -> int:
    """How many tensors come of taking one apart, at most."""
    dim = kwargs.get("dim", next(iter(args[0 if "unbind" in func.__name__ else 1 :]), 0))
    return int(x.shape[dim]) if isinstance(dim, int) and -x.ndim <= dim < x.ndim else 0


def is_unrolled(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether `Exploring` leaves out the steps of this call: a recurrent layer's, with a batch of sequences."""
    return func in RECURRENT and not kwargs and args[0].is_meta and args[0].ndim == 3


def _unrolled(x: torch.Tensor, state: Any, weights: Any, *options: Any) -> tuple[torch.Tensor, ...]:
    """What a recurrent layer gives for a batch of sequences and a first state; PyTorch would take it step by step."""
    states = state if isinstance(state, tuple | list) else (state,)
    bidirectional = options[4]
    with torch._C.DisableTorchFunction():
        output = blank((*x.shape[:2], states[0].shape[-1] * (2 if bidirectional else 1)), x.dtype)
        return output, *(blank(part.shape, part.dtype) for part in states)
