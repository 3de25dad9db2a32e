"""A sweep from its words to its report: begun, resumed, or joined by another process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from builder.catalog.component import read_component
from builder.config.origin import Origins
from builder.config.saved import saved_yaml
from builder.durable import make_folder, told, write_json
from builder.errors import ConfigError, Fault, Origin, UsageError
from builder.registry import executors
from builder.runs.command import without_password
from builder.runs.lock import Lock
from builder.sweep.book import Book, Row
from builder.sweep.driver import Driver, Event, Judged
from builder.sweep.folder import FILE, is_sweep_folder, new_folder, read_sweep
from builder.sweep.jobs import Executor
from builder.sweep.objectives import Objective
from builder.sweep.preflight import preflight
from builder.sweep.report import write_report
from builder.sweep.results import best_rows, link_best, write_results
from builder.sweep.settings import Settings, Source, read_settings
from builder.sweep.space import corners
from builder.sweep.storage import find_study, open_storage, refuse_study, url_of

LATER = ("sweep.trials", "sweep.executor", "sweep.retry", "sweep.pruner")
"""What a resumed sweep may say anew."""


@dataclass(frozen=True, slots=True)
class SweepReport:
    """How a sweep stands: its folder, its trials, and those that are best (several objectives: that none beats)."""

    folder: Path
    finished: bool
    objectives: tuple[Objective, ...]
    rows: Sequence[Row]
    best: Sequence[Row]

    @property
    def counts(self) -> dict[str, int]:
        """How many trials there are of each state."""
        states = [row.state for row in self.rows]
        return {state: states.count(state) for state in dict.fromkeys(states)}


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told while a sweep goes on: `say` a line, `checked` points of the preflight, `event` of trials, `wait`."""

    say: Callable[[str], object] = lambda line: None
    checked: Callable[[int, int], object] = lambda done, total: None
    begin: Callable[[Settings, Judged, Book], object] = lambda settings, judged, book: None
    event: Callable[[Event], object] = lambda event: None
    wait: Callable[[], object] = lambda: None


def start(words: Sequence[str], source: Source, watcher: Watcher) -> SweepReport:
    """Begin a sweep and work on it to its end.

    Raises:
        ConfigError: its section, its space, or one of its points is wrong, or its name is taken; nothing is written.
        UsageError: its storage is none, or has a study of that name; nothing is written.
        RunError: its folder can't be written.
    """
    settings = read_settings(words, source)
    new_folder(settings)  # a name that is taken is refused before the points are checked, which takes longer
    found = preflight(settings, watcher.checked)
    judged = Judged(found.objectives, found.monitor, found.mode)
    folder = new_folder(settings)
    url = url_of(settings.section["storage"], folder)
    if settings.section["storage"] is not None:
        refuse_study(url, folder.name)
    executor = _executor(settings)
    lock = None
    try:
        with told("make", folder):
            make_folder(folder)
        lock = Lock(folder)
        watcher.say(str(found))
        known = {
            "study": folder.name, "storage": without_password(url), "words": _settled(words, settings),
            "source": asdict(source), "folder": str(folder), "monitor": found.monitor, "mode": found.mode,
            "objectives": [asdict(one) for one in found.objectives], "configs": _fingerprint(settings),
        }  # fmt: skip
        write_json(folder / FILE, known)  # first of all: with it, a sweep that is killed here is one to resume
        book = _book(known, url)
        book.fill(settings.axes, settings.trials, grid=settings.is_grid)
        return _work(settings, judged, book, executor, folder, watcher)
    finally:
        executor.cancel()
        if lock is not None:
            lock.release()


def resume(folder: Path, words: Sequence[str], watcher: Watcher) -> SweepReport:
    """Go on with a sweep: take up what was interrupted, and add trials if `words` say a larger total.

    Raises:
        UsageError: the folder holds no sweep.
        ConfigError: `words` say something that can't change any more.
        RunError: another process is at it.
    """
    known = read_sweep(folder)
    _check_later(words)
    settings = read_settings([*known["words"], *words], Source(**known["source"]))
    lock = Lock(folder)
    executor = None
    try:
        book = _book(known, url_of(settings.section["storage"], folder))
        if known["configs"] != _fingerprint(settings):
            watcher.say("note: the configs have changed since this sweep began: its trials may not be comparable")
        there = len(book.rows())
        if settings.trials < there:
            watcher.say(f"note: there are {there} trials already; none is taken away")
        if settings.is_grid and (settings.section["trials"] or 0) > settings.trials:
            watcher.say(f"note: the grid has {settings.trials} points, and no more")
        added = book.fill(settings.axes, settings.trials, grid=settings.is_grid)
        watcher.say(f"resumed: {there} trials, {added} more")
        executor = _executor(settings)
        return _work(settings, _judged(known), book, executor, folder, watcher)
    finally:
        if executor is not None:
            executor.cancel()
        lock.release()


