"""The one YAML reader of the project: a file to plain values, each with the place where it was written.

Texts are read by YAML 1.2's core schema (see `scalars`). Tags, merge keys, duplicate keys and several documents are
refused; nesting, size and what aliases expand to are bounded before anything is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from builder.config.scalars import MisreadScalar, plain_value
from builder.config.yaml_faults import QUOTE_FORMULA, cut_formula, syntax_fault
from builder.errors import ConfigError, Fault, Origin, Path

MAX_BYTES = 4_000_000
"""The largest file that is read."""
MAX_DEPTH = 64
"""The deepest nesting of mappings and lists, aliases followed."""
MAX_NODES = 100_000
"""The most keys and values of a file, aliases followed; every 64 characters of a text count as one more."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ODD_LINE_BREAKS = re.compile("[\x85\u2028\u2029]")
_HEADER = re.compile(r"#\s*@package(\s+\S.*)?")
_PACKAGE = re.compile(r"_global_|(_global_\.)?[A-Za-z]\w*(\.\w+)*")
_PROPERTIES = re.compile(r"(&\S+)?(\s|#[^\n]*\n)*")


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content: `value` in plain Python, `origins` of all its values by path, `header` (`{"package": …}`)."""

    value: Any
    origins: dict[Path, Origin]
    header: dict[str, str]


def read_yaml(path: FilePath, shown: str | None = None) -> Document:
    """Read a file; `shown` is how origins and faults name it.

    Raises:
        ConfigError: it can't be read, or isn't YAML as the project writes it.
    """
    shown = str(path) if shown is None else shown
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(Fault(f"can't be read: {error.strerror or error}", origin=Origin(shown))) from None
    if len(content) > MAX_BYTES:
        raise ConfigError(_too_large(shown))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        fault = Fault("not UTF-8 text", origin=Origin(shown, line), found=content[error.start : error.start + 1])
        raise ConfigError(fault) from None
    return parse_yaml(text, shown)


def parse_yaml(text: str, shown: str) -> Document:
    """Read a text; `shown` is how origins and faults name its source.

    Raises:
        ConfigError: it isn't YAML as the project writes it; all that was found in it.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(_too_large(shown))
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    odd = _odd_character(text, shown)
    if odd is not None:
        raise ConfigError(odd)
    reader = _Reader(text, shown)
    root = reader.read()
    header = reader.header()
    if reader.faults:
        raise ConfigError(*reader.faults)
    origins: dict[Path, Origin] = {(): Origin(shown)}
    value = None if root is None else _value(root, (), origins)
    return Document(value, origins, header)


def _too_large(shown: str) -> Fault:
    return Fault("too large a file", origin=Origin(shown), expected=f"at most {MAX_BYTES:,} bytes")


def _odd_character(text: str, shown: str) -> Fault | None:
    """A fault for a lone surrogate, or for a line break that editors don't count as one."""
    try:
        text.encode("utf-8")
        odd = _ODD_LINE_BREAKS.search(text)
        at = None if odd is None else odd.start()
    except UnicodeEncodeError as error:
        at = error.start
    if at is None:
        return None
    origin = Origin(shown, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))
    code = f"{ord(text[at]):04x}"
    return Fault(
        f"an invisible character, U+{code.upper()}", origin=origin, hint=f'in double quotes, write "\\u{code}"'
    )


@dataclass(slots=True)
class _Node:
    """A scalar (`value`), list (`items`) or mapping (`items` and `keys`) with its place, its size and its height."""

    mark: Any
    value: Any = None
    items: list[_Node] | None = None
    keys: list[tuple[str | int, Any]] | None = None
    text: tuple[int, int] | None = None
    size: int = 1
    height: int = 0


class _Stop(Exception):
    """No sense can be made of the rest of the file."""


