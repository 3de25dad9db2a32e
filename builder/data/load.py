"""From the `data:` section to tensors in memory and their facts; the data is read once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from builder.catalog.component import Component, read_component
from builder.config.origin import Origins
from builder.data.facts import SPLITS, ArgumentError, Dataset, Facts, facts_of, num_samples
from builder.data.loader import TensorLoader
from builder.errors import ConfigError, Fault, Path
from builder.registry import datasets

RESERVED = ("type", "batch_size", "eval_batch_size", "shuffle", "drop_last")
"""Keys of `data:` that aren't arguments of its `type`."""


@dataclass(frozen=True, slots=True)
class Data:
    """A loaded data set, and how its batches are made.

    `shuffle` and `drop_last` hold for the train split; the others always give every sample, in the same order.
    """

    splits: Mapping[str, Mapping[str, Tensor]]
    facts: Facts
    batch_size: int
    eval_batch_size: int
    shuffle: bool
    drop_last: bool
    seed: int

    def loader(self, split: str) -> TensorLoader:
        """A new loader of one split."""
        if split != "train":
            return TensorLoader(self.splits[split], self.eval_batch_size, seed=self.seed)
        return TensorLoader(
            self.splits[split], self.batch_size, seed=self.seed, shuffle=self.shuffle, drop_last=self.drop_last
        )


def load(section: Mapping[str, Any], seed: int, origins: Origins, path: Path = ("data",)) -> Data:
    """Read the data set of the section `data:` at `path`.

    `seed` orders the train batches, and splits the data unless the section says `seed` itself.

    Raises:
        ConfigError: the section is wrong, or the data can't be read.
    """
    component, faults = _component(section, origins, path)
    faults = [*_check_batches(section, origins, path), *faults]
    if component is None or faults:
        raise ConfigError(*faults)
    dataset = _read(component, seed, origins, path)
    if wrong := _wrong(dataset):
        place = (*path, "type")
        raise ConfigError(Fault(f"dataset {section['type']!r} {wrong}", place, origins.of(place)))
    facts = facts_of(dataset)
    batch_size = section["batch_size"]
    drop_last = section.get("drop_last", False)
    train = num_samples(dataset.splits["train"])
    if drop_last and train < batch_size:
        place = (*path, "batch_size")
        expected = f"at most {train}, the number of train samples, or drop_last: false"
        raise ConfigError(
            Fault("no train batch is full", place, origins.of(place), found=batch_size, expected=expected)
        )
    eval_batch_size = section.get("eval_batch_size") or batch_size
    return Data(
        dataset.splits, facts, batch_size, eval_batch_size, section.get("shuffle", True), drop_last, seed
    )  # fmt: skip


def check_dataset(section: Mapping[str, Any], origins: Origins, path: Path = ("data",)) -> list[Fault]:
    """What is wrong with the `type` of a `data:` section and with the arguments for it; reads no data."""
    return _component(section, origins, path)[1]


def _component(section: Mapping[str, Any], origins: Origins, path: Path) -> tuple[Component | None, list[Fault]]:
    provided = () if "seed" in section else ("seed",)
    return read_component(datasets, section, path, origins.of, provided=provided, reserved=RESERVED)


def _check_batches(section: Mapping[str, Any], origins: Origins, path: Path) -> list[Fault]:
    checks = {
        "batch_size": (_is_count(section.get("batch_size")), "a whole number from 1"),
        "eval_batch_size": (section.get("eval_batch_size") is None or _is_count(section["eval_batch_size"]),
                            "a whole number from 1, or null for batch_size"),
        "shuffle": (isinstance(section.get("shuffle", True), bool), "true or false"),
        "drop_last": (isinstance(section.get("drop_last", False), bool), "true or false"),
    }  # fmt: skip
    return [
        Fault(f"{key} has no usable value", (*path, key), origins.of((*path, key)), section.get(key), expected)
        for key, (right, expected) in checks.items()
        if not right
    ]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _wrong(dataset: object) -> str | None:
    """What a registered data set gave that it shouldn't have; None if all is well."""
    if not isinstance(dataset, Dataset):
        return f"returned {type(dataset).__name__}, not a builder.data.facts.Dataset"
    if unknown := [split for split in dataset.splits if split not in SPLITS]:
        return f"returned the split {unknown[0]!r}; there are {', '.join(SPLITS)}"
    if not num_samples(dataset.splits.get("train", {})):
        return "returned no train samples"
    for split, tensors in dataset.splits.items():
        if tensors.keys() != dataset.splits["train"].keys():
            return f"returned tensors {sorted(tensors)} for {split} and {sorted(dataset.splits['train'])} for train"
        if len({len(tensor) for tensor in tensors.values()}) > 1:
            sizes = ", ".join(f"{name} {len(tensor)}" for name, tensor in tensors.items())
            return f"returned {split} tensors of different lengths: {sizes}"
    return None


def _read(component: Component, seed: int, origins: Origins, path: Path) -> Any:
    takes_seed = "seed" in inspect.signature(component.target).parameters
    seeds = {"seed": seed} if takes_seed and "seed" not in component.arguments else {}
    try:
        return component.target(**component.arguments, **seeds)
    except ArgumentError as error:
        place = (*path, error.argument)
        raise ConfigError(Fault(str(error), place, origins.of(place), error.found, error.expected)) from error
    except OSError as error:
        what = error.strerror or str(error)
        message = f"the data can't be read: {what}" + (f": {error.filename}" if error.filename else "")
        raise ConfigError(Fault(message, path, origins.of(path))) from error
    except (ImportError, ValueError) as error:
        raise ConfigError(Fault(f"the data can't be read: {error}", path, origins.of(path))) from error
