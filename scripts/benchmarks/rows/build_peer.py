"""YAML to a real model, against `hydra.utils.instantiate` of the same tree of modules written out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import yaml
from by_hand import same_keys
from measure import Effort, Row, compare
from networks import transformer
from omegaconf import OmegaConf

from builder import build

TITLE = "builder.build / hydra.utils.instantiate of the same tree"


def rows(effort: Effort) -> Iterator[Row]:
    """A transformer of many small layers, where the tree costs more than the initial values."""
    network = transformer(16, depth=48 if effort.full else 2)
    tree = _tree(**network.args)
    same_keys(build(network.path, **network.args), hydra.utils.instantiate(OmegaConf.create(tree)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tree.yaml"
        file.write_text(yaml.safe_dump(tree))
        yield compare(
            network.what,
            lambda: build(network.path, **network.args),
            lambda: hydra.utils.instantiate(OmegaConf.load(file)),
            bound=0.15, effort=effort, pairs=7,
        )  # fmt: skip


def _tree(vocab: int, context: int, width: int, depth: int, heads: int) -> dict[str, Any]:
    """The modules of `Gpt`, each with its `_target_`."""
    norm = _node("torch.nn.LayerNorm", width)
    block = {
        "ln1": norm,
        "attn": {"qkv": _linear(width, 3 * width), "proj": _linear(width, width)},
        "ln2": norm,
        "mlp": {
            "fc": _linear(width, 4 * width),
            "act": _node("torch.nn.GELU"),
            "proj": _linear(4 * width, width),
            "drop": _node("torch.nn.Dropout", 0.0),
        },
    }
    return _holder(
        {
            "tok": _node("torch.nn.Embedding", vocab, width),
            "pos": _node("torch.nn.Embedding", context, width),
            "drop": _node("torch.nn.Dropout", 0.0),
            "blocks": {str(index): block for index in range(depth)},
            "norm": norm,
            "head": _node("torch.nn.Linear", width, vocab, False),
        }
    )


def _holder(parts: dict[str, Any]) -> dict[str, Any]:
    nested = {name: part if "_target_" in part else _holder(part) for name, part in parts.items()}
    return _node("torch.nn.ModuleDict", nested)


def _node(target: str, *args: object) -> dict[str, Any]:
    return {"_target_": target, "_args_": list(args)}


def _linear(inputs: int, outputs: int) -> dict[str, Any]:
    return _node("torch.nn.Linear", inputs, outputs)
