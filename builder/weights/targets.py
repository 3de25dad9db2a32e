"""The tensors of a model that weights can be loaded into: parameters and persistent buffers, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

COUNTER = "num_batches_tracked"
EXTRA = "_extra_state"
COUNTER_VERSION = 2
"""The version of the state dict of a BatchNorm since which it has that counter."""


@dataclass(frozen=True, slots=True)
class Target:
    """One tensor of a model: its name, the module that owns it, and all names of it; tied ones have several."""

    name: str
    tensor: Tensor
    owner: nn.Module | None
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.shape)

    @property
    def first(self) -> str:
        """The name that stands for all of them."""
        return self.names[0]

    @property
    def is_parameter(self) -> bool:
        """Whether it is trained, which a buffer isn't."""
        return isinstance(self.tensor, nn.Parameter)


def targets_of(model: nn.Module) -> dict[str, Target]:
    """All tensors that the model's state dict has, by name, a tied one under each of its names; on any device.

    What `get_extra_state` gives isn't among them: it isn't what the module holds.
    """
    state: Mapping[str, object] = model.state_dict(keep_vars=True)
    tensors = {
        name: value for name, value in state.items()
        if isinstance(value, Tensor) and name.rpartition(".")[2] != EXTRA
    }  # fmt: skip
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    modules = dict(model.named_modules(remove_duplicate=False))
    return {
        name: Target(name, tensor, modules.get(name.rpartition(".")[0]), tuple(names[id(tensor)]))
        for name, tensor in tensors.items()
    }


def is_newer_counter(target: Target, version: int | None) -> bool:
    """Whether a tensor may be missing from a file because BatchNorm had none when it was written.

    `version` is that of the module in the file. PyTorch's own rule: the counter was added in version 2, a file that
    says no version has an older one, and the counter then stays as it is.
    """
    is_counter = target.name.rpartition(".")[2] == COUNTER and isinstance(target.owner, _NormBase)
    return is_counter and (version is None or version < COUNTER_VERSION)
