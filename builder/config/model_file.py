"""A model's file on its own, under overrides: the definition that stands in it, without a config around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.config import overrides as override_module
from builder.config.folders import shown
from builder.config.interpolation import resolve
from builder.config.origin import Origins
from builder.config.yaml_file import read_yaml
from builder.errors import ConfigError, Fault, Origin


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file with a model's definition, overrides of what it holds, and the folder of the user's own configs."""

    path: Path
    overrides: Sequence[str] = ()
    config_dir: Path | None = None


def read_model_file(file: ModelFile) -> tuple[Any, Origins]:
    """The definition in a file, changed by its overrides, interpolations resolved; and its origins.

    Raises:
        ConfigError: the file can't be read, or an override or an interpolation is wrong.
    """
    document = read_yaml(file.path, shown(file.path.resolve()))
    origins = Origins(document.origins)
    if not isinstance(document.value, dict):
        return document.value, origins
    faults: list[Fault] = []
    for parsed in override_module.parse(file.overrides, faults):
        if parsed.package is not None or "/" in parsed.key_or_group:
            origin = Origin(override=parsed.input_line)
            faults.append(Fault("a model file has no config groups", origin=origin, hint="for example args.width=8"))
            continue
        override = override_module.value_override(parsed, (), faults)
        if override is not None:
            override_module.apply(override, document.value, origins, faults)
    if faults:
        raise ConfigError(*faults)
    return resolve(document.value, origins), origins
