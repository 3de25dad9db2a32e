"""Hydra's defaults list over our own files: which configs are merged, in which order, at which package.

Hydra reads the `defaults` of each file and nothing else; the content is ours. The parts of Hydra that this needs aren't
public; they are used here and in `filling.py`, and a test compares the outcome with `hydra.compose`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.config_repository import ConfigRepository
from hydra._internal.defaults_list import DefaultsList as HydrasList
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from builder.config import folders
from builder.config.hydra_rules import hydra_rules
from builder.config.interpolation import NotAnInterpolation, pieces
from builder.config.tree import has_interpolation
from builder.config.yaml_file import Document, read_yaml
from builder.errors import ConfigError, Fault, Origin, nearest

MAX_LOADS = 1000
"""How many configs the defaults lists of one composition may name, again and again counted."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file that is merged: its content without `defaults`, and the keys under which it goes."""

    name: str
    package: tuple[str, ...]
    content: dict[Any, Any]
    document: Document


@dataclass(frozen=True, slots=True)
class DefaultsList:
    """The parts in the order of merging, the choice of each group, and the overrides that aren't of groups.

    `open` are the groups for which nothing is chosen, `hydras` is what Hydra made of the lists.
    """

    parts: tuple[Part, ...]
    choices: dict[str, str]
    value_overrides: tuple[Override, ...]
    open: frozenset[str]
    hydras: HydrasList


_EMPTY = OmegaConf.create()
"""Stands for the content of a config, which is merged elsewhere: making one takes as long as reading a small file."""


class _TooMany(Exception):
    """Defaults lists without an end."""


class Repository(ConfigRepository):
    """The configs of some folders, as Hydra asks for them; what is wrong with the files gathers in `faults`."""

    def __init__(self, search_path: Sequence[Path]) -> None:
        self.search_path = tuple(search_path)
        self.sources = []
        self.documents: dict[str, Document] = {}
        self.faults: list[Fault] = []
        self.interpolated = False
        """Whether a choice in one of the files follows from another one."""
        self._results: dict[str, ConfigResult | None] = {}
        self._loads = 0

    def begin(self) -> None:
        """Count from the beginning: another defaults list is made."""
        self._loads = 0

    def load_config(self, config_path: str) -> ConfigResult | None:
        """A config's header and defaults list; None if there is no such config."""
        self._loads += 1
        if self._loads > MAX_LOADS:
            raise _TooMany
        if config_path not in self._results:
            self._results[config_path] = self._load(config_path)
        return self._results[config_path]

    def group_exists(self, config_path: str) -> bool:
        """Whether there is a folder of that name."""
        return any(folders.group_folder(folder, config_path) for folder in self.search_path)

    def config_exists(self, config_path: str) -> bool:
        """Whether there is a file of that name."""
        return self._file(config_path) is not None

    def get_group_options(self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG) -> list[str]:
        """The choices of a group."""
        return folders.choices(self.search_path, group_name)

    def _file(self, config_path: str) -> Path | None:
        found = (folders.config_file(folder, config_path) for folder in self.search_path)
        return next((path for path in found if path is not None), None)

    def _load(self, config_path: str) -> ConfigResult | None:
        path = self._file(config_path)
        if path is None:
            return None
        defaults: list[Any] = []
        header: dict[str, str] = {}
        try:
            document = read_yaml(path, folders.shown(path))
            header = document.header
            defaults = _checked_defaults(document)
            self.documents[config_path] = document
            self.interpolated |= has_interpolation(str(defaults))
        except ConfigError as error:
            self.faults.extend(error.faults)
        return ConfigResult(
            provider="builder",
            path=str(path),
            config=_EMPTY,
            header={"package": header.get("package")},
            defaults_list=self._create_defaults_list(config_path, OmegaConf.create(defaults)) if defaults else [],
        )


def _checked_defaults(document: Document) -> list[Any]:
    """The `defaults` of a file.

    Raises:
        ConfigError: they aren't what Hydra takes, or the file isn't a mapping.
    """
    if document.value is None:
        return []
    if not isinstance(document.value, dict):
        raise ConfigError(Fault("a config file holds a mapping", (), document.origins[()]))
    defaults = document.value.get("defaults", [])
    if not isinstance(defaults, list):
        raise ConfigError(Fault("wrong value", ("defaults",), document.origins["defaults",], defaults, "a list"))
    faults = [
        Fault(problem, ("defaults", index), document.origins["defaults", index], item, "a config, or 'group: choice'")
        for index, item in enumerate(defaults)
        if (problem := _problem_of(item)) is not None
    ]
    if faults:
        raise ConfigError(*faults)
    return defaults


