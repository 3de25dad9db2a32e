"""The trimmed epoch loop: Lightning's own without the calls that nothing listens to. Private parts of Lightning.

On a small model most of a stock step goes into hooks that nobody overrides, contexts that do nothing and metrics that
nobody logged. Here a step calls what is overridden, counts what Lightning counts where Lightning counts it, and leaves
all that comes seldom (validation, the end of an epoch, the first step after a resume) to Lightning's own code.
`builder.training.loop_rule.why_stock` says when an epoch is left to Lightning's loop altogether.
"""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop

from builder.training.loop_rule import why_stock
from builder.training.loop_steps import Steps

LOGGER = logging.getLogger(__name__)


def trim(trainer: pl.Trainer) -> None:
    """Let a new trainer run its epochs in the trimmed loop, where that does the same."""
    fit_loop: Any = trainer.fit_loop
    stock = fit_loop.epoch_loop
    if type(stock) is _TrainingEpochLoop:
        fit_loop.epoch_loop = TrimmedEpochLoop(trainer, stock.min_steps, stock.max_steps)


class TrimmedEpochLoop(_TrainingEpochLoop):
    """Runs an epoch as `_TrainingEpochLoop` does: same bits, counters, logged values and order of hooks.

    Hooks that are overridden are looked up when the epoch begins. `why_stock` says why the last epoch was left to
    Lightning's loop; None if it wasn't.
    """

    why_stock: str | None = None

    def run(self, data_fetcher: Any) -> None:
        """Run the batches of an epoch, or what is left of it."""
        self.reset()
        self.on_run_start(data_fetcher)
        self._choose(data_fetcher)
        steps = Steps(self, data_fetcher) if self.why_stock is None else None
        while not self.done:
            try:
                if steps is None or self.restarting:
                    self.advance(data_fetcher)
                    self.on_advance_end(data_fetcher)
                else:
                    steps.take()
            except StopIteration:
                break
            finally:
                self.on_iteration_done()

    def _choose(self, fetcher: Any) -> None:
        reason = why_stock(self, fetcher)
        if reason != self.why_stock or self.trainer.current_epoch == 0:
            LOGGER.debug("the trimmed loop" if reason is None else f"Lightning's own loop: {reason}")
        self.why_stock = reason
