"""A sweep while it runs: a table on a terminal, a line for each trial elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from builder.cli.output import is_terminal

if TYPE_CHECKING:
    from rich.table import Table

    from builder.sweep.book import Book
    from builder.sweep.driver import Event, Judged
    from builder.sweep.run import Watcher
    from builder.sweep.settings import Settings

ROWS = 15
"""The most trials that the table shows."""
REFRESH = 1.0
"""Seconds from one reading of the study to the next."""


class Shown:
    """Says how a sweep goes: on standard error, so that its output stays for results."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._live = quiet, None if quiet or not is_terminal(sys.stderr) else True
        self._stack = contextlib.ExitStack()
        self._display: Any = None
        self._judged: Judged | None = None
        self._book: Book | None = None
        self._began, self._read, self._ended = time.monotonic(), 0.0, 0
        self._total, self._done, self._best = 0, 0, ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.update(self._table(), refresh=True)
        self._stack.close()

    def watcher(self) -> Watcher:
        """What a sweep calls."""
        from builder.sweep.run import Watcher

        return Watcher(self._say, self._checked, self._begin, self._event, self._wait)

    def _say(self, line: str) -> None:
        if not self._quiet:
            print(line, file=sys.stderr)

    def _checked(self, done: int, total: int) -> None:
        if self._live and total > 1:
            print(f"\rchecking {done + 1} of {total} points", end="\n" if done + 1 == total else "", file=sys.stderr)

    def _begin(self, settings: Settings, judged: Judged, book: Book) -> None:
        self._judged, self._book = judged, book
        rows = book.rows()
        self._total = len(rows)
        self._done = sum(1 for row in rows if row.state not in ("waiting", "running"))
        if self._live:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=sys.stderr)
            self._display = self._stack.enter_context(Live(self._table(), console=console, auto_refresh=False))

    def _event(self, event: Event) -> None:
        from builder.sweep.shown import point_text, values_text

        if event.what == "ended":
            self._ended += 1
            self._done += 1
        if self._display is not None:
            self._wait(now=True)
            return
        if self._quiet or event.what == "begun" or event.outcome is None or self._judged is None:
            return
        outcome = event.outcome
        said = outcome.reason or values_text(outcome.values, self._judged.objectives, outcome.spread)
        again = "; once more" if event.what == "again" else ""
        told = outcome.state == "complete" or said.startswith(outcome.state)
        state = "" if told else f"{outcome.state}: "
        head = f"trial {event.number} ({self._done}/{self._total})"
        self._say(f"{head}  {point_text(event.point)}  {state}{said}{again}  {outcome.seconds:.1f} s{self._eta()}")

    def _eta(self) -> str:
        """The time that is left, as it went until now."""
        left = self._total - self._done
        if not self._ended or left <= 0:
            return ""
        seconds = (time.monotonic() - self._began) / self._ended * left
        return f", {seconds:.0f} s left" if seconds < 100 else f", {seconds / 60:.0f} min left"

    def _wait(self, now: bool = False) -> None:
        if self._display is not None and (now or time.monotonic() - self._read > REFRESH):
            self._read = time.monotonic()
            self._display.update(self._table(), refresh=True)

    def _table(self) -> Table:
        from rich.table import Table

        from builder.sweep.results import best_rows
        from builder.sweep.shown import counted, point_text

        assert self._book is not None and self._judged is not None
        rows = self._book.rows()
        best = best_rows(rows, self._book.modes)
        counts: dict[str, int] = {}
        for row in rows:
            counts[row.state] = counts.get(row.state, 0) + 1
        table = Table(
            box=None, pad_edge=False, expand=True, caption=counted(counts) + self._eta(), caption_justify="left"
        )
        for name in ("trial", "state", *(one.name for one in self._judged.objectives), "s"):
            table.add_column(name, no_wrap=True)
        table.add_column("overrides", ratio=2, overflow="fold")
        table.add_column("", ratio=1, overflow="ellipsis", no_wrap=True)  # why it failed, which may be long
        begun = [row for row in rows if row.state != "waiting"]
        shown = {row.number: row for row in [*best[:1], *begun[-ROWS:]]}
        for row in sorted(shown.values(), key=lambda one: one.number):
            latest = [row.curve[max(row.curve)]] if row.curve and len(self._judged.objectives) == 1 else []
            values: Sequence[float | None] = row.values or latest or [None] * len(self._judged.objectives)
            cells = [f"{value:.5g}" if value is not None else "" for value in values]
            style: Mapping[str, str] = {"failed": "red", "pruned": "dim", "running": "cyan"}
            mark = "best" if best and row.number == best[0].number and len(self._judged.objectives) == 1 else ""
            seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
            table.add_row(str(row.number), row.state, *cells, seconds, point_text(row.point), mark or row.reason or "",
                          style="bold" if mark else style.get(row.state, ""))  # fmt: skip
        return table