def _problem_of(item: Any) -> str | None:
    """What is wrong with one item of a defaults list."""
    if isinstance(item, str):
        return _problem_of_name(item)
    if not isinstance(item, dict) or len(item) != 1:
        return "not an item of a defaults list"
    ((group, choice),) = item.items()
    words = group.split(" ") if isinstance(group, str) else [""]
    if not words[-1].strip("/") or has_interpolation(group) or not set(words[:-1]) <= {"optional", "override"}:
        return "not a config group"
    names = choice if isinstance(choice, list) else [] if choice is None else [choice]
    return next((problem for name in names if (problem := _problem_of_name(name)) is not None), None)


def _problem_of_name(name: Any) -> str | None:
    if not isinstance(name, str) or not name:
        return "not the name of a config"
    try:
        parts = pieces(name)
    except NotAnInterpolation as error:
        return str(error)
    if any(not isinstance(part, str) and part.resolver for part in parts):
        return "only choices can be interpolated here, like ${model}"
    return None


def compose_list(config_name: str, overrides: Sequence[Override], repository: Repository) -> DefaultsList:
    """The defaults list of a primary config under overrides, of files that the repository reads once.

    Raises:
        ConfigError: a config, group or choice doesn't exist, a file is wrong, or the lists contradict one another.
    """
    repository.begin()
    rules = [override for override in overrides if _is_list_of_values(override)]
    overrides = [_deselecting(override, repository) for override in overrides if override not in rules]
    faults = _choice_faults(overrides, repository)
    if not repository.config_exists(config_name):
        faults.append(_no_primary(config_name, repository.search_path))
    if faults:
        raise ConfigError(*faults)
    try:
        with hydra_rules():
            result = create_defaults_list(repository, config_name, list(overrides), False, False)
    except MissingConfigException as error:
        raise ConfigError(*repository.faults, _missing_choice(error, repository)) from None
    except (RecursionError, _TooMany):
        raise ConfigError(*repository.faults, Fault("defaults lists that include one another")) from None
    except (HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(*repository.faults, _composition_fault(error, overrides, repository)) from None
    if repository.faults:
        raise ConfigError(*repository.faults)
    left_out = {override.key_or_group for override in overrides if override.value() == []}
    return read_off(result, result.overrides.known_choices, (*result.config_overrides, *rules), left_out, repository)


def read_off(
    result: HydrasList,
    known: Mapping[str, str | None],
    value_overrides: tuple[Override, ...],
    left_out: Collection[str],
    repository: Repository,
) -> DefaultsList:
    """What Hydra's list says, with its files; `known` are its choices, those of the last group first."""
    choices = {group: choice for group, choice in reversed(list(known.items())) if choice is not None}
    unchosen = {group for group, choice in known.items() if choice is None}
    parts = tuple(_part(default, repository) for default in result.defaults)
    return DefaultsList(parts, choices, value_overrides, frozenset({*left_out, *unchosen}), result)


def _part(default: ResultDefault, repository: Repository) -> Part:
    name = default.config_path or ""
    document = repository.documents[name]
    content = {key: value for key, value in (document.value or {}).items() if key != "defaults"}
    package = tuple(default.package.split(".")) if default.package else ()
    return Part(name, package, content, document)


def _deselecting(override: Override, repository: Repository) -> Override:
    """`group=null` as Hydra takes it: a group without a choice, which a defaults list writes `group: null`."""
    null = not override.is_delete() and not override.is_force_add() and override.value() is None
    return replace(override, _value=[]) if null and repository.group_exists(override.key_or_group) else override


def _is_list_of_values(override: Override) -> bool:
    """Whether a list holds more than names: it is then the section's value (`init=[{select: fc, bias: zeros_}]`)."""
    value = None if override.is_delete() else override.value()
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)


def _choice_faults(overrides: Sequence[Override], repository: Repository) -> list[Fault]:
    """Faults of `group=choice` overrides whose choice there isn't."""
    faults = []
    for override in overrides:
        group, value = override.key_or_group, override.value()
        if not repository.group_exists(group) or isinstance(value, dict) or override.is_delete():
            continue
        origin = Origin(override=override.input_line)
        if not isinstance(value, (str, list)) or override.is_force_add():
            hint = f"{group}=null leaves the group out"
            expected = f"{group}=CHOICE"
            faults.append(Fault("not a choice of a config group", (group,), origin, value, expected, hint=hint))
            continue
        for name in value if isinstance(value, list) else [value]:
            if not repository.config_exists(f"{group}/{name}"):
                faults.append(no_choice(group, name, origin, repository.get_group_options(group)))
    return faults


