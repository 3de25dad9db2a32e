"""Measures a forward pass on the meta device: the FLOPs of each module, and what autograd keeps to go backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from builder.model.infer import is_unrolled

GATES = {torch.lstm: 4, torch.gru: 3, torch.rnn_tanh: 1, torch.rnn_relu: 1}
"""Rows of a recurrent layer's matrices for each hidden unit."""

SAVED_PER_STEP = {torch.lstm: 7, torch.gru: 7, torch.rnn_tanh: 1, torch.rnn_relu: 1}
"""Values that PyTorch's own kernels keep for each step and hidden unit; oneDNN's and cuDNN's differ."""


class Meter:
    """FLOPs and saved tensors of a run of `model`, to be given to `rerun`.

    FLOPs are those of `torch.utils.flop_counter`: matrix products, convolutions and attention, a multiply-add counted
    as 2. `flops` and `calls` are by module path, all calls of a module and of what lies in it together.
    """

    def __init__(self, model: nn.Module) -> None:
        self.flops: dict[str, int] = {}
        self.calls: dict[str, int] = {}
        self._weights = [tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers())]
        self._known = set(map(id, self._weights))
        self._saved: dict[int, torch.UntypedStorage] = {}
        self._extra_flops = self._extra_bytes = 0
        self._running: list[int] = []
        self._counter = FlopCounterMode(display=False, custom_mapping=PRODUCTS)
        self._stack = ExitStack()

    def __enter__(self) -> Meter:
        for context in (self._counter, saved_tensors_hooks(self.keep, lambda tensor: tensor), _Kernels(self)):
            self._stack.enter_context(context)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    @property
    def total_flops(self) -> int:
        """FLOPs of all that has run."""
        return self._counter.get_total_flops() + self._extra_flops

    @property
    def saved_bytes(self) -> int:
        """Bytes of all that is kept for the backward pass, parameters and buffers not counted."""
        return sum(storage.nbytes() for storage in self._saved.values()) + self._extra_bytes

    def enter(self, path: str) -> None:
        """The module at that path is called."""
        self._running.append(self.total_flops)

    def leave(self, path: str) -> None:
        """It returned."""
        self.flops[path] = self.flops.get(path, 0) + self.total_flops - self._running.pop()
        self.calls[path] = self.calls.get(path, 0) + 1

    def add(self, flops: int, saved: int = 0) -> None:
        """Count what the operations don't show."""
        self._extra_flops += flops
        self._extra_bytes += saved

    def keep(self, tensor: Tensor) -> Tensor:
        """Count a tensor among those that are kept, once."""
        storage = tensor.untyped_storage()
        if id(storage) not in self._known:
            self._saved[id(storage)] = storage  # held, so that its identity isn't used again
        return tensor


def _matvec(matrix: Any, vector: Any, *_: Any, **__: Any) -> int:
    return 2 * int(matrix[0] * matrix[1])


def _addmv(_: Any, matrix: Any, vector: Any, *__: Any, **___: Any) -> int:
    return _matvec(matrix, vector)


def _dot(a: Any, b: Any, *_: Any, **__: Any) -> int:
    return 2 * int(a[0])


PRODUCTS = {torch.ops.aten.mv: _matvec, torch.ops.aten.addmv: _addmv, torch.ops.aten.dot: _dot}
"""Products that `torch.utils.flop_counter` leaves out; they are given shapes."""


class _Kernels(TorchFunctionMode):
    """Counts as one what a device runs as one: attention, whose scores are not kept, and recurrent layers."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self.meter = meter

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run attention and recurrent layers as kernels; call all else."""
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            return _attention(self.meter, *args, **kwargs)
        if is_unrolled(func, args, kwargs):
            return _recurrence(self.meter, func, args)
        return func(*args, **kwargs)


def _attention(
    meter: Meter, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **__: Any
) -> Tensor:
    """Scaled dot-product attention: query (…, L, E), key (…, S, E) and value (…, S, D) give (…, L, D)."""
    rows = query.shape[:-1].numel()
    meter.add(2 * rows * key.shape[-2] * (query.shape[-1] + value.shape[-1]))
    result: Tensor = _Attention.apply(query, key, value, attn_mask)
    return result


class _Attention(torch.autograd.Function):
    """What FlashAttention keeps: its inputs, its output, and one number a row (Dao et al. 2022, arXiv:2205.14135)."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        *batches, length, _ = query.shape
        # as the kernels lay it out: heads beside features
        output = query.new_empty(*batches[:-1], length, *batches[-1:], value.shape[-1])
        output = output.transpose(-3, -2) if batches else output
        rows = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(*(tensor for tensor in (query, key, value, mask, output, rows) if tensor is not None))
        return output

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Any) -> Any:
        """Never called: on the meta device there is nothing to compute."""
        raise NotImplementedError


def _recurrence(meter: Meter, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """A recurrent layer: each of its matrices is used once for each step of each sequence."""
    x, state, weights, _, num_layers, _, _, bidirectional, _ = args
    steps = x.shape[0] * x.shape[1]
    directions = 2 if bidirectional else 1
    meter.add(2 * steps * sum(weight.numel() for weight in weights if weight.ndim == 2))
    outputs = func(*args)
    if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in (x, *weights)):
        return outputs
    first = weights[:: len(weights) // (num_layers * directions)]  # input-to-hidden, for each layer and direction
    hidden = sum(weight.shape[0] // GATES[func] for weight in first)
    between = sum(weight.shape[1] for weight in first[directions::directions])
    for tensor in (x, *(state if isinstance(state, tuple | list) else (state,))):
        meter.keep(tensor)
    meter.add(0, steps * (SAVED_PER_STEP[func] * hidden + between) * x.element_size())
    return tuple(output.requires_grad_() for output in outputs)
