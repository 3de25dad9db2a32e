"""The folders that configs are read from, and the files in them."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from builder.config.tree import has_interpolation, locate
from builder.config.yaml_file import Document, read_yaml
from builder.errors import ConfigError, Fault, UnknownName, nearest

SUFFIX = ".yaml"


@functools.cache
def shipped_configs() -> Path:
    """The folder of the configs that come with the package: inside it if installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def search_path(config_dir: Path | None = None) -> tuple[Path, ...]:
    """The config folders in the order in which they are searched: the user's, then the shipped.

    Raises:
        ConfigError: `config_dir` isn't a folder.
    """
    if config_dir is not None and not config_dir.is_dir():
        beside = config_dir.parent.iterdir() if config_dir.parent.is_dir() else ()
        near = nearest(config_dir.name, [path.name for path in beside if path.is_dir()])
        raise ConfigError(Fault("no such config folder", found=str(config_dir), nearest=near))
    users = Path("configs") if config_dir is None else config_dir
    folders = [folder.resolve() for folder in (users, shipped_configs()) if folder.is_dir()]
    return tuple(dict.fromkeys(folders))


def shown(path: Path) -> str:
    """A file as the user knows it: shipped ones as `configs/…`, those below the current folder relative to it."""
    for base, prefix in ((shipped_configs(), "configs/"), (Path.cwd(), "")):
        if path.is_relative_to(base):
            return (prefix + path.relative_to(base).as_posix()).removesuffix("/.")
    return str(path)


def config_file(folder: Path, name: str) -> Path | None:
    """The file of the config `group/name` in a folder, if there is one; never outside of the folder."""
    path = _inside(folder, name if name.endswith(SUFFIX) else name + SUFFIX)
    return path if path is not None and os.path.isfile(path) else None


def group_folder(folder: Path, group: str) -> Path | None:
    """The folder of a config group, if there is one; never outside of the folder."""
    path = _inside(folder, group)
    return path if path is not None and os.path.isdir(path) else None


def _inside(folder: Path, name: str) -> Path | None:
    parts = PurePosixPath(name).parts
    if "\0" in name or len(name) > 1000 or any(part in ("..", "/") for part in parts):
        return None
    return folder.joinpath(*parts)


def choices(folders: Sequence[Path], group: str) -> list[str]:
    """The configs of a group in any of the folders, sorted; those of the root for the group ''."""
    found: set[str] = set()
    for folder in folders:
        inside = group_folder(folder, group)
        if inside is not None:
            found.update(path.stem for path in inside.glob("*" + SUFFIX) if path.is_file())
    return sorted(found)


def groups(folders: Sequence[Path]) -> list[str]:
    """The config groups at the top of any of the folders, sorted."""
    return sorted({path.name for folder in folders for path in folder.iterdir() if path.is_dir()})


class BlockLibrary:
    """The blocks usable in every model: `block/NAME.yaml` of any folder of the search path is the block `NAME`.

    A whole model is one too: `model/NAME.yaml` is the block `model/NAME`.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._files: dict[str, Path] = {}
        self._documents: dict[str, Document] = {}
        for folder in folders:
            for path in sorted((folder / "block").glob("*" + SUFFIX)):
                self._files.setdefault(path.stem, path)
            for path in sorted((folder / "model").glob("*" + SUFFIX)):
                self._files.setdefault(f"model/{path.stem}", path)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._files)

    def get(self, name: str) -> Document:
        """The block's definition, as its file says it.

        Raises:
            UnknownName: there is none of that name.
            ConfigError: its file is wrong.
        """
        if name not in self._files:
            raise UnknownName("block", name, self._files)
        if name not in self._documents:
            self._documents[name] = _self_contained(read_yaml(self._files[name], shown(self._files[name])))
        return self._documents[name]

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())


def _self_contained(document: Document) -> Document:
    """The document of a block, which has no config around it to which an interpolation could refer.

    Raises:
        ConfigError: there is an interpolation in it.
    """
    hint = "a formula sees the block's own arguments: =channels"
    faults = [
        Fault("an interpolation in a block", path, origin, value, hint=hint)
        for path, origin in document.origins.items()
        if has_interpolation(value := locate(document.value, [str(key) for key in path])[1])
    ]
    if faults:
        raise ConfigError(*faults)
    return document


def blocks(folders: Sequence[Path]) -> BlockLibrary:
    """The blocks in the folders of a search path; a name in an earlier folder hides those in later ones."""
    return BlockLibrary(folders)
