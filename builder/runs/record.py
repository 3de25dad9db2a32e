"""One run as a row of a table: how it stands, its final metrics, and any key of its config, read when asked for.

Of a run folder only `status.json` is read, and of `config.yaml` only the sections that are named.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from builder.config.tree import locate
from builder.config.yaml_file import MAX_BYTES, parse_yaml
from builder.durable import told
from builder.errors import ConfigError, RunError
from builder.runs.status import Status, status

CONFIG = "config.yaml"
FACTS = ("name", "run", "state", "started", "ended", "seconds", "epoch", "step", "reason", "attempts", "host")
"""What is known of every run; all other names are those of metrics or of keys of the config."""
MAX_CHAIN = 32
"""The most references of a config that lead on to one another."""

_SECTION = re.compile(r"^([A-Za-z_]\w*):", re.MULTILINE)
_STEPS = re.compile(r"[^.\[\]]+")
_REFERENCE = re.compile(r"\$\{([\w.\[\]]+)\}")


class _Absent:
    """The value of what a run doesn't have."""

    def __repr__(self) -> str:
        return "absent"

    def __bool__(self) -> bool:
        return False


ABSENT = _Absent()


@dataclass(slots=True)
class Record:
    """A run folder, how it stands (None where that can't be read, `damage` says why), and its config by sections."""

    path: pathlib.Path
    status: Status | None
    damage: str | None = None
    _sections: dict[str, Any] = field(default_factory=dict, repr=False)
    _texts: dict[str, str] | None = field(default=None, repr=False)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The final metrics by name; none while it runs."""
        return {} if self.status is None else self.status.metrics

    def value(self, name: str) -> Any:
        """A fact, a final metric, or the value at a dotted key of the config (`optimizer.groups[0].lr`).

        A value that refers to another key (`${task.monitor}`) is that one's; one of the environment is left as written.

        Returns:
            The value; `ABSENT` if the run has no such thing.
        """
        if name in FACTS:
            return self._fact(name)
        return self.metrics[name] if name in self.metrics else self.setting(name)

    def setting(self, name: str) -> Any:
        """The value at a dotted key of the config; `ABSENT` if there is none."""
        for _ in range(MAX_CHAIN):
            found = self._written(name)
            reference = _REFERENCE.fullmatch(found) if isinstance(found, str) else None
            if reference is None:
                return found
            name = reference[1]
        return ABSENT

    def sections(self) -> list[str]:
        """The keys at the top of the config."""
        return list(self._split())

    def section(self, name: str) -> Any:
        """A section of the config as it was written; `ABSENT` if there is none, or it can't be read."""
        if name not in self._sections:
            self._sections[name] = _parsed(self._split().get(name), name)
        return self._sections[name]

    def keys(self, section: str) -> Iterator[str]:
        """The dotted keys of a section of the config."""
        found = self.section(section)
        return iter(()) if found is ABSENT else _keys(found, section)

    def _written(self, name: str) -> Any:
        top, *below = _STEPS.findall(name)
        section = self.section(top)
        found, value = ((), ABSENT) if section is ABSENT else locate(section, below)
        return value if len(found) == len(below) else ABSENT

    def _fact(self, name: str) -> Any:
        if name in ("name", "run"):
            return self.path.parent.name if name == "name" else self.path.name
        if self.status is None:
            return "damaged" if name == "state" else self.damage if name == "reason" else ABSENT
        return self.status.process.host if name == "host" else getattr(self.status, name)

    def _split(self) -> dict[str, str]:
        if self._texts is None:
            self._texts = _sections(self.path / CONFIG)
        return self._texts


def record(run: pathlib.Path) -> Record:
    """The record of a run folder; one whose `status.json` can't be read has none."""
    path = pathlib.Path(run)
    path = path.resolve() if path.name in ("", "..") else path
    try:
        return Record(path, status(path))
    except RunError as error:
        return Record(path, None, str(error))


def config_of(run: pathlib.Path) -> dict[str, Any]:
    """The whole saved config of a run, as it was written.

    Raises:
        RunError: it isn't there, or the system refuses.
        ConfigError: it isn't YAML.
    """
    value = parse_yaml(_text(run / CONFIG), str(run / CONFIG)).value
    if not isinstance(value, dict):
        raise RunError(f"cannot read {run / CONFIG}: it is damaged")
    return value


def _text(path: pathlib.Path) -> str:
    with told("read", path), open(path, "rb") as file:
        return file.read(MAX_BYTES + 1).decode("utf-8", errors="replace")


def _sections(path: pathlib.Path) -> dict[str, str]:
    """The text of each section of a saved config, which begins at the margin; none if it can't be read."""
    try:
        text = _text(path)
    except RunError:
        return {}
    starts = list(_SECTION.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return {start[1]: text[start.start() : end] for start, end in zip(starts, ends, strict=True)}


@functools.lru_cache(maxsize=4096)
def _parsed(text: str | None, name: str) -> Any:
    """A section's value; many runs have one and the same text of most, which is read once."""
    if text is None:
        return ABSENT
    try:
        value = parse_yaml(text, CONFIG).value
    except ConfigError:
        return ABSENT
    return value.get(name, ABSENT) if isinstance(value, dict) else ABSENT


def _keys(value: Any, path: str) -> Iterator[str]:
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _keys(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _keys(item, f"{path}[{index}]")