def join(storage: str, study: str | None, words: Sequence[str], watcher: Watcher) -> SweepReport:
    """Work on the trials of a sweep beside the process that began it, on this machine or on another.

    `storage` is the sweep's folder, a storage's URL, or a journal file.

    Raises:
        UsageError: there is no such sweep.
        RunError: the storage can't be reached.
    """
    here = Path(storage)
    if is_sweep_folder(here):
        known = read_sweep(here)
        settings = read_settings([*known["words"], *words], Source(**known["source"]))
        book = Book(url_of(settings.section["storage"], here), known["study"])
    else:
        if "://" not in storage and not here.is_file():
            raise UsageError(f"no sweep {storage!r}: neither a sweep's folder, nor a storage's URL, nor a journal file")
        url = url_of(storage, here)
        book = Book(url, find_study(open_storage(url), study))
        if "words" not in book.notes:
            raise UsageError(f"the study {book.name!r} is none of a sweep")
    known = book.notes
    _check_later(words)
    settings = read_settings([*known["words"], *words], Source(**known["source"]))
    if known["configs"] != _fingerprint(settings):
        watcher.say("note: the configs here aren't those that this sweep began with: its trials may not be comparable")
    executor = _executor(settings)
    try:
        return _work(settings, _judged(known), book, executor, Path(known["folder"]), watcher, main=False)
    finally:
        executor.cancel()


def report(folder: Path) -> SweepReport:
    """Write the report of a sweep anew, as it stands.

    Raises:
        UsageError: the folder holds no sweep.
    """
    known = read_sweep(folder)
    settings = read_settings(known["words"], Source(**known["source"]))
    book = Book(url_of(settings.section["storage"], folder), known["study"])
    return _reported(settings, _judged(known), book, folder, finished=True)


def _work(
    settings: Settings, judged: Judged, book: Book, executor: Executor, folder: Path, watcher: Watcher,
    *, main: bool = True,
) -> SweepReport:  # fmt: skip
    book.prunes_by(settings.pruner)
    watcher.begin(settings, judged, book)
    driver = Driver(book, settings, judged, executor, str(folder), main, watcher.event, watcher.wait)
    finished = driver.run()
    if not main:
        rows = book.rows()
        return SweepReport(folder, finished, judged.objectives, rows, best_rows(rows, book.modes))
    return _reported(settings, judged, book, folder, finished=finished)


def _reported(settings: Settings, judged: Judged, book: Book, folder: Path, *, finished: bool) -> SweepReport:
    rows = book.rows()
    best = best_rows(rows, book.modes)
    found = SweepReport(folder, finished, judged.objectives, rows, best)
    write_results(folder, rows, [axis.name for axis in settings.axes], [one.name for one in judged.objectives])
    link_best(folder, best)
    write_report(folder, book.study, judged.objectives, judged.monitor, rows, best)
    return found


def _settled(words: Sequence[str], settings: Settings) -> list[str]:
    """The words of a sweep, with the sampler that no word says where all points are walked: more trials change none."""
    return [*words, "sweep.sampler=grid"] if settings.is_grid and settings.section["sampler"] is None else list(words)


def _book(known: dict[str, Any], url: str) -> Book:
    """The study of a sweep, made if it isn't there yet, with what joining processes have to know."""
    notes = {key: value for key, value in known.items() if key not in ("study", "storage")}
    return Book.create(url, known["study"], [one["mode"] for one in known["objectives"]], notes)


def _judged(known: dict[str, Any]) -> Judged:
    return Judged(tuple(Objective(**one) for one in known["objectives"]), known["monitor"], known["mode"])


def _executor(settings: Settings) -> Executor:
    origins: Origins = settings.origins
    component, faults = read_component(executors, settings.section["executor"], ("sweep", "executor"), origins.of)
    if component is None or faults:
        raise ConfigError(*faults)
    executor: Executor = component.make()
    return executor


def _check_later(words: Sequence[str]) -> None:
    faults = []
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if not any(key == name or key.startswith(f"{name}.") for name in LATER):
            hint = "begin a new sweep"
            faults.append(Fault("can't change any more", (key,), Origin(override=word), hint=hint,
                                expected=f"one of {', '.join(LATER)}"))  # fmt: skip
    if faults:
        raise ConfigError(*faults)


def _fingerprint(settings: Settings) -> str:
    """By what it is seen that the configs have changed: the first point's config, without what may change."""
    found = settings.compose(next(corners(settings.axes, 0, 0)))
    return hashlib.sha256(
        saved_yaml(replace(found, unresolved={**found.unresolved, "output_dir": ""})).encode()
    ).hexdigest()
