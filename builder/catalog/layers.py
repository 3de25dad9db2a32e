"""Layers: every module class of `torch.nn`, by its own name, and parametrizations of a layer that is their argument."""

from __future__ import annotations

import torch.nn
from torch.nn import modules
from torch.nn.utils import parametrizations

from builder.registry import layers

EXCLUDED = {
    "Container": "deprecated name of Module",
    "CrossMapLRN2d": "legacy; LocalResponseNorm computes the same",
    "LinearCrossEntropyOptions": "not a module; an argument that a config can't say",
    "Module": "the base class",
    "NLLLoss2d": "deprecated name of NLLLoss",
    "ParameterDict": "holds tensors, which a definition says under `parameters`",
    "ParameterList": "holds tensors, which a definition says under `parameters`",
    "RNNBase": "the base class of RNN, LSTM and GRU",
    "RNNCellBase": "the base class of RNNCell, LSTMCell and GRUCell",
}
"""Public names of `torch.nn.modules` that aren't layers of a config, and why."""

LAZY = "Lazy"
"""Prefix of the modules that find their sizes at the first batch. Left out: every layer's sizes are found before that,
and a lazy module would draw its initial weights at another moment than the one written by hand."""


def is_layer(name: str) -> bool:
    """Whether a public name of `torch.nn.modules` is a layer for configs."""
    return name not in EXCLUDED and not name.startswith(LAZY)


PARAMETRIZED = ("spectral_norm", "weight_norm")
"""Functions that give a layer back with a weight that is computed: `{type: spectral_norm, module: {type: Conv2d, …}}`.
`orthogonal` isn't among them: it doesn't run on the meta device, where sizes are found."""

for _name in filter(is_layer, modules.__all__):
    layers.register(_name, getattr(torch.nn, _name))
for _name in PARAMETRIZED:
    layers.register(_name, getattr(parametrizations, _name))
