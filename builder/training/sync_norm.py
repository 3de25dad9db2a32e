"""BatchNorm whose statistics are those of the whole batch where several processes train on the CPU.

PyTorch's SyncBatchNorm is for GPUs only. The statistics are the same: of all samples of all processes.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning.plugins import LayerSync
from torch import Tensor, distributed, nn


class _Sum(torch.autograd.Function):
    """The sum over all processes; each adds its own part, so that the gradients are added up too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


class _Synced(nn.modules.batchnorm._BatchNorm):
    """What a BatchNorm becomes while its statistics are shared; its tensors stay its own."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalised values, of the shape [N, C, …] or [N, C] of `input`."""
        self._check_input_dim(input)
        uses_batch = self.training or self.running_mean is None
        if not uses_batch or not distributed.is_initialized() or distributed.get_world_size() == 1:
            return super().forward(input)
        dims = [0, *range(2, input.dim())]
        view = [1, -1, *[1] * (input.dim() - 2)]
        count = input.new_tensor(float(input.numel() // input.shape[1]))
        distributed.all_reduce(count)
        mean = _Sum.apply(input.sum(dims)) / count
        centred = input - mean.view(view)
        variance = _Sum.apply(centred.square().sum(dims)) / count
        if self.training:
            self._remember(mean.detach(), variance.detach() * count / (count - 1))
        normalised = centred * (variance + self.eps).rsqrt().view(view)
        if self.weight is None:
            return normalised
        return normalised * self.weight.view(view) + self.bias.view(view)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch, as BatchNorm does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _Synced1d(_Synced, nn.BatchNorm1d):
    pass


class _Synced2d(_Synced, nn.BatchNorm2d):
    pass


class _Synced3d(_Synced, nn.BatchNorm3d):
    pass


SYNCED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _Synced1d, nn.BatchNorm2d: _Synced2d, nn.BatchNorm3d: _Synced3d,
}  # fmt: skip


class SyncedNorms(LayerSync):
    """Shares the statistics of all BatchNorms of a model, for as long as Lightning trains it."""

    def apply(self, model: nn.Module) -> nn.Module:
        """The model with shared statistics; its modules stay the same objects."""
        return _changed(model, SYNCED)

    def revert(self, model: nn.Module) -> nn.Module:
        """The model as it was."""
        return _changed(model, {synced: plain for plain, synced in SYNCED.items()})


def _changed(model: nn.Module, classes: dict[type[nn.Module], type[nn.Module]]) -> nn.Module:
    for module in model.modules():
        if type(module) in classes:
            module.__class__ = classes[type(module)]
    return model
