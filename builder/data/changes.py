"""From `data.transforms` to what is done to each batch: read, fitted to the train split, and tried on two samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from builder.catalog.component import Component, read_component
from builder.config.origin import Origins
from builder.data.facts import ArgumentError, Refusal, TensorFact, fact
from builder.data.sources import Batch, Source
from builder.data.transforms import Transform, transforms
from builder.errors import ConfigError, Fault, Path, nearest

LISTS = ("train", "eval")
"""The keys of `data.transforms`: for train batches, and for all others."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Transforms, one after the other."""

    parts: tuple[Transform, ...]

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch after the last of them."""
        for part in self.parts:
            batch = part(batch, generator)
        return batch


@dataclass(frozen=True, slots=True)
class Changes:
    """What is done to train batches and to all others; None for nothing."""

    train: Chain | None = None
    eval: Chain | None = None


class ChangedSource(Source):
    """A source whose batches are seen as a chain leaves them; for looking at a few samples."""

    def __init__(self, source: Source, change: Chain) -> None:
        self.source, self.change, self.size = source, change, source.size
        self.names = tuple(self.take(slice(0, 1)))

    def take(self, rows: Tensor | slice, place: tuple[int | str, ...] = ()) -> Batch:
        """The samples of these rows after the chain."""
        return self.change(self.source.take(rows, place), Generator().manual_seed(0))


Parts = Mapping[str, Sequence[Component]]


def read_changes(section: Any, origins: Origins, path: Path) -> tuple[Parts, list[Fault]]:
    """The transforms of a section by list, and what is wrong with them."""
    if section is None:
        return {}, []
    if not isinstance(section, Mapping):
        expected = "a mapping with the lists train and eval"
        return {}, [Fault("transforms have no usable value", path, origins.of(path), section, expected)]
    parts: dict[str, list[Component]] = {}
    faults = []
    for key, items in section.items():
        place = (*path, key)
        if key not in LISTS:
            near = nearest(key, LISTS)
            faults.append(Fault(f"unknown key {key!r}", place, origins.of(place), expected="train, eval", nearest=near))
        elif not isinstance(items, list):
            faults.append(Fault("transforms are a list", place, origins.of(place), items, "a list of transforms"))
        else:
            read = [read_component(transforms, item, (*place, i), origins.of) for i, item in enumerate(items)]
            parts[key] = [component for component, _ in read if component is not None]
            faults += [fault for _, wrong in read for fault in wrong]
    return parts, faults


def make_changes(parts: Parts, train: Source, values: Mapping[str, Any], origins: Origins) -> Changes:
    """Make the transforms, fit those that need it to the train split, and try each list on two samples.

    Raises:
        ConfigError: one can't be made or doesn't fit the data, or the lists lead to different tensors.
    """
    faults: list[Fault] = []
    ends, chains = {}, {}
    for key in LISTS:
        made = [_made(component, train, values, origins, faults) for component in parts.get(key, ())]
        chains[key] = Chain(tuple(part for part in made if part is not None))
        if not faults:
            ends[key] = _tried(parts.get(key, ()), chains[key], train, origins, faults)
    if not faults and (parts.get("train") or parts.get("eval")):
        faults += _unlike(ends["train"], ends["eval"], parts, origins)
    if faults:
        raise ConfigError(*faults)
    return Changes(*(chains[key] if chains[key].parts else None for key in LISTS))


def state_of(parts: Parts, chain: Chain | None) -> list[dict[str, Any]]:
    """The transforms of a chain as plain values, fitted statistics among them, from which they can be made again."""
    if chain is None:
        return []
    return [
        {"type": component.name, **_arguments(part, component.arguments)}
        for component, part in zip(parts["eval"], chain.parts, strict=True)
    ]


def chain_of(state: Sequence[Mapping[str, Any]]) -> Chain:
    """The chain whose `state_of` this is."""
    parts = [transforms.get(item["type"])(**{k: v for k, v in item.items() if k != "type"}) for item in state]
    return Chain(tuple(parts))


def _arguments(part: Transform, given: Mapping[str, Any]) -> dict[str, Any]:
    if is_dataclass(part):
        return {item.name: getattr(part, item.name) for item in fields(part) if item.init}
    return dict(given)


def _made(
    component: Component, train: Source, values: Mapping[str, Any], origins: Origins, faults: list[Fault]
) -> Transform | None:
    try:
        made = component.target(**component.arguments)
        fitted = getattr(made, "fitted", None)
        made = made if fitted is None else fitted(train, values)
    except Exception as error:  # a user's transform may raise anything
        faults += faults_of(error, component, origins)
        return None
    if not callable(made):
        message = f"transform {component.name!r} is a {type(made).__name__}, which takes no batch"
        faults.append(Fault(message, component.path, component.origin))
    return made


def _tried(
    components: Sequence[Component], chain: Chain, train: Source, origins: Origins, faults: list[Fault]
) -> Batch:
    generator = torch.Generator().manual_seed(0)
    batch = train.take(slice(0, 2))
    count = len(next(iter(batch.values())))
    for component, part in zip(components, chain.parts, strict=True):
        try:
            changed = part(dict(batch), generator)
        except Refusal as error:
            faults += faults_of(error, component, origins)
            return batch
        except Exception as error:  # a user's transform may raise anything
            message = f"transform {component.name!r} can't be done: {type(error).__name__}: {error}"
            faults.append(Fault(message, component.path, component.origin))
            return batch
        if wrong := _no_batch(changed, count):
            faults.append(Fault(f"transform {component.name!r} {wrong}", component.path, component.origin))
            return batch
        batch = changed
    return batch


def _no_batch(value: Any, count: int) -> str | None:
    if not isinstance(value, dict) or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        return f"gave a {type(value).__name__}, not a dict of tensors"
    sizes = {len(tensor) if tensor.dim() else 0 for tensor in value.values()}
    return None if sizes == {count} else "changed the number of samples"


def _unlike(train: Batch, evaluated: Batch, parts: Parts, origins: Origins) -> Iterator[Fault]:
    """Where train batches have other tensors than the others."""
    for name in dict.fromkeys([*train, *evaluated]):
        facts = [fact(batch[name]) if name in batch else None for batch in (train, evaluated)]
        if facts[0] != facts[1]:
            some = next(iter(parts.values()))[0]
            place = some.path[:-2]
            message = f"train and eval lead to different tensors {name!r}"
            found = f"{_shown(facts[0])} in train, {_shown(facts[1])} in eval"
            hint = "give each a transform that leads to the same form, as CenterCrop for RandomCrop or OneHot for Mixup"
            yield Fault(f"{message}: {found}", place, origins.of(place), hint=hint)


def _shown(found: TensorFact | None) -> str:
    return "none" if found is None else f"{list(found.shape)} {found.dtype}"


def faults_of(error: Exception, component: Component, origins: Origins) -> list[Fault]:
    """What a transform or a data set refuses with an exception, at the argument that it names."""
    if not isinstance(error, Refusal):
        return [*component.refused(error).faults]
    return [_fault(one, component, origins) for one in error.errors]


def _fault(error: ArgumentError, component: Component, origins: Origins) -> Fault:
    inside = error.argument if isinstance(error.argument, tuple) else (error.argument,)
    place = (*component.path, *inside)
    return Fault(str(error), place, origins.of(place), error.found, error.expected, error.nearest, error.hint)