@dataclass(slots=True)
class _Reader:
    """Events of one text to nodes; what is wrong gathers in `faults`."""

    content: str
    shown: str
    faults: list[Fault] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)
    _anchors: dict[str, _Node | None] = field(default_factory=dict)
    _events: Iterator[Any] = field(default_factory=lambda: iter(()))
    _count: int = 0
    _in_flow: bool = False

    def read(self) -> _Node | None:
        """The root node of the one document, if there is one."""
        self._lines = self.content.split("\n")
        self._events = _events(self.content)
        root = None
        try:
            for event in self._events:
                if isinstance(event, yaml.DocumentStartEvent):
                    if root is not None:
                        self._stop("a second document", event.start_mark, (), hint="a file holds one document")
                    root = self._node(next(self._events), (), 0)
        except yaml.YAMLError as error:
            self.faults.append(syntax_fault(error, self.content, self._lines, self.shown))
        except _Stop:
            pass
        return root

    def header(self) -> dict[str, str]:
        """What the comment `# @package NAME` in the file's first lines says."""
        found: dict[str, str] = {}
        in_header = True
        for number, line in enumerate(self._lines, start=1):
            line = line.strip()
            if line and not line.startswith("#"):
                break
            match = _HEADER.fullmatch(line)
            if match is not None:
                self._header_line(number, in_header, (match[1] or "").strip(), found)
            in_header &= not line or match is not None
        return found

    def _header_line(self, number: int, in_header: bool, package: str, found: dict[str, str]) -> None:
        origin = Origin(self.shown, number, 1)
        if not in_header or found:
            self.faults.append(Fault("'# @package' must be the file's first line, and once", origin=origin))
        elif _PACKAGE.fullmatch(package) is None:
            expected = "'_global_', or a dotted path like 'model.encoder'"
            self.faults.append(Fault("not a package", origin=origin, found=package, expected=expected))
        found["package"] = package

    def _node(self, event: Any, path: Path, depth: int) -> _Node:
        self._count += 1
        if self._count > MAX_NODES:
            self._stop("too many values", event.start_mark, (), expected=f"at most {MAX_NODES:,}")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        if event.tag is not None:
            hint = "write the value without it; quotes make text" if isinstance(event, yaml.ScalarEvent) else None
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._fault("tags aren't allowed", event.start_mark, path, found=tag, hint=hint)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, path)
        else:
            node = self._collection(event, path, depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, path: Path) -> _Node:
        name = event.anchor
        target = self._anchors.get(name)
        if target is None:
            what = "an alias that holds itself" if name in self._anchors else "an alias to nothing"
            self._fault(what, event.start_mark, path, found=f"*{name}")
            return _Node(event.start_mark)
        return target

    def _scalar(self, event: Any, path: Path) -> _Node:
        node = _Node(event.start_mark, event.value, size=1 + len(event.value) // 64)
        if not event.style:
            try:
                node.value = plain_value(event.value)
            except MisreadScalar as error:
                self._fault(error.message, event.start_mark, path, found=event.value, hint=error.hint)
            whole = cut_formula(event.value, self.content, event.start_mark.index) if self._in_flow else None
            if whole is not None:
                self._fault("a ',' cuts this formula off", event.start_mark, path, found=whole, hint=QUOTE_FORMULA)
                if "[" in whole or "{" in whole:
                    raise _Stop  # which bracket closes what is anyone's guess
        if isinstance(node.value, str):
            node.text = self._text_place(event)
        return node

    def _text_place(self, event: Any) -> tuple[int, int]:
        """The line (from 1) of a text's first line, and the columns before it."""
        start = event.start_mark.index
        match = _PROPERTIES.match(self.content, start) if event.anchor is not None else None
        start = start if match is None else match.end()
        line = event.start_mark.line + self.content.count("\n", event.start_mark.index, start)
        if event.style not in ("|", ">"):
            column = start - (self.content.rfind("\n", 0, start) + 1)
            return line + 1, column + bool(event.style)
        first = next((text for text in event.value.split("\n") if text.strip()), "")
        raw = next((text for text in self._lines[line + 1 :] if text.strip()), "") if first else ""
        return line + 2, _indent(raw) - _indent(first)

    def _collection(self, event: Any, path: Path, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            self._stop("nested too deeply", event.start_mark, (), expected=f"at most {MAX_DEPTH} levels")
        node = _Node(event.start_mark, items=[])
        around, self._in_flow = self._in_flow, bool(event.flow_style)
        if isinstance(event, yaml.MappingStartEvent):
            node.keys = []
            self._mapping(node, path, depth)
        else:
            self._sequence(node, path, depth)
        self._in_flow = around
        assert node.items is not None
        node.size = 1 + sum(item.size for item in node.items)
        node.height = 1 + max((item.height for item in node.items), default=0)
        if node.size > MAX_NODES:
            self._stop("too many values, aliases expanded", node.mark, path, expected=f"at most {MAX_NODES:,} values")
        if node.height > MAX_DEPTH:
            self._stop("nested too deeply, aliases followed", node.mark, (), expected=f"at most {MAX_DEPTH} levels")
        return node

    def _sequence(self, node: _Node, path: Path, depth: int) -> None:
        assert node.items is not None
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                return
            node.items.append(self._node(event, (*path, len(node.items)), depth))

    def _mapping(self, node: _Node, path: Path, depth: int) -> None:
        assert node.items is not None and node.keys is not None
        seen: dict[str, int] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                return
            key = self._key(event, path, depth)
            item = self._node(next(self._events), path if key is None else (*path, key), depth)
            if key is None:
                continue
            first = seen.setdefault(str(key), event.start_mark.line + 1)
            if len(seen) == len(node.keys):
                self._fault("duplicate key", event.start_mark, (*path, key), hint=f"it stands on line {first} already")
                continue
            node.keys.append((key, event.start_mark))
            node.items.append(item)

    def _key(self, event: Any, path: Path, depth: int) -> str | int | None:
        """A key's value, or None for one that was refused."""
        if not isinstance(event, yaml.ScalarEvent):
            self._node(event, path, depth)
            self._fault("not a key", event.start_mark, path, expected="a text or a whole number")
            return None
        if event.value == "<<" and not event.style:
            self._fault("merge keys aren't allowed", event.start_mark, path, hint="write the keys out")
            return None
        before = len(self.faults)
        key = self._node(event, path, depth).value
        if len(self.faults) > before:
            return None
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            hint = "quote it to make it text" if event.value else None
            self._fault("not a key", event.start_mark, path, event.value, "a text or a whole number", hint)
            return None
        return key

    def _fault(
        self,
        message: str,
        mark: Any,
        path: Path,
        found: Any = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        origin = Origin(self.shown, mark.line + 1, mark.column + 1)
        self.faults.append(Fault(message, path, origin, found, expected, hint=hint))

    def _stop(self, message: str, mark: Any, path: Path, expected: str | None = None, hint: str | None = None) -> None:
        self._fault(message, mark, path, expected=expected, hint=hint)
        raise _Stop


def _events(text: str) -> Iterator[Any]:
    loader = _Loader(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _value(node: _Node, path: Path, origins: dict[Path, Origin]) -> Any:
    """A node as plain Python; the origins of what it holds go to `origins`."""
    if node.items is None:
        return node.value
    if node.keys is None:
        for index, item in enumerate(node.items):
            origins[(*path, index)] = _origin(origins[()], item.mark, item)
        return [_value(item, (*path, index), origins) for index, item in enumerate(node.items)]
    for (key, mark), item in zip(node.keys, node.items, strict=True):
        origins[(*path, key)] = _origin(origins[()], mark, item)
    return {key: _value(item, (*path, key), origins) for (key, _), item in zip(node.keys, node.items, strict=True)}


def _origin(file: Origin, mark: Any, item: _Node) -> Origin:
    text_line, text_indent = item.text or (None, 0)
    return Origin(file.file, mark.line + 1, mark.column + 1, text_line=text_line, text_indent=text_indent)
