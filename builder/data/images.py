"""Pictures in folders, one folder for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.data.facts import SPLITS, ArgumentError, Dataset, class_facts, refuse
from builder.data.sources import Batch, ItemSource
from builder.data.splits import FRACTIONS, Indices, split_indices
from builder.errors import MissingExtra, nearest
from builder.optional import require
from builder.registry import datasets

SUFFIXES = (".png", ".jpg", ".jpeg")
CHANNELS = {"RGB": 3, "L": 1}
MAX_TOLD = 5
"""Bad files that are told one by one."""
Mode = Literal["RGB", "L"]
Fit = Literal["crop", "stretch"]


@datasets.register("ImageFolder")
def image_folder(
    path: str,
    size: int | Sequence[int] | None = None,
    fit: Fit = "crop",
    mode: Mode = "RGB",
    split: Mapping[str, float] | Literal["folders"] = FRACTIONS,
    fold: int | None = None,
    num_folds: int | None = None,
    *,
    seed: int,
) -> Dataset:
    """PNG and JPEG files in a folder for each class, `path/CLASS/*.png`, split by seed, stratified by class.

    `x` [C, height, width] is float32 from 0 to 1, `target` int64, the place of the class's name in alphabetical order.
    `size` (height and width, or one number for both) is what pictures are brought to: their shorter side is scaled to
    it and the middle cut out (`crop`), or both sides are scaled (`stretch`). Without it all have to be of one size.
    `mode` L is grey. With `split: folders` there is a folder for each split above: `path/train/CLASS/*.png`.

    Files are only looked at here; they are read, once, when training begins, if they fit into memory.

    Raises:
        Refusal: a folder or file is wrong; all that was found.
    """
    files, parts, names = _found(Path(path), split, fold)
    picture = _Picture(_size(size), fit, mode)
    _check_files(files, picture)
    labels = np.array([label for _, label in files])
    if parts is None:
        assert not isinstance(split, str)
        indices = split_indices(len(files), split, seed, labels, fold=fold, num_folds=num_folds)
    else:
        indices = {name: np.flatnonzero(parts == name) for name in SPLITS if (parts == name).any()}
    height, width = picture.size or _header(files[0][0])
    shape = (CHANNELS[mode], height, width)
    facts = class_facts(names, np.bincount(labels[indices["train"]], minlength=len(names)).tolist())
    facts |= {"in_channels": shape[0], "height": height, "width": width, "num_features": int(np.prod(shape))}
    pictures = _Pictures(files, picture)
    splits = {name: _source(pictures, rows, shape) for name, rows in indices.items()}
    state = {"type": "ImageFolder", "size": [height, width], "fit": fit, "mode": mode, "classes": names}
    return Dataset(splits, facts, state, _notes(names, labels), {"model": "cnn", "task": "classification"})


def apply_images(state: Mapping[str, Any], path: str) -> dict[str, Tensor]:
    """A picture, or all those of a folder in the order of their names, in the form in which a model was trained on.

    Raises:
        Refusal: there are none, or one can't be read.
    """
    place = Path(path)
    files = [(file, 0) for file in ([place] if place.is_file() else _pictures(place) if place.is_dir() else [])]
    if not files:
        refuse([ArgumentError("path", "there are no pictures", found=path, expected="PNG and JPEG files")])
    picture = _Picture(tuple(state["size"]), state["fit"], state["mode"])
    _check_files(files, picture)
    made = _Pictures(files, picture)
    return scaled({"x": torch.stack([made[index]["x"] for index in range(len(files))])})


def pictures_in(path: Path) -> list[Path]:
    """A picture, or all those of a folder in the order of their names."""
    return [path] if path.is_file() else _pictures(path) if path.is_dir() else []


def read_pictures(state: Mapping[str, Any], files: Sequence[Path]) -> tuple[dict[str, Tensor], dict[int, str]]:
    """`x` of the files that are pictures, in the form in which a model was trained on, and why the others aren't."""
    picture = _Picture(tuple(state["size"]), state["fit"], state["mode"])
    read: list[Tensor] = []
    bad: dict[int, str] = {}
    for index, file in enumerate(files):
        try:
            _header(file)
            read.append(picture.read(file))
        except MissingExtra:
            raise
        except Exception as error:  # what Pillow raises for a broken file has no common base
            bad[index] = _said(error)
    height, width = state["size"]
    x = torch.stack(read) if read else torch.empty(0, CHANNELS[state["mode"]], height, width, dtype=torch.uint8)
    return scaled({"x": x}), bad


