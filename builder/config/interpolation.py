r"""`${…}` in a config: references to other values and to the environment, resolved within bounds.

The forms are OmegaConf's, by its rules: `${key.of.the.config}`, `${.sibling}`, `${oc.env:NAME}`,
`${oc.env:NAME,default}`, `${oc.select:key,default}`; `\${` is a literal. Every other
resolver is refused, registered or not.
"""

from __future__ import annotations

import copy
import os
import re
from dataclasses import dataclass, field
from typing import Any

from builder.config.origin import Origins
from builder.config.scalars import MisreadScalar, plain_value
from builder.config.tree import MISSING, has_interpolation, size, step
from builder.errors import ConfigError, Fault, Path, dotted, nearest

MAX_EXPANDED = 100_000
"""The most values that all references together may add; every 64 characters of a text count as one more."""
MAX_CHAIN = 32
"""The most references that lead on to one another."""

_EXPECTED = "${key.of.the.config}, ${oc.env:NAME}, ${oc.env:NAME,default} or ${oc.select:key,default}"
_OPEN = re.compile(r"(\\*)\$\{")
_KEY = r"[^\\{}()\[\]:.\s'\",$=]+"
_KEYS = rf"\.*(?:{_KEY}|\[{_KEY}\])(?:\.{_KEY}|\[{_KEY}\])*"
_NODE = re.compile(rf"\s*({_KEYS})\s*\}}")
_WORD = r"[\w/+.%*@?|:-]+"
_ARGUMENT = rf"'[^'\\$]*'|\"[^\"\\$]*\"|{_WORD}(?: +{_WORD})*"
_RESOLVER = re.compile(rf"\s*(oc\.env|oc\.select)\s*:\s*({_ARGUMENT})\s*(?:,\s*({_ARGUMENT})\s*)?\}}")
_ANY_RESOLVER = re.compile(r"\s*([\w.-]+)\s*:")
_PART = re.compile(rf"{_KEY}")

_BAD: Any = object()
"""Stands for a value whose fault is told already."""
_NONE: Any = object()
"""Stands for no default."""


class NotAnInterpolation(ValueError):
    """A text with a `${` that isn't one of the known forms."""


@dataclass(frozen=True, slots=True)
class _Reference:
    """`${key}` (`resolver` is empty), or a resolver with its arguments as written."""

    resolver: str
    argument: str
    default: str | None = None


