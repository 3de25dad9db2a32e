"""What names mean at a place of a model: which arguments a formula sees, which blocks a `type` may name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from builder.config.origin import Origins
from builder.errors import Fault, Path, nearest
from builder.lang.formula import Formula, parse_formula
from builder.lang.names import spelling_problem
from builder.lang.syntax import LangError
from builder.model.spec import Definition, Place, Value

LIBRARY = "block"
"""First key of the path of whatever stands in a library's block."""


class Library(Protocol):
    """Blocks usable in every model, by name."""

    def names(self) -> list[str]:
        """All names."""

    def __contains__(self, name: object) -> bool: ...

    def get(self, name: str) -> Any:
        """The document that defines the block of that name: `.value` and `.origins`."""


class NoLibrary:
    """A library without blocks."""

    def names(self) -> list[str]:
        """No name."""
        return []

    def __contains__(self, name: object) -> bool:
        return False

    def get(self, name: str) -> Any:
        """Never succeeds."""
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class BlockSource:
    """A block as it was written, and where."""

    name: str
    raw: Any
    origins: Origins
    path: Path
    scope: BlockScope


@dataclass(frozen=True, slots=True)
class BlockScope:
    """The blocks that a `type` may name here: this definition's, then those around it, then the library's."""

    local: Mapping[str, BlockSource]
    outer: BlockScope | None
    library: Library

    def find(self, name: str) -> BlockSource | None:
        """The block of that name, if there is one."""
        if name in self.local:
            return self.local[name]
        if self.outer is not None:
            return self.outer.find(name)
        if name not in self.library:
            return None
        document = self.library.get(name)
        origins = Origins()
        origins.merge(document.origins, prefix=(LIBRARY, name))
        return BlockSource(name, document.value, origins, (LIBRARY, name), BlockScope({}, None, self.library))

    def names(self) -> Iterator[str]:
        """All names, innermost first."""
        yield from self.local
        yield from self.outer.names() if self.outer is not None else self.library.names()


@dataclass(slots=True)
class Reading:
    """What is shared while one model is read: the faults found so far, the blocks already read, how to read more."""

    define: DefinitionReader
    faults: list[Fault] = field(default_factory=list)
    blocks: dict[tuple[int, str], Definition | None] = field(default_factory=dict)
    open_blocks: list[str] = field(default_factory=list)
    depth: int = 0


class DefinitionReader(Protocol):
    """Reads the definition that stands in a node or block."""

    def __call__(self, raw: Any, context: Context, name: str, *, inherits: bool = False) -> Definition | None:
        """The definition, None with faults; with `inherits`, one that sees the names around it."""


@dataclass(frozen=True, slots=True)
class Context:
    """Where the reader is: the names that formulas see, the blocks in scope, and where values come from."""

    reading: Reading
    origins: Origins
    path: Path
    names: frozenset[str]
    blocks: BlockScope

    def at(self, *keys: str | int) -> Context:
        """The same, further down the config."""
        return Context(self.reading, self.origins, (*self.path, *keys), self.names, self.blocks)

    def seeing(self, *names: str) -> Context:
        """The same, with more names for formulas."""
        return Context(self.reading, self.origins, self.path, self.names | frozenset(names), self.blocks)

    @property
    def place(self) -> Place:
        """The path and origin of what is read here."""
        return Place(self.origins.of(self.path), self.path)

    def fault(self, message: str, **details: Any) -> None:
        """Report that something is wrong at this place."""
        self.reading.faults.append(Fault(message, self.path, self.origins.of(self.path), **details))


def read_mapping(raw: Any, context: Context, what: str) -> dict[str, Any]:
    """A mapping with its keys as texts; an empty one for null, and for a fault."""
    if raw is None:
        return {}
    if isinstance(raw, dict):
        return {str(key): value for key, value in raw.items()}
    context.fault(f"{what} is a mapping", found=raw)
    return {}


def refuse_unknown(raw: Mapping[str, Any], context: Context, known: tuple[str, ...], what: str) -> None:
    """A fault for each key that isn't known."""
    for key in raw:
        if key not in known:
            context.at(key).fault(
                f"unknown key {key!r} in {what}", expected=f"one of {', '.join(known)}", nearest=nearest(key, known)
            )


def read_value(raw: Any, context: Context, read_node: Callable[[Any, Context], Any] | None = None) -> Value:
    """A value with its formulas parsed and their names checked; nested layers are read by `read_node`."""
    if isinstance(raw, str):
        return read_formula(raw, context) if raw.startswith("=") else raw
    if isinstance(raw, dict):
        if read_node is not None and isinstance(raw.get("type"), str):
            return read_node(raw, context)
        return {key: read_value(item, context.at(key), read_node) for key, item in raw.items()}
    if isinstance(raw, list):
        return [read_value(item, context.at(index), read_node) for index, item in enumerate(raw)]
    return raw


def read_formula(raw: str, context: Context) -> Formula | None:
    """The formula that a text `=…` holds; None, and a fault, if it is none."""
    try:
        formula = parse_formula(raw[1:])
    except LangError as error:
        context.reading.faults.append(error.fault(raw, context.place.origin, context.path))
        return None
    for name in sorted(formula.names - context.names):
        context.fault(
            f"unknown name {name!r} in a formula",
            found=raw,
            expected=f"one of {', '.join(sorted(context.names))}" if context.names else "a formula without names",
            nearest=nearest(name, context.names),
        )
    return formula


def evaluate(value: Value, names: Mapping[str, Any]) -> Any:
    """A read value with its formulas computed.

    Raises:
        LangError: a formula can't be computed.
    """
    if isinstance(value, Formula):
        return value.evaluate(names)
    if isinstance(value, dict):
        return {key: evaluate(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [evaluate(item, names) for item in value]
    return value


def is_spelt(name: str, context: Context, what: str) -> bool:
    """Whether a name is one of Python's; a fault if it isn't."""
    problem = spelling_problem(name)
    if problem is not None:
        context.fault(
            f"{name!r} can't be the name of {what}",
            expected="a Python name that doesn't begin with '_'",
            hint=f"it {problem}" if name.isidentifier() and not name.startswith("_") else None,
        )
    return problem is None
