"""Files that are either whole or not there: written beside their final name, synced, renamed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from builder.errors import RunError


@contextlib.contextmanager
def told(doing: str, path: pathlib.Path) -> Iterator[None]:
    """Turn an operating system's error into one for the user: `cannot <doing> <path>: <reason>`."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot {doing} {path}: {error.strerror or error}") from error


def write_bytes(path: pathlib.Path, data: bytes) -> None:
    """`write_file` of these bytes."""
    write_file(path, lambda file: file.write(data))


def write_file(path: pathlib.Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file by `fill` so that, killed anywhere, its name holds the old content or the new, never a part of it.

    Folders on the way are made. The data are on disk when this returns.

    Raises:
        RunError: the system refuses; the file is then as it was before.
    """
    write_named(path, fill, lambda: path)


def write_named(
    path: pathlib.Path, fill: Callable[[BinaryIO], object], named: Callable[[], pathlib.Path]
) -> pathlib.Path:
    """`write_file` of a file whose name is known once it is filled: what `named` then says, in the folder of `path`."""
    with told("write", path):
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            final = named()
            os.replace(temporary, final)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    return final


def write_text(path: pathlib.Path, text: str) -> None:
    """`write_bytes` of text as UTF-8; what UTF-8 can't hold (bytes of a command line) is written as an escape."""
    write_bytes(path, encoded(text))


def write_json(path: pathlib.Path, value: Any) -> None:
    """`write_bytes` of a value as JSON; see `plain` for what may be in it."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def encoded(text: str) -> bytes:
    """Text as UTF-8, with escapes (JSON's too) for the lone surrogates that stand for undecodable bytes."""
    return text.encode(errors="backslashreplace")


def make_folder(path: pathlib.Path) -> None:
    """Make a folder and its parents where they are missing, durably.

    Raises:
        OSError: the system refuses.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    if not path.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(path))
    sync_folder(path.parent)


def sync_folder(path: pathlib.Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def plain(value: Any) -> Any:
    """A value as strict JSON can hold it: paths as text, numbers that aren't finite as `"nan"`, `"inf"`, `"-inf"`."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, pathlib.PurePath) else value