def pieces(text: str) -> list[str | _Reference]:
    """A text as literal parts and references.

    Raises:
        NotAnInterpolation: it holds a `${` of an unknown form.
    """
    found: list[str | _Reference] = []
    at = 0
    while (match := _OPEN.search(text, at)) is not None:
        found.append(text[at : match.start()] + "\\" * (len(match[1]) // 2))
        if len(match[1]) % 2:
            found.append("${")
            at = match.end()
            continue
        reference, at = _reference(text, match.end())
        found.append(reference)
    found.append(text[at:])
    return [piece for piece in found if piece != ""]


def _reference(text: str, at: int) -> tuple[_Reference, int]:
    if (node := _NODE.match(text, at)) is not None:
        return _Reference("", node[1]), node.end()
    if (resolver := _RESOLVER.match(text, at)) is not None:
        return _Reference(resolver[1], resolver[2], resolver[3]), resolver.end()
    other = _ANY_RESOLVER.match(text, at)
    if other is not None and other[1] not in ("oc.env", "oc.select"):
        raise NotAnInterpolation(f"the resolver {other[1]!r} isn't allowed")
    raise NotAnInterpolation("not an interpolation")


def resolve(config: dict[Any, Any], origins: Origins) -> dict[Any, Any]:
    """A config with every reference replaced by what it stands for.

    Raises:
        ConfigError: values are missing, references lead nowhere or in a circle, or they expand to too much.
    """
    resolver = _Resolver(config, origins)
    try:
        values = resolver.value(config, ())
    except RecursionError:
        raise ConfigError(Fault("interpolations that lead on too far")) from None
    if resolver.faults:
        raise ConfigError(*resolver.faults)
    return values


@dataclass(slots=True)
class _Resolver:
    config: dict[Any, Any]
    origins: Origins
    faults: list[Fault] = field(default_factory=list)
    _texts: dict[Path, Any] = field(default_factory=dict)
    _active: set[Path] = field(default_factory=set)
    _expanded: int = 0

    def value(self, raw: Any, path: Path) -> Any:
        """The value at a path, whose unresolved form is `raw`."""
        if isinstance(raw, dict):
            return {key: self.value(item, (*path, key)) for key, item in raw.items()}
        if isinstance(raw, list):
            return [self.value(item, (*path, index)) for index, item in enumerate(raw)]
        if raw == MISSING:
            return self._missing(path)
        return self._text(raw, path) if has_interpolation(raw) else raw

    def _missing(self, path: Path) -> Any:
        if path not in self._texts:
            self._fault("a required value is missing", path, hint=f"give it as {dotted(path)}=VALUE")
            self._texts[path] = _BAD
        return _BAD

    def _text(self, raw: str, path: Path) -> Any:
        if path in self._texts:
            return self._texts[path]
        if path in self._active:
            return self._fault("an interpolation that leads back to itself", path, raw)
        if len(self._active) >= MAX_CHAIN:
            return self._fault("interpolations that lead on too far", path, raw, f"at most {MAX_CHAIN} in a row")
        self._active.add(path)
        try:
            value = self._joined(pieces(raw), raw, path)
        except NotAnInterpolation as error:
            value = self._fault(str(error), path, raw, _EXPECTED)
        self._active.discard(path)
        self._texts[path] = value
        return value

    def _joined(self, parts: list[str | _Reference], raw: str, path: Path) -> Any:
        values = [part if isinstance(part, str) else self._referred(part, raw, path) for part in parts]
        if any(value is _BAD for value in values):
            return _BAD
        if len(values) == 1:
            return values[0]
        for value in values:
            if isinstance(value, (dict, list)):
                return self._fault("a mapping or list inside a text", path, raw)
        joined = "".join(str(value) for value in values)
        return joined if self._charge(joined, raw, path) else _BAD

    def _referred(self, reference: _Reference, raw: str, path: Path) -> Any:
        if reference.resolver == "oc.env":
            return self._environment(reference, raw, path)
        default = self._default(reference, raw, path) if reference.resolver else _NONE
        if default is _BAD or self._expanded > MAX_EXPANDED:
            return _BAD
        value = self._at(reference, default, raw, path)
        return value if value is _BAD or self._charge(value, raw, path) else _BAD

    def _environment(self, reference: _Reference, raw: str, path: Path) -> Any:
        name = _unquoted(reference.argument)
        if name in os.environ:
            return os.environ[name]
        if reference.default is None:
            hint = f"set it, or write ${{oc.env:{name},default}}"
            return self._fault(f"the environment variable {name} isn't set", path, raw, hint=hint)
        value = self._default(reference, raw, path)
        return value if value is None or value is _BAD else _unquoted(reference.default)

    def _default(self, reference: _Reference, raw: str, path: Path) -> Any:
        if reference.default is None:
            return None
        if reference.default[0] in "'\"":
            return _unquoted(reference.default)
        try:
            return plain_value(reference.default)
        except MisreadScalar as error:
            return self._fault(error.message, path, raw, hint="quote the default")

    def _at(self, reference: _Reference, default: Any, raw: str, path: Path) -> Any:
        """A copy of the value that a reference means; without it, the default if there is one, else a fault."""
        dots, names = _names(_unquoted(reference.argument))
        if dots > len(path):
            return self._fault("an interpolation that leads out of the config", path, raw)
        node: Any = self.config
        here: Path = ()
        resolved = False
        for name in (*map(str, path[: len(path) - dots] if dots else ()), *names):
            key = step(node, name)
            if key is None:
                return default if default is not _NONE else self._nowhere(node, (*here, name), raw, path)
            node, here = node[key], (*here, key)
            if not resolved and has_interpolation(node):
                node, resolved = self._text(node, here), True
                if node is _BAD:
                    return _BAD
        if resolved:
            return copy.deepcopy(node)
        if node == MISSING and default is not _NONE:
            return default
        value = self.value(node, here)
        return value if value is _BAD else copy.deepcopy(value)

    def _nowhere(self, node: Any, target: Path, raw: str, path: Path) -> Any:
        keys = [str(key) for key in node] if isinstance(node, dict) else []
        near = tuple(dotted((*target[:-1], key)) for key in nearest(target[-1], keys))
        self._fault(f"no such key: {dotted(target)}", path, raw, near=near)
        return _BAD

    def _charge(self, value: Any, raw: str, path: Path) -> bool:
        if self._expanded > MAX_EXPANDED:
            return False
        self._expanded += size(value)
        if self._expanded > MAX_EXPANDED:
            self._fault("interpolations that expand to too much", path, raw, f"at most {MAX_EXPANDED:,} values")
            return False
        return True

    def _fault(
        self,
        message: str,
        path: Path,
        found: Any = None,
        expected: str | None = None,
        hint: str | None = None,
        near: tuple[str, ...] = (),
    ) -> Any:
        self.faults.append(Fault(message, path, self.origins.of(path), found, expected, near, hint))
        return _BAD


def _unquoted(argument: str) -> str:
    return argument[1:-1] if argument[0] in "'\"" else argument


def _names(key: str) -> tuple[int, list[str]]:
    """The leading dots of a reference and the keys after them."""
    return len(key) - len(key.lstrip(".")), _PART.findall(key)
