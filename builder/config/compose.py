"""Hydra's composition with an origin for every value, and nothing that Hydra would pass over in silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.config import fits as fits_module
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

    `fits` are the groups that nobody chose, each with the choice that suits the data as far as its file says it. Where
    it is None the group is still open: `refitted` fills it in, and applies the overrides that concern it. Until then
    only `data` has its interpolations resolved.
    """

    unresolved: dict[str, Any]
    values: dict[str, Any]
    origins: Origins
    choices: dict[str, str]
    overrides: tuple[str, ...]
    search_path: tuple[Path, ...]
    superseded: tuple[Superseded, ...] = ()
    fits: Mapping[str, str | None] = field(default_factory=dict)
    config_name: str = "train"
    config_dir: Path | None = None

    @property
    def open(self) -> tuple[str, ...]:
        """The groups for which nothing is chosen yet."""
        return tuple(group for group, choice in self.fits.items() if choice is None)

    @property
    def config(self) -> DictConfig:
        """The unresolved config as OmegaConf has it, made anew each time."""
        from omegaconf import OmegaConf

        return OmegaConf.create(self.unresolved)


def compose(
    overrides: Sequence[str] = (),
    *,
    config_name: str = "train",
    config_dir: Path | None = None,
    run_dir: Path | None = None,
) -> Composed:
    """Compose the config `config_name` under overrides, from `config_dir` (or `./configs`) and the shipped configs.

    Those of `run_dir`, a run's folder, come before them.

    Raises:
        ConfigError: a file, a choice, an override or an interpolation is wrong, or a value is missing.
    """
    return _composed(overrides, config_name, config_dir, {}, run_dir)


def refitted(composed: Composed, fits: Mapping[str, str]) -> Composed:
    """The config composed again with choices for groups that nobody chose.

    Raises:
        ConfigError: as for `compose`.
    """
    return _composed(composed.overrides, composed.config_name, composed.config_dir, fits)


def _composed(
    overrides: Sequence[str],
    config_name: str,
    config_dir: Path | None,
    fits: Mapping[str, str],
    run_dir: Path | None = None,
) -> Composed:
    folders = (*(() if run_dir is None else (run_dir.resolve(),)), *search_path(config_dir))
    listed, found = _listed(overrides, config_name, folders, fits)
    types = Types()
    config, origins = _merged(listed.parts, types)
    _override(listed, folders, config, origins, [group for group, choice in found.items() if choice is None])
    types.note(config, origins, list(config))
    config = _filled(config, origins, listed.choices)
    if size(config) > MAX_NODES:
        raise ConfigError(Fault("too large a config", expected=f"at most {MAX_NODES:,} values"))
    superseded = types.superseded(config)
    values = resolved(config, origins, None in found.values())
    return Composed(
        config, values, origins, listed.choices, tuple(overrides), folders, superseded, found, config_name, config_dir
    )


def resolved(config: dict[Any, Any], origins: Origins, is_open: bool) -> dict[Any, Any]:
    """The config with its interpolations resolved; of one that is still open only what its data may refer to."""
    if not is_open:
        return resolve(config, origins)
    closed = {key: value for key, value in config.items() if key == "data" or not isinstance(value, dict | list)}
    return {**config, **resolve(closed, origins)}


def _listed(
    overrides: Sequence[str], config_name: str, folders: tuple[Path, ...], fits: Mapping[str, str]
) -> tuple[DefaultsList, dict[str, str | None]]:
    """The defaults list, and the groups that nobody chose; the faults of overrides and of files are raised together."""
    from builder.config.defaults_list import Repository, compose_list
    from builder.config.filling import filled

    faults: list[Fault] = []
    repository = Repository(folders)
    parsed = override_module.parse(overrides, faults)
    try:
        listed = compose_list(config_name, parsed, repository)
        found = {**fits_module.stated(listed, folders), **fits}
        known = {group: choice for group, choice in found.items() if choice is not None}
        if known:
            listed = filled(listed, known, repository) or compose_list(
                config_name, fits_module.chosen(parsed, known), repository
            )
    except ConfigError as error:
        raise ConfigError(*faults, *error.faults) from None
    if faults:
        raise ConfigError(*faults)
    return listed, found


def _merged(parts: Sequence[Part], types: Types) -> tuple[dict[Any, Any], Origins]:
    """All parts merged in their order; `types` looks on."""
    config: dict[Any, Any] = {}
    origins = Origins()
    faults: list[Fault] = []
    for part in parts:
        _merge_part(part, config, origins, faults)
        types.note(config, origins, part.package[:1] or list(part.content))
    if faults:
        raise ConfigError(*faults)
    return config, origins


def _merge_part(part: Part, config: dict[Any, Any], origins: Origins, faults: list[Fault]) -> None:
    known, depth = part.document.origins, len(part.package)
    file = known[()]

    def origin_of(path: ConfigPath) -> Origin | None:
        return known.get(path[depth:]) if len(path) > depth else file if path else None

    content: Any = fits_module.without(part.content, part.package)
    write_out(config, part.package, content, origins)
    for key in reversed(part.package):
        content = {key: content}
    merge(config, content, (), origins, origin_of, faults)


def _override(
    listed: DefaultsList, folders: Sequence[Path], config: dict[Any, Any], origins: Origins, open_: Sequence[str]
) -> None:
    """Apply the overrides that aren't of groups, in their order; those inside of groups that are open have to wait."""
    faults: list[Fault] = []
    for parsed in listed.value_overrides:
        override = override_module.value_override(parsed, groups(folders), faults)
        if override is not None and override.names[0] not in open_:
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
