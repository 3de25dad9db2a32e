"""What the user is told when something is wrong: faults with their origin, and the exceptions that carry them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
"""Keys and indices from the root of a config to a value."""


def printable(text: str) -> str:
    """A text as a terminal may be given it: what isn't printed, such as an escape sequence, as Python writes it."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a config value was written: a place in a file, the text of an override, or neither (a default).

    `line` and `column` count from 1 and are those of the key (of the item, in a list). For a text value, `text_line` is
    the file's line on which its first line stands and `text_indent` the columns before it, so that line 3 of a block
    of Python can be named by its line in the YAML file.
    """

    file: str | None = None
    line: int | None = None
    column: int | None = None
    override: str | None = None
    text_line: int | None = None
    text_indent: int = 0

    def __str__(self) -> str:
        if self.override is not None:
            return f"override '{printable(self.override)}'"
        if self.file is None:
            return "default"
        return printable(self.file if self.line is None else f"{self.file}:{self.line}")

    def at_text(self, line: int) -> Origin:
        """The origin of line `line` (from 1) of this value's text."""
        if self.file is None or self.text_line is None:
            return self
        return Origin(self.file, self.text_line + line - 1, self.text_indent + 1)


DEFAULT = Origin()


def dotted(path: Path) -> str:
    """A config path as the user would write it: `model.layers.trunk[0].type`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return printable(text)


def nearest(name: object, valid: Iterable[object], limit: int = 3) -> tuple[str, ...]:
    """The valid names most like `name`, best first; none if nothing is like it."""
    by_lower: dict[str, str] = {}
    for choice in valid:
        by_lower.setdefault(str(choice).lower(), str(choice))
    close = difflib.get_close_matches(str(name).lower(), list(by_lower), n=limit, cutoff=0.6)
    return tuple(by_lower[choice] for choice in close)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a config.

    `message` says it in one clause without origin or path; `found` is the value as the user wrote it, `expected` what
    would have been right, `nearest` the valid names most like the one found, `hint` the way out if it needs words.
    `givers` are the paths and origins of other values that what was found was computed from.
    """

    message: str
    path: Path = ()
    origin: Origin = DEFAULT
    found: Any = None
    expected: str | None = None
    nearest: Sequence[str] = ()
    hint: str | None = None
    givers: Sequence[str] = ()

    def __str__(self) -> str:
        where = [part for part in (str(self.origin) if self.origin != DEFAULT else "", dotted(self.path)) if part]
        lines = [": ".join([*where, self.message])]
        if self.found is not None:
            lines.append(f"  found:    {_shown(self.found)}")
        lines += [f"  from:     {giver}" for giver in self.givers]
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.nearest:
            lines.append(f"  did you mean {' or '.join(repr(name) for name in self.nearest)}?")
        if self.hint is not None:
            lines.append(f"  hint:     {self.hint}")
        return "\n".join(lines)


def _shown(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


class BuilderError(Exception):
    """Base of all errors that are told to the user without a stack trace; `exit_code` is the process's."""

    exit_code = 1


class ConfigError(BuilderError):
    """The config is wrong; `faults` holds all that was found, in the order of the config."""

    exit_code = 2

    def __init__(self, *faults: Fault) -> None:
        assert faults, "a ConfigError needs a fault"
        super().__init__(*faults)
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


class UsageError(BuilderError):
    """The command line is wrong."""

    exit_code = 2


class UnknownName(BuilderError, LookupError):
    """A name that a registry doesn't hold."""

    exit_code = 2

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        self.kind, self.name, self.nearest = kind, name, nearest(name, valid)
        super().__init__(kind, name)

    def __str__(self) -> str:
        near = f"; did you mean {' or '.join(repr(name) for name in self.nearest)}?" if self.nearest else ""
        return f"unknown {self.kind} {self.name!r}{near}"


class DuplicateName(BuilderError, ValueError):
    """A name that is registered twice."""

    exit_code = 2


class MissingExtra(BuilderError, ImportError):
    """A package of an extra is needed and not installed."""


class RunError(BuilderError):
    """A run folder can't be opened, written or read, or training in it failed."""


class LayerError(BuilderError):
    """A layer raised while the model ran; says the YAML line and the shapes on it."""


class Stopped(BuilderError):
    """Training was ended on purpose before its end: by a sweep that has seen enough of a trial."""
