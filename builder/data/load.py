"""From the `data:` section to samples and their facts; the data is read once."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch.utils.data import IterableDataset

from builder.catalog.arguments import parameters_of
from builder.catalog.component import Component, read_component
from builder.config.origin import Origins
from builder.data.changes import ChangedSource, Changes, Parts, faults_of, make_changes, read_changes, state_of
from builder.data.facts import SPLITS, Dataset, Facts, Refusal, facts_of
from builder.data.loader import TensorLoader, WorkerLoader
from builder.data.sources import ItemSource, Source, TensorSource
from builder.data.splits import FRACTIONS, split_indices
from builder.errors import ConfigError, Fault, MissingExtra, Path, RunError
from builder.registry import datasets

RESERVED = (
    "type", "batch_size", "eval_batch_size", "shuffle", "drop_last", "transforms", "num_workers", "in_memory", "device"
)  # fmt: skip
"""Keys of `data:` that aren't arguments of its `type`."""
SPLITTING = ("split", "fold", "num_folds")
"""Keys that are arguments of most types; for one that doesn't take them and returns its samples whole, they say here
how to divide those."""
SHARE_OF_MEMORY = 0.25
"""What samples may take of the machine's memory to be kept there."""


@dataclass(frozen=True, slots=True)
class Data:
    """A loaded data set, and how its batches are made.

    `shuffle` and `drop_last` hold for the train split; the others always give every sample, in the same order.
    `splits` are the samples as evaluation sees them, `sources` as the data set gives them. `num_workers` and
    `in_memory` are None where the data decides. `state` is what new samples need to be brought into the same form.
    """

    splits: Mapping[str, Mapping[str, Any]]
    facts: Facts
    batch_size: int
    eval_batch_size: int
    shuffle: bool
    drop_last: bool
    seed: int
    sources: Mapping[str, Source]
    changes: Changes = field(default_factory=Changes)
    num_workers: int | None = None
    in_memory: bool | None = None
    device: bool = False
    state: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    fits: Mapping[str, str] = field(default_factory=dict)

    def loader(self, split: str) -> TensorLoader:
        """A new loader of one split. It reads nothing before its first batch."""
        source, train = self.sources[split], split == "train"
        options: dict[str, Any] = {
            "seed": self.seed, "shuffle": train and self.shuffle, "drop_last": train and self.drop_last, "even": train,
            "change": self.changes.train if train else self.changes.eval,
            "keep": _kept(source, self.in_memory),
        }  # fmt: skip
        size = self.batch_size if train else self.eval_batch_size
        workers = _workers(source, options["keep"], self.num_workers, self.device)
        if workers:
            return WorkerLoader(source, size, num_workers=workers, **options)
        return TensorLoader(source, size, **options)

    def fingerprint(self) -> dict[str, str]:
        """For each split a hash by which a change of its samples is seen; of all that are in memory, else of some."""
        return {split: source.fingerprint() for split, source in self.sources.items()}


def load(section: Mapping[str, Any], seed: int, origins: Origins, path: Path = ("data",)) -> Data:
    """Read the data set of the section `data:` at `path`.

    `seed` orders the train batches, and splits the data unless the section says `seed` itself.

    Raises:
        ConfigError: the section is wrong, or the data can't be read.
        MissingExtra: it needs a package that isn't installed.
    """
    component, faults = _component(section, origins, path)
    parts, wrong_parts = read_changes(section.get("transforms"), origins, (*path, "transforms"))
    faults = [*_check_loading(section, origins, path), *faults, *wrong_parts]
    if component is None or faults:
        raise ConfigError(*faults)
    dataset = _divided(_read(component, section, seed, origins), component, section, seed, origins)
    if wrong := _wrong(dataset):
        place = (*path, "type")
        raise ConfigError(Fault(f"dataset {section['type']!r} {wrong}", place, origins.of(place)))
    sources = {split: _source(samples) for split, samples in dataset.splits.items() if any(_sizes(samples).values())}
    _check_batch_size(section, sources["train"].size, origins, path)
    changes = make_changes(parts, sources["train"], dataset.values, origins)
    return _data(section, seed, dataset, sources, changes, parts)


def check_dataset(section: Mapping[str, Any], origins: Origins, path: Path = ("data",)) -> list[Fault]:
    """What is wrong with the `type` of a `data:` section and with the arguments for it; reads no data."""
    faults = _component(section, origins, path)[1]
    return faults + read_changes(section.get("transforms"), origins, (*path, "transforms"))[1]


