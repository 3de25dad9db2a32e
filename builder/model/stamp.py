"""Makes a layer of PyTorch's like one that was made before, past the checks and registrations of its constructor."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as hooks

INITIALISED = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding,
)  # fmt: skip
"""The classes whose constructors give all values to their tensors, the drawn ones too, by `reset_parameters`."""

CONSTRUCTORS: dict[Any, Any] = {
    kind: kind.__init__  # type: ignore[misc]
    for kind in vars(nn).values()
    if isinstance(kind, type)
}
"""PyTorch's own constructors: another library may put one of its own in the place of one, which is called then."""

PLAIN = (int, float, bool, str, type(None))
TENSORS = ("_parameters", "_buffers")


@dataclass(frozen=True, slots=True)
class Stamp:
    """A layer without its tensors.

    `attributes` are all its attributes, in their order, of which those in `fresh` are made anew for each layer.
    """

    kind: type[nn.Module]
    attributes: dict[str, Any]
    fresh: tuple[tuple[str, Callable[[], Any]], ...]
    parameters: tuple[tuple[str, dict[str, Any] | None, bool], ...]
    buffers: tuple[tuple[str, dict[str, Any] | None], ...]

    def fill(self, module: nn.Module) -> None:
        """Give these attributes to a module that has none yet."""
        own = module.__dict__
        own.update(self.attributes)
        for name, make in self.fresh:
            own[name] = make()

    def make(self, draws: bool) -> nn.Module:
        """Such a layer; with initial values, if it draws any."""
        module = self.kind.__new__(self.kind)
        self.fill(module)
        tensors: dict[str, Any] = module._parameters
        for name, like, requires_grad in self.parameters:
            tensors[name] = None if like is None else nn.Parameter(_empty(draws, like), requires_grad)
        tensors = module._buffers
        for name, like in self.buffers:
            tensors[name] = None if like is None else _empty(draws, like)
        if draws and (self.parameters or self.buffers):
            module.reset_parameters()  # type: ignore[operator]
        return module


def stamp_of(module: nn.Module) -> Stamp | None:
    """The stamp of a layer that was just made; None, if another can't be made by it."""
    kind, own = type(module), module.__dict__
    if CONSTRUCTORS.get(kind) is not kind.__init__ or (_holds_tensors(module) and kind not in INITIALISED):
        return None
    fresh = {name: _copier(value) for name, value in own.items() if name not in TENSORS and not _is_plain(value)}
    tensors = [*module._parameters.values(), *module._buffers.values()]
    if None in fresh.values() or not all(x is None or type(x) in (nn.Parameter, torch.Tensor) for x in tensors):
        return None
    makers = [(name, make) for name, make in fresh.items() if make is not None]
    return Stamp(
        kind, {**own, **dict.fromkeys(TENSORS)}, (*makers, *((name, dict) for name in TENSORS)),
        tuple((name, _like(x), x is None or x.requires_grad) for name, x in module._parameters.items()),
        tuple((name, _like(x)) for name, x in module._buffers.items()),
    )  # fmt: skip


def begin(module: nn.Module) -> None:
    """What `nn.Module.__init__` does, in less time."""
    if _MODULE is not None and nn.Module.__init__ is CONSTRUCTORS[nn.Module]:
        _MODULE.fill(module)
    else:
        nn.Module.__init__(module)


def is_watched() -> bool:
    """Whether functions of a user's are to be called when a part of a module is registered."""
    return bool(
        hooks._global_module_registration_hooks
        or hooks._global_parameter_registration_hooks
        or hooks._global_buffer_registration_hooks
    )


def _holds_tensors(module: nn.Module) -> bool:
    return bool(module._parameters or module._buffers)


def _is_plain(value: Any) -> bool:
    return type(value) in PLAIN or (type(value) is tuple and all(map(_is_plain, value)))


def _copier(value: Any) -> Callable[[], Any] | None:
    """What makes such a value anew; None, if that isn't known."""
    if type(value) is list and all(map(_is_plain, value)):
        return value.copy
    return type(value) if type(value) in (dict, OrderedDict, set) and not value else None


def _like(x: torch.Tensor | None) -> dict[str, Any] | None:
    return None if x is None else {"size": tuple(x.shape), "dtype": x.dtype, "device": x.device}


def _empty(draws: bool, like: dict[str, Any]) -> torch.Tensor:
    if draws:
        return torch.empty(**like)
    with torch._C.DisableTorchFunction():  # nothing is to be learnt of a tensor without values
        return torch.empty(**like)


_MODULE = stamp_of(nn.Module())
