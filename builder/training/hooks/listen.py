"""Listens to modules for a batch: their outputs, and the gradients of the loss with respect to these.

Gradients are heard by hooks of the output tensors, not by `register_full_backward_hook`: what they hear is the same,
but that one puts a function into the graph after which PyTorch refuses activations in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Heard = Callable[[str, int, Tensor], Tensor | None]
"""Is told a name, how often that was heard before in the batch, and the tensor; may give another for it."""


class Listener:
    """The hooks on modules that are there for the batch at hand."""

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    def outputs(self, name: str, module: nn.Module, heard: Callable[[str, Any], Any]) -> None:
        """Tell each output of a module, as it is; what `heard` gives, if anything, stands in its place."""

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            return heard(name, output)

        self._handles.append(module.register_forward_hook(hook))

    def tensors(self, name: str, module: nn.Module, heard: Heard) -> None:
        """Tell each floating-point tensor that a module gives."""
        count = _Count()

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for key, tensor in named_tensors(output, name):
                if tensor.is_floating_point():
                    heard(key, count.next(key), tensor)

        self._handles.append(module.register_forward_hook(hook))

    def gradients(self, name: str, module: nn.Module, heard: Heard) -> None:
        """Tell the gradient with respect to each tensor that a module gives."""
        count = _Count()

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for key, tensor in named_tensors(output, name):
                if tensor.requires_grad:
                    self._hear(tensor, key, count.next(key), heard)

        self._handles.append(module.register_forward_hook(hook))

    def shapes(self, name: str, module: nn.Module, heard: Callable[[str, Any, Any], None]) -> None:
        """Tell what goes into a module and what comes out."""

        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            heard(name, (args, kwargs), output)

        self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def stop(self) -> None:
        """Leave the modules as they were."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _hear(self, tensor: Tensor, name: str, index: int, heard: Heard) -> None:
        self._handles.append(tensor.register_hook(lambda gradient: heard(name, index, gradient)))


class _Count:
    """Counts how often each name was heard."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def next(self, name: str) -> int:
        """How often before."""
        count = self._counts.get(name, 0)
        self._counts[name] = count + 1
        return count


def named_tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in a value, each with the keys and numbers that lead to it after `name`."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from named_tensors(item, f"{name}.{key}" if name else str(key))