def _said(error: Exception) -> str:
    """Why a file isn't read."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "it is no picture" if "cannot identify" in text else f"it can't be read: {text}"


def scaled(batch: Batch) -> Batch:
    """The batch with bytes in `x` as float32 from 0 to 1."""
    return batch | {"x": batch["x"].float().div_(255)}


@dataclass(frozen=True, slots=True)
class _Picture:
    """How a file becomes a tensor: the size (height, width) it is brought to, how, and its colours."""

    size: tuple[int, int] | None
    fit: Fit
    mode: Mode

    def read(self, file: Path) -> Tensor:
        """The bytes [C, height, width] of a picture, uint8.

        Raises:
            OSError: the file can't be read.
        """
        image = require("PIL.Image", "images", "a folder of pictures")
        with image.open(file) as opened:
            picture = opened.convert(self.mode)
            if self.size is not None and picture.size != self.size[::-1]:
                picture = picture.resize(self.size[::-1], image.Resampling.BILINEAR, box=self._box(picture.size))
            array = np.array(picture)
        return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())

    def _box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The part of a picture (its width and height are `size`) that is seen: left, top, right, bottom."""
        width, height = size
        if self.fit == "stretch" or self.size is None:
            return 0, 0, width, height
        scale = min(height / self.size[0], width / self.size[1])
        seen_height, seen_width = self.size[0] * scale, self.size[1] * scale
        left, top = (width - seen_width) / 2, (height - seen_height) / 2
        return left, top, left + seen_width, top + seen_height


class _Pictures:
    """Pictures by index, as samples."""

    def __init__(self, files: Sequence[tuple[Path, int]], picture: _Picture) -> None:
        self.files, self.picture = files, picture

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Batch:
        file, label = self.files[index]
        try:
            return {"x": self.picture.read(file), "target": torch.tensor(label)}
        except OSError as error:
            raise OSError(f"{file}: {error}") from error


def _source(pictures: _Pictures, rows: Indices, shape: tuple[int, ...]) -> ItemSource:
    num_bytes = len(rows) * (int(np.prod(shape)) + 8)
    return ItemSource(pictures, rows, random=False, finish=scaled, num_bytes=num_bytes)


def _found(
    path: Path, split: object, fold: int | None
) -> tuple[list[tuple[Path, int]], NDArray[np.str_] | None, list[str]]:
    """The files with their classes, the split of each if folders say it, and the names of the classes."""
    folders = _folders(path)
    if split != "folders":
        if isinstance(split, str):
            refuse([ArgumentError("split", "the split can't be made", found=split, expected="fractions, or folders")])
        if {folder.name for folder in folders} <= {*SPLITS, "valid", "validation"}:
            message = f"the folders {', '.join(folder.name for folder in folders)} are named like splits, not classes"
            refuse([ArgumentError("path", message, found=str(path), hint="data.split=folders")])
        files, names = _classes(path, folders)
        return files, None, names
    if fold is not None:
        refuse([ArgumentError("fold", "the folders say the split, which leaves nothing to fold", found=fold)])
    unknown = [folder.name for folder in folders if folder.name not in SPLITS]
    if unknown or "train" not in {folder.name for folder in folders}:
        found = ", ".join(folder.name for folder in folders)
        refuse(
            [
                ArgumentError(
                    "path", "the folders aren't splits", found=found, expected="train and, if any, val and test"
                )
            ]
        )
    names = sorted({folder.name for part in folders for folder in _folders(part)})
    every, parts = [], []
    for part in folders:
        files, of_part = _classes(part, _folders(part))
        if of_part != names:
            missing = sorted(set(names) - set(of_part))
            message = f"the split {part.name} has no folder for the class {missing[0]!r}"
            refuse([ArgumentError("path", message, found=str(part), expected=", ".join(names))])
        every += files
        parts += [part.name] * len(files)
    return every, np.array(parts), names


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        names = [item.name for item in path.parent.iterdir() if item.is_dir()] if path.parent.is_dir() else []
        near = [str(path.parent / name) for name in nearest(path.name, names)]
        message = "a file, not a folder" if path.is_file() else "no such folder"
        refuse([ArgumentError("path", message, found=str(path), nearest=near)])
    folders = sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))
    if not folders:
        message = "there are no folders here, one for each class"
        refuse([ArgumentError("path", message, found=str(path), expected=f"{path.name}/CLASS/*.png")])
    return folders


