"""A scheduler's state by the names of the groups that it schedules."""

from __future__ import annotations

import functools
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

PER_GROUP = ("base_lrs", "_last_lr", "lr_lambdas", "max_lrs", "min_lrs", "base_momentums", "max_momentums")
"""Attributes of PyTorch's schedulers that have a value for each group."""


class ByGroup:
    """Mixed into a scheduler's class: state is saved with the groups' names, and loaded by them.

    A group that the state doesn't know keeps what the config gives it.
    """

    optimizer: Any

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's own state, and the names of the groups."""
        state: dict[str, Any] = super().state_dict()  # type: ignore[misc]
        return {**state, "group_names": _names(self)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; one without names as the class itself does."""
        state = dict(state_dict)
        then, now = state.pop("group_names", None), _names(self)
        if then is not None and then != now:
            for key in PER_GROUP:
                if key in state:
                    here = ByGroup.state_dict(self)[key]
                    state[key] = [
                        state[key][then.index(name)] if name in then else here[now.index(name)] for name in now
                    ]
        super().load_state_dict(state)  # type: ignore[misc]


def _names(scheduler: Any) -> list[str | None]:
    return [group.get("name") for group in scheduler.optimizer.param_groups]


@functools.cache
def by_group(scheduler: Any) -> Any:
    """The scheduler's class with state by group; anything that isn't a class of schedulers as it is."""
    if isinstance(scheduler, type) and issubclass(scheduler, LRScheduler):
        return type(scheduler.__name__, (ByGroup, scheduler), {"__module__": scheduler.__module__, "__doc__": None})
    return scheduler
