"""The optimiser that the section `optimizer:` describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from builder.catalog.component import read_component
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Path
from builder.registry import optimizers


def build_optimizer(
    model: nn.Module, section: Mapping[str, Any], origins: Origins, path: Path = ("optimizer",)
) -> Optimizer:
    """The optimiser over the trainable parameters of `model`, each once, in the order of `model.parameters()`.

    Raises:
        ConfigError: the section is wrong, or nothing is trainable.
    """
    component, faults = read_component(optimizers, section, path, origins.of, withheld=("params",))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        faults.append(Fault("the model has no trainable parameter", path, origins.of(path)))
    if component is None or faults:
        raise ConfigError(*faults)
    return component.make(parameters)
