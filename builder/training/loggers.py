"""Loggers: Lightning's own by their names, with files in the run folder only; and how those of a config are made."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path as Folder
from typing import Any

import pytorch_lightning.loggers
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from builder.catalog.component import Component, read_component
from builder.config.origin import Origins
from builder.errors import Fault, Path
from builder.registry import loggers
from builder.training.csv_logger import CSVLogger
from builder.training.metric_log import MetricLog, skip_again
from builder.training.places import PROVIDED, in_run, misplaced
from builder.training.store_loggers import MLFlowLogger, WandbLogger


class TensorBoardLogger(pytorch_lightning.loggers.TensorBoardLogger):
    """Writes TensorBoard's event file into `save_dir` itself, and nothing else there.

    `max_queue` events or `flush_secs` seconds are the most that a killed process loses.
    """

    def __init__(
        self, save_dir: str | os.PathLike[str], prefix: str = "", max_queue: int = 10, flush_secs: int = 120
    ) -> None:
        super().__init__(
            os.fspath(save_dir), name="", version="", default_hp_metric=False, prefix=prefix,
            max_queue=max_queue, flush_secs=flush_secs,
        )  # fmt: skip

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write the numbers among them as one event, which takes a third of the time that one for each would."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # only where something is logged

        writer = self.experiment.file_writer  # None once it was closed: logging again opens another file
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)} if writer else {}
        if numbers:
            before = f"{self._prefix}{self.LOGGER_JOIN_CHAR}" if self._prefix else ""
            values = [Summary.Value(tag=f"{before}{name}", simple_value=value) for name, value in numbers.items()]
            writer.add_summary(Summary(value=values), step)
        if others := {name: value for name, value in metrics.items() if name not in numbers}:
            super().log_metrics(others, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config is saved elsewhere."""

    @rank_zero_only
    def save(self) -> None:
        """Nothing: events are written as they come, and Lightning would add a file of hyperparameters."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush. The file stays open, since the test after training is logged into it too; `close` closes it."""
        self.experiment.flush()

    def position(self) -> dict[str, int]:
        """The sizes of all event files here, once what was logged is in them and on the disk."""
        self.experiment.flush()
        files = self._files()
        for file in files:
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
        return {file.name: file.stat().st_size for file in files}

    def rewind(self, sizes: Mapping[str, int]) -> None:
        """Cut the event files back to sizes that they had; those that weren't there are deleted."""
        for file in self._files():
            if file.name in sizes:
                os.truncate(file, min(sizes[file.name], file.stat().st_size))
            else:
                file.unlink()

    def _files(self) -> list[Folder]:
        folder = Folder(self.log_dir)
        return sorted(folder.glob("events.out.tfevents.*")) if folder.is_dir() else []

    @rank_zero_only
    def close(self) -> None:
        """Flush and close the event file."""
        self.experiment.close()


OURS: dict[str, type[Logger]] = {
    "CSVLogger": CSVLogger, "TensorBoardLogger": TensorBoardLogger, "MLFlowLogger": MLFlowLogger,
    "WandbLogger": WandbLogger,
}  # fmt: skip
EXCLUDED = {"Logger": "the base class"}
"""Public classes of `pytorch_lightning.loggers` that a config can't use, and why."""

for _name in pytorch_lightning.loggers.__all__:
    if _name not in EXCLUDED:
        loggers.register(_name, OURS.get(_name) or getattr(pytorch_lightning.loggers, _name))


def positions_of(log: MetricLog, loggers: Mapping[str, Any]) -> dict[str, Any]:
    """How far the run's log and its loggers, by their names in the config, have come; all of it is on the disk."""
    events = {name: logger.position() for name, logger in loggers.items() if isinstance(logger, TensorBoardLogger)}
    return {"log": log.sync(), "events": events, "fed": list(loggers)}


@rank_zero_only
def rewind(log: MetricLog, loggers: Mapping[str, Any], positions: Mapping[str, Any] | None) -> None:
    """Cut back what was logged to where a checkpoint was written: to nothing without one.

    Loggers that are new get all that was logged before; services elsewhere aren't sent again what they already got.

    Raises:
        RunError: the log is shorter than it was.
    """
    state = positions or {"log": 0, "events": {}, "fed": list(loggers)}
    kept, cut = log.rewind(state["log"])
    for name, logger in loggers.items():
        if isinstance(logger, TensorBoardLogger):
            logger.rewind(state["events"].get(name, {}))
        if isinstance(logger, CSVLogger):
            logger.rewind(kept)
        elif name not in state["fed"]:
            for row in kept:
                logger.log_metrics({key: value for key, value in row.items() if key != "step"}, step=row["step"])
        elif not isinstance(logger, TensorBoardLogger):
            logger.log_metrics = skip_again(logger.log_metrics, cut)


def read_loggers(
    section: Mapping[str, Any] | None, origins: Origins, path: Path = ("logger",)
) -> tuple[list[Component], list[Fault]]:
    """The loggers of the section `logger:` in its order, and what is wrong with them; null leaves one out."""
    components, faults = [], []
    for name, part in (section or {}).items():
        if part is None:
            continue
        component, more = read_component(loggers, part, (*path, name), origins.of, provided=PROVIDED["logger"])
        faults += more
        if component is not None:
            components.append(component)
            faults += misplaced(component, origins.of)
    return components, faults


def make_logger(component: Component, run_dir: Folder) -> Logger:
    """The logger itself; it writes into `run_dir`, or into the folder of it that the config says.

    Raises:
        ConfigError: it refuses its arguments.
        MissingExtra: its package isn't installed.
    """
    component = in_run(component, run_dir)
    takes = inspect.signature(component.target).parameters
    folders = [name for name in ("save_dir", "root_dir") if name in takes and name not in component.arguments]
    defaults: dict[str, Any] = dict.fromkeys(folders, str(run_dir))
    return component.make(**defaults)
