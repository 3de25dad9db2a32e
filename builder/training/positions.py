"""Checkpoints that a run goes on from: files whose names hold a hash of what is in them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import pickle
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import torch

from builder.durable import told, write_named
from builder.errors import RunError
from builder.training.packed import packed, unpacked

FOLDER = "resume"
"""Where they lie, in the folder of checkpoints."""
NAME = re.compile(r"(\d{12})-([0-9a-f]{32})\.ckpt")
DAMAGED = ".damaged"
LARGE, SYNCED = 1 << 20, 1 << 26
"""Bytes of a part that other threads help with, and after how many it is begun to bring them to the disk."""
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
        with _Hashed(file) as hashed:
            dump(checkpoint, hashed)
            hashed.finish()
        digests.append(hashed.digest)

    return write_named(path, fill, lambda: path.with_name(f"{path.stem}-{digests[0][:32]}{path.suffix}"))


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


class _Hashed:
    """A file that is hashed as it is written: large parts meanwhile, by other threads, which also begin to sync them.

    Nothing is kept of what is written: a part is written and hashed when `write` returns.
    """

    def __init__(self, file: Any) -> None:
        self._file, self._hashing = file, hashlib.sha256()
        self._threads = ThreadPoolExecutor(2, "checkpoint")  # there are none until they are needed
        self._unsynced, self._syncing = 0, Future[None]()
        self._syncing.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown()

    def write(self, data: Any) -> int:
        if len(data) < LARGE:
            self._hashing.update(data)
            written: int = self._file.write(data)
            return written
        writing = self._threads.submit(self._file.write, data)
        self._hashing.update(data)
        written = writing.result()
        self._unsynced += written
        if self._unsynced >= SYNCED and self._syncing.done():
            self._syncing.result()  # an error of the disk is told once
            self._syncing, self._unsynced = self._threads.submit(os.fsync, self._file.fileno()), 0
        return written

    def flush(self) -> None:
        self._file.flush()

    def finish(self) -> None:
        """Wait until no thread is at work; raise what the disk said."""
        self._syncing.result()

    @property
    def digest(self) -> str:
        """The SHA-256 of all that was written."""
        return self._hashing.hexdigest()


def in_folder(folder: pathlib.Path) -> list[pathlib.Path]:
    """All in a folder, the newest first; whether they are intact isn't looked at."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in paths if NAME.fullmatch(path.name)), reverse=True)


def is_intact(path: pathlib.Path) -> bool:
    """Whether a file holds what its name says."""
    found = NAME.fullmatch(path.name)
    with told("read", path), open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return found is not None and digest.startswith(found[2])


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
