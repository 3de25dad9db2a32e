"""Gives a model the tensors of a file as its own, mapped into memory: nothing is copied, and nothing read yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from builder.weights.entries import WeightsError, WeightsFile
from builder.weights.targets import EXTRA, Target, is_newer_counter, targets_of
from builder.weights.wording import listed

_HOLDERS = (Tensor, dict, list, tuple)
"""What attributes of modules hold tensors in."""


def assign(file: WeightsFile, model: nn.Module) -> None:
    """Put the tensors of a file in the place of a model's parameters and buffers, which may be on the meta device.

    Each has the file's dtype, as the model that wrote it had. Tied parameters stay one, and gradients are asked for
    where they were.

    Raises:
        WeightsError: the file lacks a tensor, has one too many, or one of another shape; names them.
    """
    targets = targets_of(model)
    _check(file, targets, model)
    modules = dict(model.named_modules(remove_duplicate=False))
    made: dict[int, Tensor] = {}
    for name, target in targets.items():
        if name not in file.entries and id(target.tensor) in made:
            _put(modules, name, made[id(target.tensor)])  # another name of what was read
        elif name in file.entries:
            if id(target.tensor) not in made:
                made[id(target.tensor)] = _as(target.tensor, file.read(name))
            _put(modules, name, made[id(target.tensor)])


def unset(model: nn.Module) -> list[str]:
    """The names of all tensors that have no values: parameters, buffers, and tensors that are plain attributes."""
    state = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    plain = [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        for name, value in module.__dict__.items()
        if isinstance(value, _HOLDERS) and name not in ("_parameters", "_buffers", "_modules")
        if any(tensor.is_meta for tensor in _tensors(value))
    ]
    return [*state, *plain]


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors in a value, in lists and mappings too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _check(file: WeightsFile, targets: dict[str, Target], model: nn.Module) -> None:
    first = {target.first: target for target in targets.values()}
    missing = [name for name, target in first.items() if not _held(file, target)]
    known = {*targets, *(name for name in model.state_dict() if name.rpartition(".")[2] == EXTRA)}
    unexpected = [name for name in file.entries if name not in known]
    differing = [
        f"{name} {list(file.shape(name))} for {list(target.shape)}"
        for name, target in targets.items()
        if name in file.entries and file.shape(name) != target.shape
    ]
    said = [*_said("lacks", missing), *_said("has", unexpected, " besides"), *_said("has other shapes:", differing)]
    if said:
        raise WeightsError(f"{file.path} isn't of this model: it {'; it '.join(said)}")


def _held(file: WeightsFile, target: Target) -> bool:
    """Whether a file has a tensor under one of its names, or may do without."""
    if any(name in file.entries for name in target.names):
        return True
    return not target.tensor.is_meta and is_newer_counter(target, None)


def _said(what: str, names: Iterable[str], after: str = "") -> list[str]:
    names = list(names)
    return [f"{what} {listed(names)}{after}"] if names else []


def _as(old: Tensor, new: Tensor) -> Tensor:
    if not isinstance(old, nn.Parameter):
        return new
    return nn.Parameter(new, requires_grad=old.requires_grad)


def _put(modules: dict[str, nn.Module], name: str, tensor: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(modules[owner], leaf, tensor)  # which recurrent layers watch, to know the weights in their order
