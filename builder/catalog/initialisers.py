"""Initialisers: the functions of `torch.nn.init` that fill a tensor in place, by their own names."""

from __future__ import annotations

from torch.nn import init

from builder.registry import initialisers

EXCLUDED = {
    name: "deprecated name of the function with a trailing underscore"
    for name in (
        "constant", "dirac", "eye", "kaiming_normal", "kaiming_uniform", "normal", "orthogonal", "sparse", "uniform",
        "xavier_normal", "xavier_uniform",
    )
} | {"calculate_gain": "returns a number, fills nothing"}  # fmt: skip
"""Public functions of `torch.nn.init` that aren't initialisers of a config, and why."""

NAMES = (
    "constant_", "dirac_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_", "orthogonal_", "sparse_",
    "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
)  # fmt: skip

for _name in NAMES:
    initialisers.register(_name, getattr(init, _name))
