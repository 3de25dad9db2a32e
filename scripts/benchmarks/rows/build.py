"""YAML to a real model (parse, validate, infer, construct), against its constructors, initialisation included."""

from __future__ import annotations

from collections.abc import Iterator

from by_hand import same_keys
from measure import Effort, Row, compare
from networks import Network, resnet50, transformer
from torch import nn

from builder import build
from builder.config.compose import compose

TITLE = "builder.build / the constructors by hand"


def rows(effort: Effort) -> Iterator[Row]:
    """From a file, and from a config composed with Hydra's grammar."""
    for network in (resnet50(), transformer(384)) if effort.full else (resnet50(4), transformer(16, depth=2)):
        same_keys(_from_file(network), network.by_hand())
        for how, ours, bound in (("file", _from_file, 1.10), ("composed", _composed, 1.25)):
            yield compare(f"{network.what}, {how}", lambda n=network, ours=ours: ours(n), network.by_hand,
                          bound=bound, effort=effort, control=True, pairs=15)  # fmt: skip


def _from_file(network: Network) -> nn.Module:
    return build(network.path, inputs=network.inputs, **network.args)


def _composed(network: Network) -> nn.Module:
    overrides = [f"model={network.name}", *(f"model.args.{name}={value}" for name, value in network.args.items())]
    return build(compose(overrides).values["model"], inputs=network.inputs)
