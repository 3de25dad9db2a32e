"""Hydra's composition with an origin for every value, and nothing that Hydra would pass over in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.config import overrides as override_module
from builder.config.folders import BlockLibrary, blocks, groups, search_path, shipped_configs
from builder.config.interpolation import resolve
from builder.config.origin import Origins
from builder.config.saved import saved_yaml
from builder.config.schema import TOP, top_defaults
from builder.config.shorthand import write_out
from builder.config.superseded import Superseded, Types
from builder.config.tree import merge, size
from builder.config.yaml_file import MAX_NODES
from builder.errors import DEFAULT, ConfigError, Fault, Origin
from builder.errors import Path as ConfigPath

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from builder.config.defaults_list import DefaultsList, Part

__all__ = ["BlockLibrary", "Composed", "blocks", "compose", "saved_yaml", "search_path", "shipped_configs"]


@dataclass(frozen=True, slots=True)
class Composed:
    """A composed config.

    `values` holds it with its interpolations resolved, `unresolved` as they were written, both in plain Python.
    `origins` knows where each value was written, `choices` which config of each group was chosen, `search_path` where
    configs were looked for, `superseded` the arguments that were written for a `type` which was changed since.
    """

    unresolved: dict[str, Any]
    values: dict[str, Any]
    origins: Origins
    choices: dict[str, str]
    overrides: tuple[str, ...]
    search_path: tuple[Path, ...]
    superseded: tuple[Superseded, ...] = ()

    @property
    def config(self) -> DictConfig:
        """The unresolved config as OmegaConf has it, made anew each time."""
        from omegaconf import OmegaConf

        return OmegaConf.create(self.unresolved)


def compose(overrides: Sequence[str] = (), *, config_name: str = "train", config_dir: Path | None = None) -> Composed:
    """Compose the config `config_name` under overrides, from `config_dir` (or `./configs`) and the shipped configs.

    Raises:
        ConfigError: a file, a choice, an override or an interpolation is wrong, or a value is missing.
    """
    folders = search_path(config_dir)
    listed = _listed(overrides, config_name, folders)
    types = Types()
    config, origins = _merged(listed.parts, types)
    _override(listed, folders, config, origins)
    types.note(config, origins)
    config = _filled(config, origins, listed.choices)
    if size(config) > MAX_NODES:
        raise ConfigError(Fault("too large a config", expected=f"at most {MAX_NODES:,} values"))
    values = resolve(config, origins)
    superseded = types.superseded(config)
    return Composed(config, values, origins, listed.choices, tuple(overrides), folders, superseded)


def _listed(overrides: Sequence[str], config_name: str, folders: tuple[Path, ...]) -> DefaultsList:
    """The defaults list; the faults of overrides and of files are raised together."""
    from builder.config.defaults_list import compose_list

    faults: list[Fault] = []
    parsed = override_module.parse(overrides, faults)
    try:
        listed = compose_list(config_name, parsed, folders)
    except ConfigError as error:
        raise ConfigError(*faults, *error.faults) from None
    if faults:
        raise ConfigError(*faults)
    return listed


def _merged(parts: Sequence[Part], types: Types) -> tuple[dict[Any, Any], Origins]:
    """All parts merged in their order; `types` looks on."""
    config: dict[Any, Any] = {}
    origins = Origins()
    faults: list[Fault] = []
    for part in parts:
        _merge_part(part, config, origins, faults)
        types.note(config, origins)
    if faults:
        raise ConfigError(*faults)
    return config, origins


def _merge_part(part: Part, config: dict[Any, Any], origins: Origins, faults: list[Fault]) -> None:
    known, depth = part.document.origins, len(part.package)
    file = known[()]

    def origin_of(path: ConfigPath) -> Origin | None:
        return known.get(path[depth:]) if len(path) > depth else file if path else None

    write_out(config, part.package, part.content, origins)
    content: Any = part.content
    for key in reversed(part.package):
        content = {key: content}
    merge(config, content, (), origins, origin_of, faults)


def _override(listed: DefaultsList, folders: Sequence[Path], config: dict[Any, Any], origins: Origins) -> None:
    """Apply the overrides that aren't of groups, in their order."""
    faults: list[Fault] = []
    for parsed in listed.value_overrides:
        override = override_module.value_override(parsed, groups(folders), faults)
        if override is not None:
            override_module.apply(override, config, origins, faults)
    if faults:
        raise ConfigError(*faults)


def _filled(config: dict[Any, Any], origins: Origins, choices: dict[str, str]) -> dict[Any, Any]:
    """The config in the schema's order, with defaults where keys at the top are absent, and a name."""
    for key, value in top_defaults().items():
        if key not in config:
            config[key] = value
            origins.set((key,), DEFAULT)
    if config["name"] is None:
        parts = [choices["experiment"]] if "experiment" in choices else [choices.get("data"), choices.get("model")]
        config["name"] = "_".join(part for part in parts if part).replace("/", "_") or "run"
        origins.set(("name",), DEFAULT)
    ordered = [key for key in TOP.fields if key in config] + [key for key in config if key not in TOP.fields]
    return {key: config[key] for key in ordered}