def no_choice(group: str, name: object, origin: Origin, choices: Sequence[str]) -> Fault:
    """The fault of a choice that a group doesn't have."""
    expected = f"one of {', '.join(choices)}" if choices else "nothing: the group is empty"
    path = tuple(group.split("/"))
    return Fault("no such choice", path, origin, found=name, expected=expected, nearest=nearest(name, choices))


def _no_primary(config_name: str, search_path: Sequence[Path]) -> Fault:
    names = folders.choices(search_path, "")
    places = ", ".join(folders.shown(path) for path in search_path)
    expected = f"one of {', '.join(names)}" if names else None
    return Fault(
        f"no such config in {places}", found=config_name, expected=expected, nearest=nearest(config_name, names)
    )


def _missing_choice(error: MissingConfigException, repository: Repository) -> Fault:
    """The fault of a config that some file's defaults list names and that there isn't."""
    missing = (error.missing_cfg_file or "").strip("/")
    group, _, name = missing.rpartition("/")
    origin = next(
        (origin for document in repository.documents.values() for origin in _naming(document, name)), Origin()
    )
    if repository.group_exists(group) and group:
        return no_choice(group, name, origin, repository.get_group_options(group))
    if not group:
        return Fault(
            "no such config", origin=origin, found=name, nearest=nearest(name, repository.get_group_options(""))
        )
    near = nearest(group, folders.groups(repository.search_path))
    return Fault("no such config group", origin=origin, found=group, nearest=near)


def _defaults(document: Document) -> list[Any]:
    return document.value.get("defaults", []) if isinstance(document.value, dict) else []


def _naming(document: Document, name: str) -> Iterator[Origin]:
    """Where a file's defaults list names a config."""
    for index, item in enumerate(_defaults(document)):
        for choice in item.values() if isinstance(item, dict) else [item]:
            if name in (choice if isinstance(choice, list) else [str(choice).split("@")[0].rpartition("/")[2]]):
                yield document.origins["defaults", index]


def _composition_fault(error: Exception, overrides: Sequence[Override], repository: Repository) -> Fault:
    """What Hydra says about a defaults list, in one line, with the override or the line that it speaks of."""
    lines = [line.strip() for line in str(error).split("Config search path:")[0].splitlines() if line.strip()]
    message = re.sub(r"\s*See https?://\S+.*", "", " ".join(lines)) or "not a defaults list"
    unused = re.match(r"(?:In '([^']+)': )?Could not override '([^']+)'", message)
    if unused is not None:
        return _nothing_to_override(unused[1], unused[2], overrides, repository)
    kept = re.match(r"Could not delete '([^'=]+)(?:=([^']*))?'", message)
    if kept is not None:
        problem = "no defaults list has a choice of this group" if kept[2] is None else "this isn't the group's choice"
        return Fault(f"{problem}, to leave it out", origin=_of_override(kept[1], overrides), found=kept[2] or kept[1])
    twice = re.search(r"Multiple values for ([\w/@.]+?)\.|([\w/@.]+) appears more than once", message)
    if twice is not None:
        group = twice[1] or twice[2]
        message = f"the group '{group}' has a choice already"
        hint = f"write '{group}=CHOICE' on the command line, 'override /{group}: CHOICE' in a file"
        return Fault(message, origin=_of_override(group, overrides), hint=hint)
    return Fault(message, origin=_of_override(None, overrides, message))


def _of_override(group: str | None, overrides: Sequence[Override], message: str = "") -> Origin:
    """The origin of the override of a group, or of the first one whose key a message quotes."""
    for override in overrides:
        key = override.get_key_element().lstrip("~+")
        if key == group or f"'{key}" in message:
            return Origin(override=override.input_line)
    return Origin()


def _nothing_to_override(file: str | None, group: str, overrides: Sequence[Override], repository: Repository) -> Fault:
    """The fault of a choice for a group that no defaults list has one of."""
    origin = _of_override(group, overrides)
    document = repository.documents.get(file or "")
    if document is not None:
        items = enumerate(_defaults(document))
        named = (index for index, item in items if isinstance(item, dict) and group in map(_group_of, item))
        origin = next((document.origins["defaults", index] for index in named), origin)
    near = [name for name in nearest(group, folders.groups(repository.search_path)) if name != group]
    hint = None if file is not None or near else f"write '+{group}=CHOICE' to add one"
    return Fault("no defaults list has a choice of this group", (), origin, group, nearest=near, hint=hint)


def _group_of(key: object) -> str:
    """The group that the key of an item of a defaults list means: `override /model` means `model`."""
    return str(key).split(" ")[-1].strip("/")
