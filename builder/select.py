"""Selectors: the one way to point at modules and parameters of a model, by name, by type, by shape.

A selector is a pattern for dotted names (the name of a module means all below it), a mapping of which every key must
hold, or a list of which any item may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from builder import patterns, registry
from builder.errors import Fault, Origin, Path, nearest

KEYS = ("match", "type", "name", "ndim", "requires_grad", "not")
"""What a mapping may say."""

ABOUT_PARAMETERS = ("name", "ndim", "requires_grad")
"""Keys that hold for parameters only; with one of them a mapping selects no module."""

EXAMPLES = "a pattern as 'encoder.**', a mapping as {type: Linear, name: weight}, or a list of them"


@dataclass(frozen=True, slots=True)
class Selector:
    """A selector as it was written, checked; `items` are a list's, `keys` a mapping's, `pattern` is a text's."""

    raw: Any
    path: Path
    origin: Origin
    pattern: str | None = None
    keys: tuple[tuple[str, Any], ...] = ()
    items: tuple[Selector, ...] = ()

    def __str__(self) -> str:
        return _shown(self.raw)

    @property
    def about_parameters(self) -> bool:
        """Whether it says something that only parameters have, so that it selects no module."""
        if self.items:
            return all(item.about_parameters for item in self.items)
        return any(key in ABOUT_PARAMETERS or _about(value) for key, value in self.keys)


def _about(value: Any) -> bool:
    return isinstance(value, Selector) and value.about_parameters


def _shown(raw: Any) -> str:
    if isinstance(raw, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(value)}" for key, value in raw.items()) + "}"
    if isinstance(raw, list | tuple):
        return "[" + ", ".join(map(_shown, raw)) + "]"
    return str(raw).lower() if isinstance(raw, bool) else str(raw)


def read_selector(raw: Any, path: Path, origin_of: Callable[[Path], Origin]) -> tuple[Selector | None, list[Fault]]:
    """The selector written at `path`, and what is wrong with it; it is None only with faults."""
    faults: list[Fault] = []
    selector = _read(raw, path, origin_of, faults)
    return (None if faults else selector), faults


def _read(raw: Any, path: Path, origin_of: Callable[[Path], Origin], faults: list[Fault]) -> Selector:
    origin = origin_of(path)
    if isinstance(raw, str):
        _check_pattern(raw, path, origin, faults)
        return Selector(raw, path, origin, pattern=raw)
    if isinstance(raw, list | tuple) and raw:
        items = [_read(item, (*path, index), origin_of, faults) for index, item in enumerate(raw)]
        return Selector(raw, path, origin, items=tuple(items))
    if isinstance(raw, Mapping) and raw:
        keys = [(str(key), _read_key(str(key), value, (*path, key), origin_of, faults)) for key, value in raw.items()]
        return Selector(raw, path, origin, keys=tuple(keys))
    faults.append(Fault("this selects nothing", path, origin, raw, EXAMPLES))
    return Selector(raw, path, origin)


def _check_pattern(pattern: str, path: Path, origin: Origin, faults: list[Fault]) -> None:
    problem = patterns.problem(pattern)
    if problem is not None:
        faults.append(Fault(f"this pattern can't be used: {problem}", path, origin, pattern))


def _read_key(key: str, value: Any, path: Path, origin_of: Callable[[Path], Origin], faults: list[Fault]) -> Any:
    """What a key of a mapping says: a selector for `match` and `not`, a tuple of alternatives for the rest."""
    origin = origin_of(path)
    if key in ("match", "not"):
        return _read(value, path, origin_of, faults)
    if key == "requires_grad":
        if not isinstance(value, bool):
            faults.append(Fault("'requires_grad' is true or false", path, origin, value))
        return value
    if key not in KEYS:
        expected = f"one of {', '.join(KEYS)}"
        faults.append(Fault(f"unknown key {key!r} of a selector", path, origin, None, expected, nearest(key, KEYS)))
        return value
    choices = tuple(value) if isinstance(value, list | tuple) and value else (value,)
    if any(type(choice) is not (int if key == "ndim" else str) for choice in choices):
        expected = "a number of dimensions" if key == "ndim" else "a text"
        faults.append(Fault(f"{key!r} can't be used", path, origin, value, f"{expected}, or a list of such"))
        return ()
    if key == "name":
        for choice in choices:
            _check_pattern(str(choice), path, origin, faults)
    return choices


