"""Where a study is kept: SQLite in the sweep's folder, a journal file, or any database that Optuna takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import MissingExtra, RunError, UsageError, nearest
from builder.runs.command import without_password
from builder.sweep.search import optuna

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

FILE = "study.db"
"""The study in a sweep's folder, unless the sweep says another storage."""
WAIT = 120
"""Seconds that a process waits for another one that writes into the same SQLite file."""


def url_of(storage: str | None, folder: Path) -> str:
    """The storage that a sweep in `folder` has: its own file, a URL as it is, a journal by its absolute path."""
    if storage is None:
        return f"sqlite:///{(folder / FILE).resolve()}"
    return storage if "://" in storage else f"journal:///{Path(storage).resolve()}"


def open_storage(url: str) -> BaseStorage:
    """The storage itself.

    Raises:
        UsageError: there is no such kind of storage.
        MissingExtra: the database's driver isn't installed.
        RunError: it can't be reached.
    """
    package = optuna()
    kind = url.partition("://")[0]
    try:
        if kind == "journal":
            path = url.removeprefix("journal:///")
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            backend = package.storages.journal.JournalFileBackend(path)
            storage: Any = package.storages.JournalStorage(backend)
        elif kind == "redis":
            storage = url
        else:
            arguments: dict[str, Any] = {"connect_args": {"timeout": WAIT}} if kind == "sqlite" else {}
            storage = package.storages.RDBStorage(url, engine_kwargs=arguments)
        opened: BaseStorage = package.storages.get_storage(storage)  # which keeps what can't change any more
    except Exception as error:  # whatever SQLAlchemy, a driver or the system raises
        if (missing := _missing(error)) is not None:
            raise MissingExtra(f"the storage {kind}:// needs the package {missing!r}: pip install it") from error
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "parse" in said.lower() or "NoSuchModule" in type(error).__name__:
            hint = "sqlite:///study.db, postgresql://USER:PASSWORD@HOST/DATABASE, mysql://…, or the path of a journal"
            raise UsageError(f"no storage {without_password(url)!r}\n  expected: {hint}") from error
        raise RunError(f"the storage {without_password(url)} can't be opened: {said}") from error
    return opened


def _missing(error: BaseException) -> str | None:
    """The package that isn't installed, which Optuna doesn't name; None if that isn't why something was raised."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ModuleNotFoundError):
        cause = cause.__cause__ or cause.__context__
    return None if cause is None else cause.name


def refuse_study(url: str, name: str) -> None:
    """See that a storage, which others may use too, has no study of that name yet.

    Raises:
        UsageError: there is one.
    """
    if name in [study.study_name for study in open_storage(url).get_all_studies()]:
        shown, hint = without_password(url), "give it another sweep.name"
        raise UsageError(f"a study {name!r} lies in {shown} already\n  hint:     {hint}")


def find_study(storage: BaseStorage, name: str | None) -> str:
    """The name of the study that is meant in a storage: the one given, or the only one.

    Raises:
        UsageError: there is none, or more than one.
    """
    names = sorted(study.study_name for study in storage.get_all_studies())
    if name is None and len(names) == 1:
        return names[0]
    if name in names:
        return str(name)
    if name is None:
        listed = f"{len(names)} studies lie there: {', '.join(names)}" if names else "no study lies there"
        raise UsageError(listed + ("\n  hint:     name one with --study" if names else ""))
    near = nearest(name, names)
    raise UsageError(
        f"no study {name!r} lies there" + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")
    )
