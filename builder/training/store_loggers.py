"""Loggers that write into the stores of MLflow and Weights & Biases, inside of the run folder and without a network.

The id that a run has there is kept in a file of the run folder, so that it is the same run after `builder resume`.
"""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning.loggers
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from builder.durable import told, write_text
from builder.optional import require


class MLFlowLogger(pytorch_lightning.loggers.MLFlowLogger):
    """Writes into a store of MLflow: `mlflow.db` (SQLite) in `save_dir`, which `mlflow ui` reads.

    Where the environment names another store (MLFLOW_TRACKING_URI), that is taken.

    Args:
        save_dir: where it writes; the run folder.
        experiment_name: under which MLflow lists the run.
        run_name: the run's; the run folder's name where it isn't given.
        tags: what the run is marked with, by name.
        prefix: what the names of all values begin with.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        experiment_name: str = "builder",
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        prefix: str = "",
    ) -> None:
        require("mlflow", "mlflow", "the logger MLFlowLogger")
        require("sqlalchemy", "mlflow", "the logger MLFlowLogger")
        folder = Path(save_dir).absolute()
        store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
        self._id_file = folder / "mlflow.id"
        with _quiet():
            super().__init__(
                experiment_name, run_name or folder.name, store, dict(tags or {}), prefix=prefix,
                artifact_location=str(folder / "mlflow"), run_id=_read(self._id_file),
            )  # fmt: skip

    @property
    def experiment(self) -> Any:
        """MLflow's client; the store is made when it is first asked for."""
        first = not self._initialized
        with _quiet():
            client = super().experiment
        if first:
            _keep(self._id_file, self.run_id)
        return client

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config is saved elsewhere."""

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Nothing: the test after training is logged too; `close` ends the run."""

    @rank_zero_only
    def close(self) -> None:
        """Say that the run is over."""
        if self._initialized:
            self.experiment.set_terminated(self.run_id, "FINISHED")


class WandbLogger(pytorch_lightning.loggers.WandbLogger):
    """Writes a run of Weights & Biases into `save_dir`/wandb; `wandb sync` uploads it.

    Args:
        save_dir: where it writes; the run folder.
        project: under which Weights & Biases lists the run.
        name: the run's; the run folder's name where it isn't given.
        offline: whether only files are written, else all is uploaded at once.
        tags: what the run is marked with.
        notes: a longer description of the run.
        prefix: what the names of all values begin with.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        project: str = "builder",
        name: str | None = None,
        offline: bool = True,
        tags: list[str] | None = None,
        notes: str | None = None,
        prefix: str = "",
    ) -> None:
        wandb = require("wandb", "wandb", "the logger WandbLogger")
        settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)
        file = Path(save_dir) / "wandb.id"
        number = _read(file) or secrets.token_hex(4)
        super().__init__(
            name=name or Path(save_dir).name, save_dir=os.fspath(save_dir), project=project, offline=offline,
            prefix=prefix, tags=tags, notes=notes, settings=settings, id=number, resume="allow",
        )  # fmt: skip
        _keep(file, number)
        self._wandb_init.pop("anonymous", None)  # W&B warns of it, whatever it is

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config is saved elsewhere."""

    @rank_zero_only
    def close(self) -> None:
        """End the run."""
        if self._experiment is not None:
            self._experiment.finish()
            self._experiment = None


def _read(file: Path) -> str | None:
    """The id that a run got in an earlier attempt; None where this is the first."""
    if not file.is_file():
        return None
    with told("read", file):
        return file.read_text(encoding="utf-8").strip() or None


@rank_zero_only
def _keep(file: Path, number: str | None) -> None:
    write_text(file, f"{number}\n")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what MLflow, and the packages by which it makes its tables, say of themselves."""
    names = ("mlflow", "alembic", "pytorch_lightning.loggers.mlflow")
    levels = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    for logger, _ in levels:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)
