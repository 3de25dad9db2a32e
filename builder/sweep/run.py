"""A sweep from its words to its report: begun, resumed, or joined by another process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from builder.catalog.component import read_component
from builder.config.origin import Origins
from builder.config.saved import saved_yaml
from builder.durable import make_folder, told, write_json
from builder.errors import ConfigError, Fault, Origin, RunError, UsageError, nearest
from builder.registry import executors
from builder.runs.folder import check_name
from builder.runs.lock import Lock
from builder.sweep.book import Book, Row
from builder.sweep.driver import Driver, Event, Judged
from builder.sweep.jobs import Executor
from builder.sweep.objectives import Objective
from builder.sweep.preflight import preflight
from builder.sweep.report import write_report
from builder.sweep.results import best_rows, link_best, write_results
from builder.sweep.settings import Settings, Source, read_settings
from builder.sweep.space import corners
from builder.sweep.storage import find_study, hidden, open_storage, url_of

FILE = "sweep.json"
"""What a sweep's folder knows of it: its words and its study."""
FOLDER = "sweeps"
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
        ConfigError: its section, its space, or one of its points is wrong; nothing is written.
        RunError: its folder is there already, or can't be written.
    """
    settings = read_settings(words, source)
    folder = _folder(settings)
    found = preflight(settings, watcher.checked)
    judged = Judged(found.objectives, found.monitor, found.mode)
    executor = _executor(settings)
    try:
        with told("make", folder):
            make_folder(folder.parent)
            folder.mkdir()
    except BaseException:
        executor.cancel()
        raise
    lock = Lock(folder)
    try:
        watcher.say(str(found))
        url = url_of(settings.section["storage"], folder)
        notes = {
            "words": list(words), "source": asdict(source), "folder": str(folder), "monitor": found.monitor,
            "mode": found.mode, "objectives": [asdict(one) for one in found.objectives],
            "configs": _fingerprint(settings),
        }  # fmt: skip
        book = Book.create(url, folder.name, [one.mode for one in found.objectives], notes)
        book.fill(settings.axes, settings.trials, grid=settings.is_grid)
        write_json(folder / FILE, {"study": folder.name, "storage": hidden(url), **notes})
        return _work(settings, judged, book, executor, folder, watcher)
    finally:
        executor.cancel()
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
        book = Book(url_of(settings.section["storage"], folder), known["study"])
        if known["configs"] != _fingerprint(settings):
            watcher.say("note: the configs have changed since this sweep began: its trials may not be comparable")
        there = len(book.rows())
        if settings.trials < there:
            watcher.say(f"note: there are {there} trials already; none is taken away")
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
    if (here / FILE).is_file():
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


def read_sweep(folder: Path) -> dict[str, Any]:
    """What a sweep's folder knows of it.

    Raises:
        UsageError: it holds no sweep; names those that are near.
    """
    if not (folder / FILE).is_file():
        beside = [path.parent for path in folder.parent.glob(f"*/{FILE}")] if folder.parent.is_dir() else []
        near = nearest(folder.name, [path.name for path in beside])
        asked = f"; did you mean {' or '.join(repr(str(folder.parent / name)) for name in near)}?" if near else ""
        raise UsageError(f"{folder} is no sweep's folder: it holds no {FILE}{asked}")
    with told("read", folder / FILE):
        text = (folder / FILE).read_text(encoding="utf-8")
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        raise RunError(f"cannot read {folder / FILE}: it is damaged") from None
    return found


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


def _judged(known: dict[str, Any]) -> Judged:
    return Judged(tuple(Objective(**one) for one in known["objectives"]), known["monitor"], known["mode"])


def _executor(settings: Settings) -> Executor:
    origins: Origins = settings.origins
    component, faults = read_component(executors, settings.section["executor"], ("sweep", "executor"), origins.of)
    if component is None or faults:
        raise ConfigError(*faults)
    executor: Executor = component.make()
    return executor


def _folder(settings: Settings) -> Path:
    """The folder of a new sweep, which isn't there yet.

    Raises:
        ConfigError: its name can't be one, or is taken.
    """
    place = ("sweep", "name")
    name = settings.section["name"]
    if name is not None:
        check_name(name, settings.origins.of(place))
    else:
        name = f"{settings.experiment}_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    folder = Path(settings.output_dir) / FOLDER / name
    if not folder.exists():
        return folder
    if settings.section["name"] is None:
        number = next(n for n in range(2, 10_000) if not folder.with_name(f"{name}_{n}").exists())
        return folder.with_name(f"{name}_{number}")
    hint = f"builder sweep resume {folder}" if (folder / FILE).is_file() else "give it another name"
    raise ConfigError(Fault(f"{folder} is there already", place, settings.origins.of(place), name, hint=hint))


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
