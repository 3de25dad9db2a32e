"""How deep each parameter of a model lies, from its module order: what layer-wise decay of the learning rate counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from builder.errors import Fault
from builder.select import NamedModel, Selector


@dataclass(frozen=True, slots=True)
class Depths:
    """The layer of each parameter by its first name, 0 at the bottom, and that of the top.

    `of` counts all parameters of the model, trained or not.
    """

    of: Mapping[str, int]
    top: int


@dataclass(frozen=True, slots=True)
class _Unit:
    """Parameters that lie at one depth: those of a module and all below it, or a module's own."""

    names: tuple[str, ...]
    in_stack: bool = False


def depths(model: nn.Module) -> Depths:
    """Depths by the order in which modules were registered.

    A stack is a container of numbered children (ModuleList, Sequential), at least two of which are of one class, hold
    parameters and are themselves made of modules. Where there is a stack, each of its items is one layer, and what lies
    before, between and after the stacks is one layer each time. Where there is none, each child of the model is a
    layer, and each item of a container among them. Children without parameters don't count. For a transformer this
    comes to embeddings 0, blocks 1 to n, norm and head n + 1, as in BEiT (Bao et al. 2021, arXiv:2106.08254).
    """
    units = list(_units(model)) if _holds_stack(model) else list(_flat(model))
    layers = [[unit] for unit in units]
    if any(unit.in_stack for unit in units):
        layers = []
        for before, unit in zip([None, *units], units, strict=False):
            if unit.in_stack or before is None or before.in_stack:
                layers.append([])
            layers[-1].append(unit)
    found: dict[str, int] = {}
    for depth, layer in enumerate(layers):
        for unit in layer:
            for name in unit.names:
                found.setdefault(name, depth)
    return Depths(_by_first_name(model, found), len(layers) - 1)


def chosen_depths(model: NamedModel, layers: Sequence[Selector]) -> tuple[Depths, list[Fault]]:
    """Depths as selectors say them, from the bottom up; the first that holds counts."""
    found: dict[str, int] = {}
    faults = []
    for depth, selector in enumerate(layers):
        selected = model.parameters_of(selector)
        fault = model.fault(selector)
        if fault is None and not selected.keys() - found.keys():
            earlier = dict.fromkeys(found[name] for name in selected)  # a selector that is a list has no hash
            fault = _without_effect(selector, [layers[number] for number in earlier])
        faults += [fault] if fault is not None else []
        found |= {name: depth for name in selected if name not in found}
    return Depths(found, len(layers) - 1), faults


def _without_effect(selector: Selector, earlier: Iterable[Selector]) -> Fault:
    """The fault of a layer that holds nothing, and would shift those below it all the same."""
    names = ", ".join(repr(str(each)) for each in earlier)
    hint = f"all that it selects lies in earlier layers: {names}" if names else "what it selects holds no parameters"
    return Fault(f"the layer '{selector}' is empty", selector.path, selector.origin, selector.raw, hint=hint)


def _by_first_name(model: nn.Module, found: Mapping[str, int]) -> dict[str, int]:
    return {name: found[name] for name, _ in model.named_parameters()}


def _units(module: nn.Module, prefix: str = "") -> Iterator[_Unit]:
    """The units of a module that is or holds a stack."""
    yield from _own(module, prefix)
    stack = _is_stack(module)
    for name, child in _children(module):
        if not stack and _holds_stack(child):
            yield from _units(child, f"{prefix}{name}.")
        else:
            yield _Unit(_names(child, f"{prefix}{name}."), stack)


def _flat(module: nn.Module, prefix: str = "") -> Iterator[_Unit]:
    """The units of a module without a stack: its children, and the items of containers."""
    yield from _own(module, prefix)
    children = list(_children(module))
    for name, child in children:
        if _is_container(child) or len(children) == 1 and list(_children(child)):
            yield from _flat(child, f"{prefix}{name}.")
        else:
            yield _Unit(_names(child, f"{prefix}{name}."))


def _own(module: nn.Module, prefix: str) -> Iterator[_Unit]:
    names = tuple(prefix + name for name, _ in module.named_parameters(recurse=False, remove_duplicate=False))
    if names:
        yield _Unit(names)


def _names(module: nn.Module, prefix: str) -> tuple[str, ...]:
    return tuple(prefix + name for name, _ in module.named_parameters(remove_duplicate=False))


def _children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The children that hold parameters."""
    for name, child in module._modules.items():
        if child is not None and next(child.parameters(), None) is not None:
            yield name, child


def _is_container(module: nn.Module) -> bool:
    return bool(module._modules) and all(name.isdecimal() for name in module._modules) and not module._parameters


def _is_stack(module: nn.Module) -> bool:
    if not _is_container(module):
        return False
    items = [child for _, child in _children(module) if child._modules and not _is_container(child)]
    return max(Counter(type(item).__name__ for item in items).values(), default=0) >= 2


def _holds_stack(module: nn.Module) -> bool:
    return any(map(_is_stack, module.modules()))
