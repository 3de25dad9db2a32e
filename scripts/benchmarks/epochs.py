"""Times epochs of whole trainings by turns: between two epochs of `builder train`, others run an epoch of theirs."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import pytorch_lightning as pl
from measure import Side, keep_memory

from builder.config.compose import compose
from builder.pipeline import train
from builder.registry import callbacks

UNTIMED = 2
"""Epochs at the beginning that don't count: the first, and the one in which caches are filled."""


@callbacks.register("Turns")
class Turns(pl.Callback):
    """At the beginning of each epoch: notes how long the last one took, then lets the others have their turn."""

    others: Sequence[Side] = ()
    taken: Sequence[list[float]] = ()

    def __init__(self) -> None:
        self._start: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An epoch ends where the next one begins, with all that comes after its last step."""
        if self._start is not None:
            self.taken[0].append(time.process_time() - self._start)
        else:
            gc.freeze()  # what is there by now stays, and needn't be gone through before each turn
        for other, taken in zip(self.others, self.taken[1:], strict=True):
            taken.append(_seconds(other))
        gc.collect()
        gc.disable()
        self._start = time.process_time()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last epoch isn't timed."""
        gc.enable()


def _seconds(side: Side) -> float:
    gc.collect()
    gc.disable()
    start = time.process_time()
    side()
    return time.process_time() - start


def by_turns(overrides: Sequence[str], *others: Side, epochs: int) -> list[tuple[float, ...]]:
    """The processor's seconds of each epoch of `builder train`, and of a call of each other side beside it.

    The trainer runs as it does on a terminal: with its bar, its table of metrics, and checkpoints.
    """
    keep_memory()
    Turns.others, Turns.taken = others, [[] for _ in range(1 + len(others))]
    words = [*overrides, f"trainer.max_epochs={epochs + UNTIMED + 1}", "+callbacks.turns.type=Turns"]
    terminal = mock.patch.dict(os.environ, {"TTY_COMPATIBLE": "1"})  # rich draws its bar, wherever it goes
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()), terminal:
        train(compose([*words, f"output_dir={folder}"]))
    return [tuple(taken[UNTIMED : UNTIMED + epochs]) for taken in Turns.taken]


class Paused(pl.Callback):
    """Stops a training at the beginning of each epoch until it is its turn."""

    def __init__(self) -> None:
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that an epoch is over, and wait."""
        self.done.release()
        self.go.acquire()


@contextlib.contextmanager
def paused(fit: Callable[[pl.Callback], None]) -> Iterator[Side]:
    """A training in a thread of its own, as a side that runs its next epoch; `fit` takes a callback and trains."""
    pause = Paused()
    thread = threading.Thread(target=fit, args=(pause,), daemon=True)
    thread.start()
    pause.done.acquire()

    def epoch() -> None:
        pause.go.release()
        pause.done.acquire()

    yield epoch
