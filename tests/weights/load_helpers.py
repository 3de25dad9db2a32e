"""What tests of loading share: a section loaded into a model, and how it is refused."""

import pytest
import torch
from torch import nn

from builder.config.origin import Origins
from builder.errors import ConfigError, Origin
from builder.weights.load import load, plan, read_load

ORIGINS = Origins({("load",): Origin("train.yaml", 7)})


def loaded(model, section, **options):
    """Load a section into a model; the report."""
    return load(plan(read_load(section, ORIGINS, **options), model), model)


def only(model, section, **options):
    """The report of the section's only source."""
    (source,) = loaded(model, section, **options).sources
    return source


def refusal(model, section, folder=None, **options):
    """What is told of a section that can't be loaded, the folder left out, and no tensor is changed."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ConfigError) as caught:
        loaded(model, section, **options)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    return str(caught.value).replace(f"{folder}/", "")


def same_bits(model, other):
    """Assert that two modules, or a module and a state dict, hold the same tensors."""
    state = other.state_dict() if isinstance(other, nn.Module) else other
    own = model.state_dict()
    assert own.keys() == state.keys()
    for name, tensor in own.items():
        assert tensor.dtype == state[name].dtype and torch.equal(tensor, state[name]), name


class Net(nn.Module):
    """A trunk of blocks and a head, made from a seed."""

    def __init__(self, classes=10, blocks=3, seed=0, width=4):
        super().__init__()
        torch.manual_seed(seed)
        block = lambda: nn.Sequential(nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.ReLU())  # noqa: E731
        self.blocks = nn.ModuleList([block() for _ in range(blocks)])
        self.head = nn.Linear(width, classes)
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.is_floating_point():
                nn.init.normal_(tensor)