def _classes(path: Path, folders: Sequence[Path]) -> tuple[list[tuple[Path, int]], list[str]]:
    names = [folder.name for folder in folders]
    errors, files = [], []
    for label, folder in enumerate(folders):
        pictures = _pictures(folder)
        if not pictures:
            others = sorted({item.suffix for item in folder.iterdir() if item.is_file()})
            found = f"files that end in {', '.join(others)}" if others else "an empty folder"
            message = f"the class {folder.name!r} has no pictures"
            errors.append(
                ArgumentError("path", message, found=found, expected=f"files that end in {', '.join(SUFFIXES)}")
            )
        files += [(file, label) for file in pictures]
    if len(folders) < 2:
        errors.append(ArgumentError("path", f"there is one class only, {names[0]!r}", found=str(path)))
    refuse(errors)
    return files, names


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())


def _size(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        refuse([ArgumentError("size", "no size of a picture", found=size, expected="a number, or [height, width]")])
    return pair[0], pair[1]


def _header(file: Path) -> tuple[int, int]:
    """Height and width of a picture, by its header.

    Raises:
        OSError: it is no picture.
    """
    image = require("PIL.Image", "images", "a folder of pictures")
    with image.open(file) as opened:
        if opened.format not in ("PNG", "JPEG"):
            raise OSError(f"{opened.format}, neither PNG nor JPEG")
        if opened.mode in ("I", "F") or opened.mode.startswith("I;"):
            raise OSError("more than 8 bits a channel, which would be cut off")
        width, height = opened.size
    return height, width


def _check_files(files: Sequence[tuple[Path, int]], picture: _Picture) -> None:
    """Look at every file's header: it has to be a picture, and of the same size if nothing is said of sizes."""
    errors: list[ArgumentError] = []
    sizes: dict[tuple[int, int], Path] = {}
    for file, _ in files:
        try:
            sizes.setdefault(_header(file), file)
        except Exception as error:  # what Pillow raises for a broken file has no common base
            said = "no picture" if "cannot identify" in str(error) else str(error)
            errors.append(ArgumentError("path", f"{file} can't be read: {said}"))
    if picture.size is None and len(sizes) > 1:
        shown = "; ".join(f"{file} is {h} high and {w} wide" for (h, w), file in list(sizes.items())[:2])
        message = f"the pictures have {len(sizes)} different sizes ({shown})"
        errors.append(ArgumentError("size", message, hint=f"data.size={min(min(size) for size in sizes)}"))
    if len(errors) > MAX_TOLD:
        errors = [*errors[:MAX_TOLD], ArgumentError("path", f"{len(errors) - MAX_TOLD} more faults in pictures")]
    refuse(errors)


def _notes(names: Sequence[str], labels: NDArray[np.int64]) -> list[str]:
    counts = np.bincount(labels, minlength=len(names))
    shown = ", ".join(f"{name} {count}" for name, count in list(zip(names, counts, strict=True))[:8])
    return [f"{len(names)} classes: {shown}" + (" …" if len(names) > 8 else "")]
