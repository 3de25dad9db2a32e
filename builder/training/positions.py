"""Checkpoints that a run goes on from: files whose names hold a hash that vouches for all that is in them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, Self

import torch

from builder.durable import told, write_named
from builder.errors import RunError
from builder.training.packed import packed, unpacked

FOLDER = "resume"
"""Where they lie, in the folder of checkpoints."""
NAME = re.compile(r"(\d{12})-([0-9a-f]{32})\.ckpt")
DAMAGED = ".damaged"
SYNCED = 1 << 26
"""After how many bytes it is begun to bring them to the disk."""
NOT_AN_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError, MemoryError,
)  # fmt: skip
"""What Python's reader of zip archives raises for files that are damaged."""
FORM = 2
"""The form of what is kept under `KEY`."""
KEY = "exact"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run can go on: a checkpoint, and what of it is no tensor of the model's or the optimiser's."""

    path: pathlib.Path
    state: Mapping[str, Any]
    epoch: int
    step: int


def save(checkpoint: Mapping[str, Any], path: pathlib.Path) -> pathlib.Path:
    """Write a checkpoint to `path` with a hash in its name; nothing is built up in memory.

    Returns:
        The file's path.

    Raises:
        RunError: the system refuses.
    """
    digests: list[str] = []

    def fill(file: Any) -> None:
        with _Synced(file) as synced, _checksums():
            dump(checkpoint, synced)
            synced.finish()
        file.flush()
        with open(file.name, "rb") as written:
            digest = _listed(written)
        if digest is None:
            raise RunError(f"cannot write {path}: what PyTorch wrote can't be read back")
        digests.append(digest)

    return write_named(path, fill, lambda: path.with_name(f"{path.stem}-{digests[0]}{path.suffix}"))


def _listed(file: BufferedReader) -> str | None:
    """A hash of the list of a zip archive's members, in which each has its place, its size and its CRC-32.

    None if the file isn't an archive.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            start = archive.start_dir
    except NOT_AN_ARCHIVE:
        return None
    file.seek(start)
    return hashlib.file_digest(file, "sha256").hexdigest()[:32]


@contextlib.contextmanager
def _checksums() -> Iterator[None]:
    """Have `torch.save` note the checksums of members, whoever had switched that off."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def dump(value: Any, file: Any) -> None:
    """`torch.save` into an open file, which raises what the system says; PyTorch says in its place that it lost count.

    Raises:
        OSError: the system refuses.
    """
    try:
        torch.save(value, file)
    except RuntimeError as error:
        before: BaseException | None = error.__context__
        while before is not None and not isinstance(before, OSError):
            before = before.__context__
        if before is None:
            raise
        raise before from error


class _Synced:
    """A file that another thread begins to bring to the disk while more is written."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._thread = ThreadPoolExecutor(1, "checkpoint")  # there is none until it is needed
        self._unsynced, self._syncing = 0, Future[None]()
        self._syncing.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()

    def write(self, data: Any) -> int:
        written: int = self._file.write(data)
        self._unsynced += written
        if self._unsynced >= SYNCED and self._syncing.done():
            self._syncing.result()  # an error of the disk is told once
            self._syncing, self._unsynced = self._thread.submit(os.fsync, self._file.fileno()), 0
        return written

    def flush(self) -> None:
        self._file.flush()

    def finish(self) -> None:
        """Wait until no thread is at work; raise what the disk said."""
        self._syncing.result()


def in_folder(folder: pathlib.Path) -> list[pathlib.Path]:
    """All in a folder, the newest first; whether they are intact isn't looked at."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in paths if NAME.fullmatch(path.name)), reverse=True)


def is_intact(path: pathlib.Path) -> bool:
    """Whether a file holds what its name says: the list of its members has that hash, and they their checksums.

    Older files have a hash of their whole content in their names.
    """
    found = NAME.fullmatch(path.name)
    if found is None:
        return False
    with told("read", path):
        with open(path, "rb") as file:
            if _listed(file) == found[2]:
                return _is_whole(file)
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest().startswith(found[2])


def _is_whole(file: BufferedReader) -> bool:
    """Whether all members of an archive have their checksums."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except NOT_AN_ARCHIVE:
        return False


def newest(folder: pathlib.Path) -> tuple[Position | None, list[str]]:
    """The newest that is intact, and what is to be said of those that aren't; these get another name.

    Raises:
        RunError: a file can't be read.
    """
    notes: list[str] = []
    for path in in_folder(folder):
        if is_intact(path):
            return read(path), notes
        notes.append(f"{path.name} is damaged: it isn't what its name says; the one before it is taken")
        with told("rename", path):
            path.rename(path.with_name(path.name + DAMAGED))
    return None, notes


def read(path: pathlib.Path) -> Position:
    """What a checkpoint says; its tensors stay on the disk.

    Raises:
        RunError: it isn't one that a run can go on from.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        first = str(error).strip().splitlines()[0]
        raise RunError(f"{path} isn't a checkpoint of tensors and plain values: {first}") from error
    state = saved.get(KEY) if isinstance(saved, Mapping) else None
    if not isinstance(state, Mapping) or state.get("form") != FORM:
        raise RunError(f"{path} isn't a checkpoint that this version of builder can go on from")
    state = taken_out(saved)
    return Position(path, state, state["epoch"], saved["global_step"])


def put_in(checkpoint: dict[str, Any], state: Mapping[str, Any]) -> None:
    """Let a checkpoint hold what is needed to go on from it."""
    checkpoint[KEY] = {"form": FORM, **packed(state)}


def taken_out(checkpoint: Mapping[str, Any]) -> Any:
    """What `put_in` was given; None where a checkpoint holds nothing of it."""
    return unpacked(checkpoint[KEY]) if KEY in checkpoint else None


def prune(folder: pathlib.Path, keep: int) -> None:
    """Delete all but the newest `keep`, and what killed processes left half written.

    Raises:
        RunError: the system refuses.
    """
    with told("tidy", folder):
        for path in [*in_folder(folder)[keep:], *_left(folder)]:
            path.unlink(missing_ok=True)


def _left(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    ours = f".{os.getpid()}.tmp"
    return (path for path in folder.glob(".*.tmp") if not path.name.endswith(ours))


def link(path: pathlib.Path, name: pathlib.Path) -> None:
    """Let `name` be the same file as `path`, in one step; a copy where the file system has no links.

    Raises:
        RunError: the system refuses.
    """
    with told("write", name):
        temporary = name.with_name(f".{name.name}.{os.getpid()}.tmp")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            import shutil

            shutil.copyfile(path, temporary)
        os.replace(temporary, name)