class NamedModel:
    """The modules and parameters of a model by all their names, made once and asked often.

    Attributes:
        modules: each module under each of its names, the model itself under the empty one, parents first.
        parameters: each parameter once, by its first name, in the order of `model.named_parameters()`.
        aliases: the first name of each parameter with all of its names; tied ones have several.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
        named = list(model.named_parameters(remove_duplicate=False))
        names: dict[int, list[str]] = {}
        for name, parameter in named:
            names.setdefault(id(parameter), []).append(name)
        found = {id(parameter): parameter for _, parameter in named}
        self.parameters: dict[str, nn.Parameter] = {each[0]: found[key] for key, each in names.items()}
        self.aliases: dict[str, tuple[str, ...]] = {each[0]: tuple(each) for each in names.values()}
        self._names = {key: tuple(each) for key, each in names.items()}
        self._owners = {name: name.rpartition(".")[0] for name, _ in named}
        self._ids = frozenset(names)
        self._module_ids = frozenset(map(id, self.modules.values()))

    def parameters_of(self, selector: Selector) -> dict[str, nn.Parameter]:
        """The parameters that a selector selects, by first name, in the model's order.

        A tied parameter is selected if a pattern or a type holds for one of its names.
        """
        chosen = self._select(selector)[1]
        return {name: parameter for name, parameter in self.parameters.items() if id(parameter) in chosen}

    def modules_of(self, selector: Selector) -> dict[str, nn.Module]:
        """The modules that a selector selects, each by its first name; those below them are among them."""
        chosen = set(self._select(selector)[0])
        found: dict[str, nn.Module] = {}
        for name, module in self.modules.items():
            if id(module) in chosen:
                chosen.discard(id(module))
                found[name] = module
        return found

    def fault(self, selector: Selector) -> Fault | None:
        """Why a selector, or an item of it, selects nothing; None if it selects something."""
        for item in selector.items:
            fault = self.fault(item)
            if fault is not None:
                return fault
        if any(self._select(selector)):
            return None
        if selector.pattern is not None:
            return self._unmatched(selector, selector.pattern)
        return self._unheld(selector)

    def _select(self, selector: Selector) -> tuple[frozenset[int], frozenset[int]]:
        """The ids of the selected modules and parameters."""
        if selector.pattern is not None:
            pattern = selector.pattern
            return self._below(lambda name, _: patterns.fits(pattern, name), pattern)
        if selector.items:
            found = [self._select(item) for item in selector.items]
            return frozenset().union(*(each[0] for each in found)), frozenset().union(*(each[1] for each in found))
        modules, parameters = self._module_ids, self._ids
        for key, value in selector.keys:
            more = self._select_key(key, value)
            modules, parameters = modules & more[0], parameters & more[1]
        return frozenset() if selector.about_parameters else modules, parameters

    def _select_key(self, key: str, value: Any) -> tuple[frozenset[int], frozenset[int]]:
        if key == "match":
            return self._select(value)
        if key == "not":
            modules, parameters = self._select(value)
            return self._module_ids - modules, self._ids - parameters
        if key == "type":
            return self._below(lambda _, module: module is not None and any(_is_a(module, name) for name in value))
        return frozenset(), frozenset(self._with(key, value))

    def _with(self, key: str, value: Any) -> Iterator[int]:
        """The ids of the parameters of which a key holds that is about parameters."""
        for parameter in self.parameters.values():
            if key == "ndim":
                holds = parameter.ndim in value
            elif key == "requires_grad":
                holds = parameter.requires_grad is value
            else:
                leaves = {name.rpartition(".")[2] for name in self._names[id(parameter)]}
                holds = any(patterns.fits(pattern, leaf) for pattern in value for leaf in leaves)
            if holds:
                yield id(parameter)

    def _below(
        self, holds: Callable[[str, nn.Module | None], bool], pattern: str | None = None
    ) -> tuple[frozenset[int], frozenset[int]]:
        """The ids of what a condition on names and modules holds of, and of all below; parents come first."""
        names: set[str] = set()
        for name, module in self.modules.items():
            if (name and (name.rpartition(".")[0] in names or "" in names)) or holds(name, module):
                names.add(name)
        modules = frozenset(id(self.modules[name]) for name in names)
        parameters = {
            key for key, own in self._names.items()
            if any(self._owners[name] in names or (pattern is not None and holds(name, None)) for name in own)
        }  # fmt: skip
        return modules, frozenset(parameters)

    def _unmatched(self, selector: Selector, pattern: str) -> Fault:
        """The fault of a pattern that fits no name."""
        names = [name for each in self.aliases.values() for name in each] + [name for name in self.modules if name]
        close = patterns.near(pattern, names)
        expected = None if close else f"names such as {', '.join(self._children('')[:8])}"
        message = "no module or parameter has such a name"
        return Fault(message, selector.path, selector.origin, pattern, expected, close)

    def _children(self, name: str) -> list[str]:
        start = f"{name}." if name else ""
        names = [*self.modules, *self._owners]
        return list(
            dict.fromkeys(start + each[len(start) :].split(".")[0] for each in names if each.startswith(start) and each)
        )

    def _unheld(self, selector: Selector) -> Fault:
        """The fault of a mapping that selects nothing: that of the key that alone selects nothing, if there is one."""
        for key, value in selector.keys:
            if any(self._select_key(key, value)):
                continue
            place = (*selector.path, key)
            if isinstance(value, Selector) and key == "match":
                return self.fault(value) or Fault("this selects nothing", place, value.origin, value.raw)
            if key == "type":
                return self._unknown_type(selector, value)
            return Fault(
                f"nothing has this {key!r}", place, selector.origin, dict(_plain(selector))[key], self._there(key)
            )
        message = "nothing has all of this at once, though each of it alone is there"
        return Fault(message, selector.path, selector.origin, selector.raw)

    def _unknown_type(self, selector: Selector, names: Iterable[str]) -> Fault:
        present = dict.fromkeys(type(module).__name__ for module in self.modules.values())
        close = [each for name in names for each in nearest(name, present)]
        place, found = (*selector.path, "type"), dict(_plain(selector))["type"]
        return Fault("no module is of this type", place, selector.origin, found, f"one of {', '.join(present)}", close)

    def _there(self, key: str) -> str | None:
        """What there is of a key, for a message."""
        if key == "ndim":
            return f"one of {', '.join(map(str, sorted({each.ndim for each in self.parameters.values()})))}"
        if key == "name":
            return f"one of {', '.join(dict.fromkeys(name.rpartition('.')[2] for name in self._owners))}"
        return None


def _plain(selector: Selector) -> Iterator[tuple[str, Any]]:
    """The keys of a mapping as they were written."""
    yield from ((str(key), value) for key, value in selector.raw.items())


def _is_a(module: nn.Module, name: str) -> bool:
    """Whether a module is of a registered layer's class, or of the class that a block of that name has."""
    target = registry.layers.get(name) if name in registry.layers else None
    if isinstance(target, type):
        return isinstance(module, target)
    wanted = _spelt(name.removeprefix("model/"))
    return any(_spelt(cls.__name__) == wanted for cls in type(module).__mro__)


def _spelt(name: str) -> str:
    """A name as a block's and its class's are the same: `pre_norm` and `PreNorm`."""
    return "".join(char for char in name if char.isalnum()).lower()
