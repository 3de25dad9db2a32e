"""What two models differ in by meaning: parts added, removed, renamed, changed; shapes, parameters, weights."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from builder.inspect.dimensions import NamedCall, NamedShape, named_calls
from builder.model.infer import Exploration
from builder.model.spec import Definition, Node
from builder.weights.between import Between, between

PLAIN = (bool, int, float, str, type(None))

INPUTS, OUTPUTS = "input shapes", "output shapes"
"""Keys of a change that no argument can have as its name."""


@dataclass(frozen=True, slots=True)
class Part:
    """One module of a model: what it is, and what went through it at its first call.

    `arguments` are those of its constructor, as far as the module tells them; `forward` is the text of a definition's.
    """

    path: str
    type: str
    arguments: Mapping[str, Any]
    inputs: tuple[NamedShape, ...]
    outputs: tuple[NamedShape, ...]
    tensors: Mapping[str, tuple[int, ...]]
    forward: str | None = None

    @property
    def title(self) -> str:
        """The type with its arguments."""
        return f"{self.type}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"


@dataclass(frozen=True, slots=True)
class Change:
    """A part that both models have, and in what it differs: each key with what it was and what it is."""

    path: str
    type: str
    values: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class ModelDiff:
    """What a model differs in from another.

    `parameters` and `trainable` are the numbers of both; `renamed` are paths of parts that are the same elsewhere.
    """

    added: tuple[Part, ...]
    removed: tuple[Part, ...]
    renamed: tuple[tuple[str, str], ...]
    changed: tuple[Change, ...]
    parameters: tuple[int, int]
    trainable: tuple[int, int]
    weights: Between

    @property
    def is_same(self) -> bool:
        """Whether there is no difference."""
        return not (self.added or self.removed or self.renamed or self.changed) and self.weights.all_load

    def to_json(self) -> dict[str, Any]:
        """The differences for programs."""
        return {
            "same": self.is_same,
            "added": [_part_json(part) for part in self.added],
            "removed": [_part_json(part) for part in self.removed],
            "renamed": [list(pair) for pair in self.renamed],
            "changed": [_change_json(change) for change in self.changed],
            "parameters": list(self.parameters), "trainable": list(self.trainable), "weights": self.weights.to_json(),
        }  # fmt: skip


def _change_json(change: Change) -> dict[str, Any]:
    values = {key: list(pair) for key, pair in change.values.items()}
    return {"path": change.path, "type": change.type, "values": values}


def _part_json(part: Part) -> dict[str, Any]:
    return {
        "path": part.path, "type": part.type, "arguments": dict(part.arguments),
        "tensors": {name: list(shape) for name, shape in part.tensors.items()},
    }  # fmt: skip


def diff_models(one: tuple[Definition, Exploration], other: tuple[Definition, Exploration]) -> ModelDiff:
    """What the second model differs in from the first."""
    before, after = _parts(*one), _parts(*other)
    removed = [path for path in before if path not in after]
    added = [path for path in after if path not in before]
    renamed = _renamed(removed, added, before, after)
    moved_from, moved_to = {old for old, _ in renamed}, {new for _, new in renamed}
    changes = (_change(before[path], after[path]) for path in before if path in after)
    models = one[1].model, other[1].model
    return ModelDiff(
        tuple(after[path] for path in added if not _within(path, moved_to)),
        tuple(before[path] for path in removed if not _within(path, moved_from)),
        tuple(renamed),
        tuple(change for change in changes if change.values),
        (_count(models[0]), _count(models[1])), (_count(models[0], True), _count(models[1], True)), between(*models),
    )  # fmt: skip


def _count(model: nn.Module, trainable: bool = False) -> int:
    return sum(each.numel() for each in model.parameters() if each.requires_grad or not trainable)


def _parts(definition: Definition, found: Exploration) -> dict[str, Part]:
    calls = named_calls(definition, found)
    parts = {}
    for path, module in found.model.named_modules(remove_duplicate=False):
        node = found.nodes.get(path)
        call = calls.get(path, NamedCall((), ()))
        own = definition if not path else node.definition if node is not None else None
        parts[path] = Part(
            path, type(module).__name__, dict(_arguments(module, node, own)), call.inputs, call.outputs,
            {name: tuple(tensor.shape) for name, tensor in _tensors(module)},
            own.forward.text.strip() if own is not None and own.forward is not None else None,
        )  # fmt: skip
    return parts


def _tensors(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        if tensor is not None:
            yield name, tensor


def _arguments(module: nn.Module, node: Node | None, definition: Definition | None) -> Iterator[tuple[str, Any]]:
    """The constructor's arguments as the module holds them; where it doesn't, as they are written, without formulas."""
    if definition is not None:
        names: Sequence[str] = list(definition.args)
    else:
        names = [name for name in inspect.signature(type(module)).parameters if name not in ("device", "dtype")]
    for name in names:
        value = getattr(module, name, node.arguments.get(name) if node is not None else None)
        if name in module._parameters:
            yield name, value is not None  # `bias` is whether there is one
        elif _is_plain(value) and (value is not None or hasattr(module, name)):
            yield name, list(value) if isinstance(value, tuple) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return type(value) in PLAIN or (isinstance(value, list | tuple) and all(map(_is_plain, value)))


def _change(before: Part, after: Part) -> Change:
    values: dict[str, tuple[Any, Any]] = {}
    if before.path and before.type != after.type:
        values["type"] = (before.type, after.type)
    for key in dict.fromkeys((*before.arguments, *after.arguments)):
        pair = before.arguments.get(key), after.arguments.get(key)
        if pair[0] != pair[1] or type(pair[0]) is not type(pair[1]):
            values[key] = pair
    for key, own in ((INPUTS, [before.inputs, after.inputs]), (OUTPUTS, [before.outputs, after.outputs])):
        shapes = [[list(shape) for shape in part] for part in own]
        if shapes[0] != shapes[1]:
            values[key] = shapes[0], shapes[1]
    for name in dict.fromkeys((*before.tensors, *after.tensors)):
        tensors = before.tensors.get(name), after.tensors.get(name)
        if tensors[0] != tensors[1]:
            values[f"{name} shape"] = tuple(None if each is None else list(each) for each in tensors)  # type: ignore[assignment]
    if before.forward != after.forward:
        values["forward"] = before.forward, after.forward
    return Change(after.path, after.type, values)


def _renamed(
    removed: Sequence[str], added: Sequence[str], before: Mapping[str, Part], after: Mapping[str, Part]
) -> list[tuple[str, str]]:
    """Removed parts that are the same as added ones, whole trees at a time; one for one, in their order."""
    found: list[tuple[str, str]] = []
    keys_after = {path: _key(path, after) for path in added}
    for old in removed:
        if _within(old, {pair[0] for pair in found}):
            continue
        key = _key(old, before)
        taken = {pair[1] for pair in found}
        new = next((path for path in added if keys_after[path] == key and not _within(path, taken)), None)
        if new is not None and (before[old].tensors or any(path.startswith(f"{old}.") for path in before)):
            found.append((old, new))
    return found


def _key(path: str, parts: Mapping[str, Part]) -> object:
    """What a part is, with all in it, but for its name."""
    return tuple(
        (name[len(path) :], part.type, repr(part.arguments), repr(part.tensors), part.forward)
        for name, part in parts.items()
        if name == path or name.startswith(f"{path}.")
    )


def _within(path: str, outer: set[str]) -> bool:
    return any(path == each or path.startswith(f"{each}.") for each in outer)