def _data(
    section: Mapping[str, Any], seed: int, dataset: Dataset, sources: Mapping[str, Source], changes: Changes,
    parts: Parts,
) -> Data:  # fmt: skip
    evaluated = changes.eval
    views = (
        sources if evaluated is None else {name: ChangedSource(source, evaluated) for name, source in sources.items()}
    )
    facts = facts_of(replace(dataset, splits=views, values=dict(dataset.values)))
    if evaluated is not None:
        facts = _with_sizes(facts)
    state = None
    if dataset.state is not None:
        state = {**dataset.state, "transforms": state_of(parts, evaluated)}
    return Data(
        views, facts, section["batch_size"], section.get("eval_batch_size") or section["batch_size"],
        section.get("shuffle", True), section.get("drop_last", False), seed, sources, changes,
        section.get("num_workers"), section.get("in_memory"), section.get("device", False), state,
        tuple(dataset.notes), dataset.fits,
    )  # fmt: skip


def _with_sizes(facts: Facts) -> Facts:
    """The facts with the size of pictures as transforms leave it."""
    x = facts.tensors.get("x")
    if x is None or len(x.shape) != 3 or "height" not in facts.values:
        return facts
    sizes = dict(zip(("in_channels", "height", "width"), x.shape, strict=True))
    num_features = x.shape[0] * x.shape[1] * x.shape[2]
    return Facts({**facts.values, **sizes, "num_features": num_features}, facts.tensors)


def _component(section: Mapping[str, Any], origins: Origins, path: Path) -> tuple[Component | None, list[Fault]]:
    provided = () if "seed" in section else ("seed",)
    reserved = (*RESERVED, *_left_to_us(section.get("type")))
    return read_component(datasets, section, path, origins.of, provided=provided, reserved=reserved)


def _left_to_us(name: Any) -> tuple[str, ...]:
    """The keys of SPLITTING that the data set of that name leaves to whoever loads it."""
    if not isinstance(name, str) or name not in datasets:
        return ()
    target = datasets.get(name)
    if getattr(target, "__module__", "").startswith("builder.data."):
        return ()
    known = parameters_of(target)
    return () if known is None or known.open else tuple(key for key in SPLITTING if key not in known.accepts)


def _check_loading(section: Mapping[str, Any], origins: Origins, path: Path) -> list[Fault]:
    def given(key: str, right: Callable[[Any], bool], default: Any = None) -> bool:
        return right(section.get(key, default))

    checks = {
        "batch_size": (given("batch_size", _is_count), "a whole number from 1"),
        "eval_batch_size": (given("eval_batch_size", lambda v: v is None or _is_count(v)),
                            "a whole number from 1, or null for batch_size"),
        "shuffle": (given("shuffle", _is_bool, True), "true or false"),
        "drop_last": (given("drop_last", _is_bool, False), "true or false"),
        "num_workers": (given("num_workers", lambda v: v is None or v == 0 or _is_count(v)),
                        "a whole number from 0, or null for what suits the data"),
        "in_memory": (given("in_memory", lambda v: v is None or _is_bool(v)), "true, false, or null for what fits"),
        "device": (given("device", _is_bool, False), "true or false"),
    }  # fmt: skip
    faults = [
        Fault(f"{key} has no usable value", (*path, key), origins.of((*path, key)), section.get(key), expected)
        for key, (right, expected) in checks.items()
        if not right
    ]
    if not faults and section.get("device") and section.get("num_workers"):
        place = (*path, "num_workers")
        message = "samples that lie on the device are made by no other process"
        faults.append(Fault(message, place, origins.of(place), section["num_workers"], "0 or null, or device: false"))
    return faults


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _check_batch_size(section: Mapping[str, Any], train: int, origins: Origins, path: Path) -> None:
    if section.get("drop_last", False) and train < section["batch_size"]:
        place = (*path, "batch_size")
        expected = f"at most {train}, the number of train samples, or drop_last: false"
        raise ConfigError(
            Fault("no train batch is full", place, origins.of(place), found=section["batch_size"], expected=expected)
        )


def _wrong(dataset: object) -> str | None:
    """What a registered data set gave that it shouldn't have; None if all is well."""
    if isinstance(dataset, IterableDataset):
        name = type(dataset).__name__
        return f"returned a stream ({name}): a place in it can't be found again, so that it could not be resumed"
    if not isinstance(dataset, Dataset):
        return f"returned {type(dataset).__name__}, not a builder.data.facts.Dataset"
    if unknown := [split for split in dataset.splits if split not in SPLITS]:
        return f"returned the split {unknown[0]!r}; there are {', '.join(SPLITS)}"
    sizes = {split: _sizes(samples) for split, samples in dataset.splits.items()}
    if not any(sizes.get("train", {}).values()):
        return "returned no train samples"
    for split in dataset.splits:
        if sizes[split].keys() != sizes["train"].keys():
            return f"returned tensors {sorted(sizes[split])} for {split} and {sorted(sizes['train'])} for train"
        if len(set(sizes[split].values())) > 1:
            shown = ", ".join(f"{name} {size}" for name, size in sizes[split].items())
            return f"returned {split} tensors of different lengths: {shown}"
    return None


