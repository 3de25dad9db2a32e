"""What is odd about the values that were loaded: NaN, infinities, and what a conversion made infinite."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from builder.weights.wording import listed


@dataclass
class Odd:
    """Names of tensors with odd values, as they are found."""

    nan: list[str] = field(default_factory=list)
    infinite: list[str] = field(default_factory=list)
    overflown: list[str] = field(default_factory=list)

    def note(self, name: str, source: Tensor, tensor: Tensor) -> None:
        """Look at a tensor after it was copied; takes a pass over it, and no memory."""
        found = extremes(tensor)
        if found is None or bool(found.isfinite().all()):
            return
        if bool(found.isnan().any()):
            self.nan.append(name)
        elif _is_finite(source):
            self.overflown.append(name)
        elif isinstance(tensor, nn.Parameter):  # a mask, which is a buffer, may well have them
            self.infinite.append(name)

    def notes(self) -> list[str]:
        """What to tell the user."""
        said = {
            "values that the model's dtype can't hold became infinite": self.overflown,
            "there is NaN in": self.nan,
            "there are infinite values in": self.infinite,
        }
        return [f"{what}: {listed(names)}" for what, names in said.items() if names]


def _is_finite(tensor: Tensor) -> bool:
    found = extremes(tensor)
    return found is None or bool(found.isfinite().all())


def extremes(tensor: Tensor) -> Tensor | None:
    """The least and the greatest number of a tensor, both NaN if it has one; None if it has no floating point."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if not tensor.is_floating_point() or not tensor.numel():
        return None
    wide = tensor.detach().to(torch.float16) if tensor.dtype.itemsize == 1 else tensor.detach()
    return torch.stack(torch.aminmax(wide))
