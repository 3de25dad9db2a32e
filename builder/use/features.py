"""What the layers of a trained model give for samples: taken by hooks, pooled, gathered; and projected to a plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from builder.config.yaml_file import parse_yaml
from builder.data.table_file import polars
from builder.durable import write_file
from builder.errors import ConfigError, Origin, RunError, UsageError
from builder.select import NamedModel, read_selector
from builder.use import figures
from builder.use.evaluate import Set
from builder.use.form import Reading
from builder.use.loaded import Loaded

Pool = Literal["mean", "max", "last", "none"]
POOLS: tuple[Pool, ...] = ("mean", "max", "last", "none")
CHANNELS_FIRST = ("Conv1d", "ConvTranspose1d", "BatchNorm1d", "InstanceNorm1d", "MaxPool1d", "AvgPool1d",
                  "AdaptiveAvgPool1d", "AdaptiveMaxPool1d")  # fmt: skip
"""Layers whose outputs of three dimensions are [B, C, L]; those of all others are [B, T, C]."""
FORMATS = (".npz", ".parquet", ".safetensors")
LEAST = 5
"""Samples that t-SNE needs."""

Array = NDArray[Any]


@dataclass(slots=True)
class Features:
    """What layers gave, by their names, [N, …] on the CPU; `places` say which samples, `labels` what they are."""

    layers: dict[str, list[Tensor]] = field(default_factory=dict)
    places: list[int | str] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    bad: list[tuple[int | str, str]] = field(default_factory=list)

    def arrays(self) -> dict[str, Array]:
        """What each layer gave for all samples.

        Raises:
            RunError: its shape differs from batch to batch.
        """
        return {name: _joined(name, parts) for name, parts in self.layers.items()}

    def label(self) -> Array | None:
        """The target of each sample, if it is one number."""
        parts = [label for label in self.labels if label.dim() == 1]
        return torch.cat(parts).numpy() if parts and len(parts) == len(self.labels) else None


def _joined(name: str, parts: Sequence[Tensor]) -> Array:
    shapes = {tuple(part.shape[1:]) for part in parts}
    if len(shapes) > 1:
        shown = " and ".join(str(list(shape)) for shape in sorted(shapes)[:2])
        raise RunError(f"{name} gives {shown} for different samples: pool it, by --pool mean, max or last")
    return torch.cat(list(parts)).numpy()


def chosen_layers(model: nn.Module, text: str) -> dict[str, nn.Module]:
    """The modules that a selector selects, without those that lie in another one of them.

    Raises:
        ConfigError: it is no selector, or selects nothing, or parameters only.
    """
    origin = Origin("selector")
    raw = parse_yaml(text, "selector").value if text.lstrip().startswith(("{", "[")) else text.strip()
    selector, faults = read_selector(raw, (), lambda path: origin)
    if selector is None:
        raise ConfigError(*faults)
    named = NamedModel(model)
    fault = named.fault(selector)
    if fault is not None:
        raise ConfigError(fault)
    found = named.modules_of(selector)
    if not found:
        raise UsageError(f"{text!r} selects parameters only; features are what modules give")
    return {name: module for name, module in found.items() if not any(_lies_in(name, other) for other in found)}


def _lies_in(name: str, other: str) -> bool:
    return name != other and (not other or name.startswith(f"{other}."))


@contextmanager
def listening(layers: Mapping[str, nn.Module], hear: Callable[[str, nn.Module, Any], None]) -> Iterator[None]:
    """Within it `hear` is told of what layers give, each time that one is called; afterwards they are as before."""
    handles = []
    try:
        for name, layer in layers.items():
            handles.append(layer.register_forward_hook(_hook(name, hear)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(name: str, hear: Callable[[str, nn.Module, Any], None]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        hear(name, module, output)

    return hook


def take(loaded: Loaded, select: str, pool: Pool, samples: Set | Reading) -> Features:
    """What layers give for the samples of a set, with their targets, or for new ones.

    A layer that is called several times for a batch is several: `name`, `name#2`, …

    Raises:
        ConfigError: nothing is selected.
        RunError: a layer was never called, or can't be pooled so.
    """
    layers, found = chosen_layers(loaded.model, select), Features()
    heard: dict[str, list[Tensor]] = {name: [] for name in layers}

    def hear(name: str, module: nn.Module, output: Any) -> None:
        heard[name].append(_pooled(name, module, _tensor(name, output), pool).detach().cpu())

    with listening(layers, hear):
        for places, batch in _batches(samples, found):
            for calls in heard.values():
                calls.clear()
            loaded.runner(loaded.ask.arguments(dict(batch)))
            _note(heard, found, places, batch)
    silent = [name or "the model" for name in layers if not any(_is_of(key, name) for key in found.layers)]
    if silent and found.places:
        raise RunError(f"{', '.join(silent)} gave nothing: the model doesn't call it as a module")
    return found


def _is_of(key: str, name: str) -> bool:
    return key.partition("#")[0] == (name or "output")


def _batches(samples: Set | Reading, found: Features) -> Iterator[tuple[Sequence[int | str], dict[str, Tensor]]]:
    if isinstance(samples, Set):
        start = 0
        for batch in samples.loader:
            count = len(next(iter(batch.values())))
            yield range(start, start + count), batch
            start += count
        return
    for chunk in samples.chunks:
        found.bad += chunk.bad
        if chunk.places:
            yield chunk.places, dict(chunk.batch)


def _note(
    heard: Mapping[str, list[Tensor]], found: Features, places: Sequence[int | str], batch: Mapping[str, Tensor]
) -> None:
    for name, calls in heard.items():
        for number, value in enumerate(calls, 1):
            if len(value) != len(places):
                raise RunError(
                    f"{name or 'the model'} gives {list(value.shape)} for {len(places)} samples, not one for each"
                )
            key = (name or "output") + (f"#{number}" if number > 1 else "")
            found.layers.setdefault(key, []).append(value)
    found.places += places
    if "target" in batch:
        found.labels.append(batch["target"].cpu())


def _tensor(name: str, output: Any) -> Tensor:
    """The tensor of an output: itself, or the first in it (of an LSTM, what it gives for each step)."""
    value = output
    while isinstance(value, Mapping | tuple | list) and len(value):
        value = next(iter(value.values())) if isinstance(value, Mapping) else value[0]
    if not isinstance(value, Tensor) or not value.dim():
        raise RunError(f"{name or 'the model'} gives a {type(output).__name__}, no tensor with samples")
    return value


def _pooled(name: str, module: nn.Module, value: Tensor, pool: Pool) -> Tensor:
    """An output [B, C] of one that has places: pictures [B, C, H, W], sequences [B, T, C] or [B, C, L]."""
    value = value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    if pool == "none" or value.dim() <= 2:
        return value
    first = type(module).__name__ in CHANNELS_FIRST
    dims = tuple(range(2, value.dim())) if value.dim() > 3 or first else (1,)
    if pool == "last":
        if len(dims) > 1:
            raise UsageError(f"{name} gives {list(value.shape)}: 'last' is of a sequence, pictures have none")
        return value.select(dims[0], -1)
    return value.mean(dims) if pool == "mean" else value.amax(dims)


def write_features(found: Features, path: Path) -> None:
    """Write features, the samples' places and labels into one file, by its name NPZ, Parquet or safetensors.

    Raises:
        UsageError: its name ends in none of these.
        RunError: the system refuses.
    """
    arrays: dict[str, Array] = dict(found.arrays())
    is_text = any(isinstance(place, str) for place in found.places)
    arrays["index"] = np.array([str(place) if is_text else place for place in found.places])
    label = found.label()
    if label is not None:
        arrays["label"] = label
    suffix = path.suffix.lower()
    if suffix == ".npz":
        write_file(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    elif suffix == ".safetensors":
        write_file(path, lambda file: _safetensors(file, arrays))
    elif suffix == ".parquet":
        write_file(path, lambda file: _parquet(file, arrays))
    else:
        raise UsageError(f"the format of {path} isn't known by its name: end it in {', '.join(FORMATS)}")


def _safetensors(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    from safetensors.torch import save

    texts = {name: array for name, array in arrays.items() if array.dtype.kind == "U"}
    metadata = {name: "\n".join(array.tolist()) for name, array in texts.items()}  # which has tensors of numbers only
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items() if name not in texts
    }
    file.write(save(tensors, metadata))


def _parquet(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    order = [name for name in ("index", "label") if name in arrays]
    names = [*order, *(name for name in arrays if name not in order)]
    columns = {name: arrays[name] if arrays[name].ndim == 1 else list(arrays[name].reshape(len(arrays[name]), -1))
               for name in names}  # fmt: skip
    polars().DataFrame(columns).write_parquet(file)


def project(loaded: Loaded, found: Features, how: str, path: Path, seed: int) -> None:
    """Draw the samples where a projection of one layer's features to a plane puts them, coloured by their labels.

    Raises:
        UsageError: several layers are chosen, or there are too few samples.
        RunError: the system refuses.
    """
    arrays = found.arrays()
    if len(arrays) != 1:
        raise UsageError(f"one layer is projected at a time; chosen are {', '.join(arrays) or 'none'}")
    ((name, array),) = arrays.items()
    points = plane(array.reshape(len(array), -1), how, seed)
    title = f"{name}, {'t-SNE' if how == 'tsne' else 'PCA'} of {len(array):,} samples"
    figures.save(figures.projection(points, found.label(), loaded.classes, title), path)


def plane(values: Array, how: str, seed: int) -> Array:
    """Points [N, 2] for values [N, D], by scikit-learn.

    Raises:
        UsageError: there are too few samples.
    """
    least = LEAST if how == "tsne" else 2
    if len(values) < least or values.shape[1] < 2:
        raise UsageError(f"{list(values.shape)} can't be projected: {how} needs {least} samples, of 2 numbers each")
    if how == "pca":
        from sklearn.decomposition import PCA

        made: Array = PCA(2, svd_solver="full").fit_transform(values)
        return made
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(values) - 1) / 3)
    made = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(values)
    return made
