"""Asked to end, by Ctrl-C, SIGTERM or SIGUSR1: a handler notes it, and training ends where it can go on later."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""SIGUSR1 is what SLURM sends before time is up, with `--signal=USR1@60`."""


class Stopped(BaseException):
    """Training ends here because a signal asked for it; `signum` says which."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signal.Signals(signum).name)


class Stop:
    """Whether the process was asked to end; `signum` is None until it was.

    A step looks at `signum` and at nothing else. The first signal only sets it; a second one ends the process at once.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """The handler."""
        if self.signum is not None:
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # the bar hides the cursor
            os._exit(128 + signum)
        self.signum = signum

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it, signals only set `signum`; afterwards the handlers are what they were."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {signum: signal.getsignal(signum) for signum in SIGNALS}
        self.take_over()
        try:
            yield
        finally:
            for signum, handler in before.items():
                if handler is not None:  # None is one that Python didn't set, and can't
                    signal.signal(signum, handler)

    def take_over(self) -> None:
        """Handle the signals; again where Lightning has put its own handler around this one."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self)

    def end_if_asked(self) -> None:
        """End where nothing has to be saved.

        Raises:
            Stopped: the process was asked to end.
        """
        if self.signum is not None:
            raise Stopped(self.signum)
