"""What a data set's file says of the model and the task that suit it, for a config that chooses none: `fits:`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.config import folders
from builder.errors import ConfigError, Fault, nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from builder.config.defaults_list import DefaultsList, Part

GROUPS = ("model", "task")
"""The groups whose choice may follow from the data."""
KEY = "fits"
"""The key of a file of `data/` that says them; like `defaults` it is no part of the config."""


def stated(listed: DefaultsList, search_path: Sequence[Path]) -> dict[str, str | None]:
    """For each group that is left open the choice that the data's file states, None where it states none.

    What it states holds for its own data set: not where an override names another one (`data=digits data.name=wine`).

    Raises:
        ConfigError: what it states isn't a choice of these groups.
    """
    found: dict[str, str | None] = {group: None for group in GROUPS if group in listed.open}
    faults: list[Fault] = []
    for part in listed.parts if found else ():
        if part.package == ("data",) and KEY in part.content:
            faults += _faults(part, search_path)
            if not faults and not _renamed(listed, part.content):
                found |= {group: choice for group, choice in part.content[KEY].items() if group in found}
    if faults:
        raise ConfigError(*faults)
    return found


def _renamed(listed: DefaultsList, content: Mapping[Any, Any]) -> bool:
    """Whether an override says another data set than the content of the data's file."""
    keys = {f"data.{key}": key for key in ("type", "name")}
    said = {keys[item.key_or_group]: item.value() for item in listed.value_overrides if item.key_or_group in keys}
    return any(content.get(key) != value for key, value in said.items())


def _faults(part: Part, search_path: Sequence[Path]) -> list[Fault]:
    origins, value = part.document.origins, part.content[KEY]
    if not isinstance(value, dict):
        expected = "a mapping: {model: mlp, task: classification}"
        return [Fault("wrong value", ("data", KEY), origins[KEY,], value, expected)]
    faults = []
    for group, choice in value.items():
        place = ("data", KEY, group)
        if group not in GROUPS:
            faults.append(Fault("unknown key", place, origins[KEY, group], None, " | ".join(GROUPS),
                                nearest(group, GROUPS)))  # fmt: skip
        elif choice not in (known := folders.choices(search_path, group)):
            faults.append(Fault("no such choice", place, origins[KEY, group], choice, f"one of {', '.join(known)}",
                                nearest(choice, known)))  # fmt: skip
    return faults


def without(content: Mapping[Any, Any], package: tuple[str, ...]) -> dict[Any, Any]:
    """The content of a file as it goes into the config."""
    return {key: value for key, value in content.items() if key != KEY or package != ("data",)}


def chosen(overrides: Sequence[Override], fits: Mapping[str, str]) -> list[Override]:
    """The overrides with the choices of `fits` in the place of those that leave these groups open."""
    from builder.config import overrides as override_module

    kept = [override for override in overrides if override.key_or_group not in fits or override.value() is not None]
    return kept + override_module.parse([f"{group}={choice}" for group, choice in fits.items()], [])
