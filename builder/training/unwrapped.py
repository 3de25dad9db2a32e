"""An optimiser's steps without what PyTorch puts around them, where nothing listens to that. Private parts of PyTorch.

Labels for profilers, hooks of optimisers and marks for torch.compile take a thirteenth of the step of a small model.
The optimiser's own function is left as it is, and with it all bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim import optimizer as torchs

Closure = Callable[[], Any]


def _code(decorator: Callable[..., Any] | None) -> Any:
    """The code that a decorator puts around a function; None where this PyTorch hasn't got the decorator."""
    return None if decorator is None else getattr(decorator(lambda: None), "__code__", None)


LABEL = _code(getattr(Optimizer, "profile_hook_step", None))
NO_GRAD = _code(getattr(torchs, "_use_grad_for_differentiable", None))


class Unwrapped:
    """The steps of one optimiser. Wherever a hook, a profiler or an override listens, they are the optimiser's own."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._inner = _inner(optimizer)
        self._scheduled, self._no_grad = "step" in vars(optimizer), torch.no_grad()
        self._zeroes = type(optimizer).zero_grad is Optimizer.zero_grad and "zero_grad" not in vars(optimizer)
        names = (optimizer, "_optimizer_step_%s_hooks"), (torchs, "_global_optimizer_%s_hooks")
        self._hooks = [getattr(owner, name % when, True) for owner, name in names for when in ("pre", "post")]

    def step(self, closure: Closure) -> None:
        """`optimizer.step(closure)`."""
        if self._inner is None or self._is_heard():
            self.optimizer.step(closure)
            return
        if self._scheduled:
            self.optimizer._opt_called = True  # type: ignore[attr-defined]
        with self._no_grad:
            self._inner(self.optimizer, closure)

    def zero_grad(self) -> None:
        """`optimizer.zero_grad()`."""
        if not self._zeroes or torch.autograd._profiler_enabled():
            self.optimizer.zero_grad()
            return
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _is_heard(self) -> bool:
        """Whether anything listens to a step now."""
        return any(self._hooks) or torch.autograd._profiler_enabled()


def _inner(optimizer: Optimizer) -> Callable[..., Any] | None:
    """The function of `torch.optim` inside of `optimizer.step`; None if it is another, or differentiates itself."""
    step: Any = type(optimizer).step
    own = vars(optimizer).get("step", step)
    if own is not step and not (hasattr(own, "_wrapped_by_lr_sched") and own.__wrapped__ is step):
        return None
    for code in (LABEL, NO_GRAD):
        if code is None or getattr(step, "__code__", None) is not code:
            return None
        step = step.__wrapped__
    return None if optimizer.defaults.get("differentiable") else step
