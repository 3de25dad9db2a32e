"""Several optimisers as one, for parameters that not all can be trained by the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer


class Combined(Optimizer):
    """Steps each of `optimizers`, in their order; its groups are theirs, and its state holds theirs.

    Groups and state are shared with them, so that schedulers, gradient clipping and checkpoints see one optimiser.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([group for each in optimizers for group in each.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let the optimisers work on the groups and the state that this one has."""
        start = 0
        for optimizer in self.optimizers:
            end = start + len(optimizer.param_groups)
            optimizer.param_groups, optimizer.state = self.param_groups[start:end], self.state
            start = end

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of each; `closure` is called once, before them, and its result returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of all."""
        super().load_state_dict(state_dict)
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Only while it is made: a group added later would belong to none of the optimisers."""
        if self.param_groups and len(self.param_groups) >= sum(len(each.param_groups) for each in self.optimizers):
            raise NotImplementedError("a group can't be added to several optimisers at once")
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "optimizers": self.optimizers}
