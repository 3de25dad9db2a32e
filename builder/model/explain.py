"""Where in the YAML a running model failed, and what was there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import FrameType

import torch

from builder.errors import DEFAULT, Origin, Path
from builder.model.classes import DefinedModule


@dataclass(frozen=True, slots=True)
class Explained:
    """The innermost line of a `forward` in YAML that an exception passed through, and the tensors it saw.

    `raised_at` is the line of the user's own Python that raised, where that is not PyTorch's.
    """

    origin: Origin
    path: Path
    values: tuple[str, ...]
    raised_at: str | None = None


def explain(error: BaseException) -> Explained:
    """What the traceback of an exception says about the model's YAML; empty where it passed through none of it."""
    found = Explained(DEFAULT, (), ())
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        module = frame.f_locals.get("self")
        if isinstance(module, DefinedModule):
            if frame.f_code is getattr(type(module).forward, "__code__", None) and module._recipe.text is not None:
                recipe = module._recipe
                known = recipe.origin.file is not None or recipe.origin.override is not None
                origin = Origin(recipe.origin.file, trace.tb_lineno, override=recipe.origin.override)
                origin = origin if known else DEFAULT
                found = Explained(origin, recipe.path, _tensors(frame))
        elif found.path and "site-packages" not in frame.f_code.co_filename:
            found = replace(found, raised_at=f"{frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return found


def _tensors(frame: FrameType) -> tuple[str, ...]:
    """The shapes of the local tensors of a frame, by name."""
    return tuple(
        f"{name}: {list(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"
        for name, value in frame.f_locals.items()
        if isinstance(value, torch.Tensor)
    )
