"""A model in shards over several devices: PyTorch's FSDP2, by Lightning's ModelParallelStrategy.

The model is made on the meta device. The first process makes its values besides, in main memory; each parameter goes
from there to all, which keep their part of it, before the next one follows. So no device ever holds more than its own
part and one whole parameter, and the initial bits are those of a model that isn't sharded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Path
from builder.select import NamedModel, read_selector
from builder.training.sync_norm import SyncedNorms

NAME = "fsdp2"
"""What `trainer.strategy` calls it; Lightning's `fsdp` is the older one."""


@dataclass(frozen=True, slots=True)
class Sharding:
    """Which modules are gathered together when they are needed, inner ones first; what is in none, with the whole.

    `synced` shares the statistics of BatchNorm, which Lightning leaves out for this strategy. `values` is the model
    with its initial values, in the first process; None in all others.
    """

    groups: tuple[str, ...]
    synced: bool = False
    values: nn.Module | None = None

    def shard(self, model: nn.Module, mesh: DeviceMesh, device: torch.device) -> None:
        """Shard a model of the meta device over a mesh of one dimension, and give it its values."""
        if self.synced:
            SyncedNorms().apply(model)
        for name in self.groups:
            fully_shard(model.get_submodule(name), mesh=mesh)
        fully_shard(model, mesh=mesh)
        model.to_empty(device=device)
        sources = {} if self.values is None else {**_named(self.values)}
        with torch.no_grad():
            for name, tensor in _named(model).items():
                _receive(tensor, sources.get(name), device)


def strategy() -> ModelParallelStrategy:
    """The strategy that shards over all processes and writes whole checkpoints."""
    return _Sharded(data_parallel_size="auto", tensor_parallel_size=1, save_distributed_checkpoint=False)


class _Sharded(ModelParallelStrategy):
    """Takes all processes for its data-parallel ones, of however many machines."""

    def setup_environment(self) -> None:
        """Say how many there are, which is known only now."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint, which is whole in the first process, as for one device."""
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)


def read_sharding(trainer: Mapping[str, Any], model: nn.Module, origins: Origins) -> Sharding | None:
    """What `trainer.shard` says for a model; None where the strategy shards nothing.

    Raises:
        ConfigError: a selector is wrong, or selects no module.
    """
    path: Path = ("trainer", "shard")
    raw = trainer.get("shard")
    if trainer.get("strategy") != NAME:
        if raw:
            expected = f"trainer.strategy={NAME}"
            raise ConfigError(Fault("nothing is sharded by this strategy", path, origins.of(path), raw, expected))
        return None
    synced = bool(trainer.get("sync_batchnorm"))
    if not raw:
        return Sharding((), synced)
    selector, faults = read_selector(raw, path, origins.of)
    if selector is None:
        raise ConfigError(*faults)
    named = NamedModel(model)
    if (fault := named.fault(selector)) is not None:
        raise ConfigError(fault)
    names = [name for name in named.modules_of(selector) if name]
    if not names:
        raise ConfigError(Fault("this selects no module", path, origins.of(path), raw, "modules to be sharded"))
    if several := [name for name in names if isinstance(model.get_submodule(name), nn.ModuleList | nn.ModuleDict)]:
        hint = f"select what it holds: {several[0]}.*"
        raise ConfigError(Fault(f"{several[0]} is a list that is never called", path, origins.of(path), raw, hint=hint))
    return Sharding(tuple(sorted(names, key=lambda name: -name.count("."))), synced)


def _named(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, each once, in an order that is the same in all processes."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _receive(tensor: Tensor, source: Tensor | None, device: torch.device) -> None:
    """Fill a tensor, or this process's part of it, from the first process."""
    whole = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    if source is not None:
        whole.copy_(source)
    if isinstance(tensor, DTensor):
        tensor.copy_(distribute_tensor(whole, tensor.device_mesh, tensor.placements))
    else:
        distributed.broadcast(whole, src=0)
        tensor.copy_(whole)
