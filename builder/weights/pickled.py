"""Weights that PyTorch wrote: `.pt`, `.pth`, `.bin`, `.ckpt`. Nothing in such a file is ever run."""

from __future__ import annotations

import contextlib
import pathlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import torch

from builder.weights.entries import DAMAGED_ZIP, Entry, WeightsError, WeightsFile
from builder.weights.mapped import Members, NotOrdinary, read_mapped
from builder.weights.wrapped import LIGHTNING, Found, find_state, tensors_in

WAY_OUT = (
    "where the file comes from, save tensors only: torch.save(model.state_dict(), path), or safetensors.torch.save_file"
)

SHOWN = 5

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch.save began before PyTorch 1.6: the magic number 0x1950a86a20f9469cfc6c as a pickle."""


def open_pickled(path: pathlib.Path, key: str | None, weights: str, members: Members | None = None) -> WeightsFile:
    """The state dict in a file of `torch.save`, read with `weights_only=True`; `members` as in `load_tree`.

    Raises:
        WeightsError: it is damaged, needs more than tensors, or holds no state dict.
    """
    tree = load_tree(path, lists=False, members=members)
    try:
        found = find_state(tree, key, weights)
    except WeightsError as error:
        raise WeightsError(f"{path} {error.message}", error.hint) from None
    is_lightning = isinstance(tree, Mapping) and LIGHTNING in tree
    return _file(path, found, "a checkpoint of Lightning" if is_lightning else "a file of torch.save")


def _file(path: pathlib.Path, found: Found, kind: str) -> WeightsFile:
    tensors = tensors_in(found.state)
    versions = _versions(getattr(found.state, "_metadata", None))
    entries = {
        name: Entry(tuple(tensor.shape), tensor.dtype, name, versions.get(name.rpartition(".")[0]))
        for name, tensor in tensors.items()
    }
    others = [
        name if isinstance(name, str) else f"one under a {type(name).__name__}"
        for name in found.state
        if not isinstance(name, str) or name not in tensors
    ]
    notes = (f"left out, being no dense tensors: {_listed(others)}",) if others else ()
    return WeightsFile(path, kind, entries, lambda name: tensors[name].detach(), (*found.notes, *notes))


def _versions(metadata: Any) -> dict[str, int]:
    """The version of each module that wrote a state dict, by its name."""
    if not isinstance(metadata, Mapping):
        return {}
    versions = {name: each.get("version") for name, each in metadata.items() if isinstance(each, Mapping)}
    return {name: version for name, version in versions.items() if isinstance(version, int)}


def load_tree(path: pathlib.Path, *, lists: bool = True, members: Members | None = None) -> Any:
    """What a file of `torch.save` holds, tensors in mapped memory where the format allows.

    Args:
        path: the file.
        lists: whether what lies in lists is wanted, such as an optimiser's state; without it they may be empty.
        members: the list of a zip file's members, where that was read before.

    Raises:
        WeightsError: it is damaged, or needs more than tensors and plain values.
    """
    is_zip = bool(members) or _is_zip(path)
    try:
        if is_zip:
            with contextlib.suppress(NotOrdinary, *DAMAGED_ZIP):  # of which torch says what is wrong
                return read_mapped(path, lists=lists, members=members)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how it was written, which says nothing of what is in it
            return _load(path, is_zip)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle may end in any of them
        raise _refused(path, error, is_zip) from error


def _is_zip(path: pathlib.Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except DAMAGED_ZIP:
        return False


def _load(path: pathlib.Path, is_zip: bool) -> Any:
    if path.suffix != ".safetensors":
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    with open(path, "rb") as file:  # by that name torch.load would take it for another format
        return torch.load(file, map_location="cpu", weights_only=True)


def _refused(path: pathlib.Path, error: Exception, is_zip: bool) -> WeightsError:
    wanted = list(dict.fromkeys([*_wanted(str(error)), *(_all_wanted(path) if is_zip else ())]))
    if wanted:
        return WeightsError(f"{path} is not opened: it needs {_listed(wanted)}, which may run code", WAY_OUT)
    if re.search(r"Unsupported operand|Can only|persistent_load|Trying to call", str(error)):
        return WeightsError(f"{path} is not opened: it holds more than tensors and plain values", WAY_OUT)
    return WeightsError(f"{path} is damaged or incomplete: {_short(error)}", "fetch or copy it again")


def _wanted(message: str) -> list[str]:
    """The names of Python objects that torch says it refused."""
    return re.findall(r"GLOBAL ([\w.]+)", message)[:1]


def _all_wanted(path: pathlib.Path) -> list[str]:
    try:
        return list(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # a damaged pickle may end in any of them
        return []


def _short(error: Exception) -> str:
    text = str(error).split(". ")[0].split("\n")[0].removesuffix(".")
    return text or type(error).__name__


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