def _sizes(samples: Mapping[str, Any]) -> dict[str, int]:
    return {name: len(tensor) for name, tensor in samples.items()}


def _source(samples: Mapping[str, Any]) -> Source:
    return samples if isinstance(samples, Source) else TensorSource(samples)


def _read(component: Component, section: Mapping[str, Any], seed: int, origins: Origins) -> Any:
    """What the data set's function or class gives."""
    left = _left_to_us(component.name)
    arguments = {key: value for key, value in component.arguments.items() if key not in left}
    takes_seed = "seed" in inspect.signature(component.target).parameters
    if takes_seed and "seed" not in arguments:
        arguments["seed"] = seed
    path = component.path
    try:
        return component.target(**arguments)
    except Refusal as error:
        raise ConfigError(*faults_of(error, component, origins)) from error
    except MissingExtra:
        raise
    except OSError as error:
        what = error.strerror or str(error)
        message = f"the data can't be read: {what}" + (f": {error.filename}" if error.filename else "")
        named = [(*path, key) for key, value in arguments.items() if _is_path(value, error.filename)]
        place = named[0] if named else path
        raise ConfigError(Fault(message, place, origins.of(place))) from error
    except Exception as error:  # a data set of the user's may raise anything
        said = (
            str(error) if isinstance(error, ImportError | ValueError | RunError) else f"{type(error).__name__}: {error}"
        )
        raise ConfigError(Fault(f"the data can't be read: {said}", path, origins.of(path))) from error


def _is_path(value: object, filename: object) -> bool:
    return isinstance(value, str) and isinstance(filename, str | os.PathLike) and value == os.fspath(filename)


def _divided(found: Any, component: Component, section: Mapping[str, Any], seed: int, origins: Origins) -> Any:
    """A map-style data set, or one for each split, as a Dataset; anything else as it is."""
    options = {key: section[key] for key in _left_to_us(component.name) if key in section}
    if isinstance(found, Dataset | IterableDataset) or not _is_items(found):
        if isinstance(found, Dataset) and options:
            key = next(iter(options))
            place = (*component.path, key)
            message = f"dataset {component.name!r} divides its samples itself and takes no {key!r}"
            raise ConfigError(Fault(message, place, origins.of(place)))
        return found
    try:
        if isinstance(found, Mapping):
            splits = {split: ItemSource(items) for split, items in found.items()}
        else:
            fractions = options.pop("split", FRACTIONS)
            rows = split_indices(len(found), fractions, section.get("seed", seed), **options)
            splits = {split: ItemSource(found, indices) for split, indices in rows.items()}
    except Refusal as error:
        raise ConfigError(*faults_of(error, component, origins)) from error
    except RunError as error:
        raise ConfigError(Fault(f"the data can't be read: {error}", component.path, component.origin)) from error
    return Dataset(splits, _values_of(found))


def _is_items(value: Any) -> bool:
    """Whether a value is a map-style data set, or a mapping of them."""
    if isinstance(value, Mapping):
        return bool(value) and all(map(_is_items, value.values()))
    return hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, str)


def _values_of(items: Any) -> dict[str, Any]:
    """The facts that a data set of the user's says itself: `facts`, a mapping, or `classes`, a list of names."""
    values = dict(getattr(items, "facts", None) or {})
    classes = getattr(items, "classes", None)
    if isinstance(classes, list | tuple) and "num_classes" not in values:
        values |= {"num_classes": len(classes), "num_outputs": len(classes), "class_names": list(map(str, classes))}
    return values


def _kept(source: Source, in_memory: bool | None) -> bool:
    """Whether a source is read into memory whole."""
    if in_memory is not None:
        return in_memory
    return source.repeatable and source.num_bytes is not None and source.num_bytes <= SHARE_OF_MEMORY * _memory()


def _workers(source: Source, kept: bool, num_workers: int | None, device: bool) -> int:
    """How many processes make batches of a source."""
    if num_workers is not None:
        return num_workers
    return 0 if device or kept or source.light else min(4, max(1, (os.cpu_count() or 1) - 1))


def _memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
