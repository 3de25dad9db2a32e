"""Where Lightning stands between two batches, as plain values: taken for a checkpoint, and put back.

All private parts of Lightning that exact resume needs are used in this file, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.connectors.logger_connector.result import _Metadata, _ResultMetric, _Sync
from torch import Tensor
from torchmetrics import Metric

from builder.errors import RunError
from builder.training.phase import load_metric_state, metric_state

KNOWN = "2.6"
"""The Lightning whose private parts are those that are used here."""

REDUCTIONS: dict[str, Any] = {"mean": torch.mean, "sum": torch.sum, "max": torch.max, "min": torch.min}
META = (
    "fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph", "add_dataloader_idx", "dataloader_idx",
    "metric_attribute",
)  # fmt: skip
SHOWN = ("_callback_metrics", "_logged_metrics", "_progress_bar_metrics")
KEPT = ("_last_global_step_saved", "_last_checkpoint_saved", "_defer_save_until_validation", "current_score")
"""What a ModelCheckpoint goes by and doesn't save."""


def check_lightning() -> None:
    """Refuse a Lightning whose inner parts may be others.

    Raises:
        RunError: it is of another minor version.
    """
    if pl.__version__.split(".")[:2] != KNOWN.split("."):
        raise RunError(f"runs are resumed exactly with pytorch-lightning {KNOWN}, and this is {pl.__version__}")


def counters(trainer: pl.Trainer) -> dict[str, Any]:
    """All counters of the loops, the same in all processes."""
    fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
    return {
        "epoch_progress": fit.epoch_progress.state_dict(),
        "batch_progress": epoch.batch_progress.state_dict(),
        "optimizer_progress": epoch.automatic_optimization.optim_progress.state_dict(),
        "scheduler_progress": epoch.scheduler_progress.state_dict(),
        "val_progress": epoch.val_loop.batch_progress.state_dict(),
        "batches_that_stepped": epoch._batches_that_stepped,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "should_stop": trainer.should_stop,
    }


def put_counters(trainer: pl.Trainer, state: Mapping[str, Any]) -> None:
    """Put the counters back, and let the loops go on as if they had never stopped.

    Lightning takes its loops for restarted until the epoch ends, and leaves out what it does at its end.
    """
    fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
    fit.epoch_progress.load_state_dict(state["epoch_progress"])
    epoch.batch_progress.load_state_dict(state["batch_progress"])
    epoch.automatic_optimization.optim_progress.load_state_dict(state["optimizer_progress"])
    epoch.scheduler_progress.load_state_dict(state["scheduler_progress"])
    epoch.val_loop.batch_progress.load_state_dict(state["val_progress"])
    epoch._batches_that_stepped = state["batches_that_stepped"]
    trainer.accumulate_grad_batches = state["accumulate_grad_batches"]
    for loop in (fit, epoch, epoch.val_loop):
        loop.on_iteration_done()


def logged(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
    """What was logged in this process through Lightning, and the state of metrics that are modules.

    Raises:
        RunError: something is logged in a way that can't be saved.
    """
    connector, results = trainer._logger_connector, trainer.fit_loop.epoch_loop._results
    return loop_flags(trainer) | {
        "results": {key: _result(key, metric) for key, metric in results.items()},
        "metrics": {name: metric_state(metric) for name, metric in _metrics(pl_module).items()},
        "shown": {name: {key: _plain(value) for key, value in getattr(connector, name).items()} for name in SHOWN},
    }


def loop_flags(trainer: pl.Trainer) -> dict[str, Any]:
    """What Lightning goes by when it averages what is logged."""
    connector = trainer._logger_connector
    return {"first_of_loop": connector._first_loop_iter, "in_hook": connector._current_fx}


def put_first_of_loop(trainer: pl.Trainer, state: Mapping[str, Any]) -> None:
    """Put back the one of these flags that Lightning keeps aside while it validates."""
    trainer._logger_connector._first_loop_iter = state["first_of_loop"]


def restart_validation(checkpoint: dict[str, Any]) -> None:
    """Have Lightning begin, from this checkpoint, with the validation after the last batch."""
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    progress = {"total": begun, "current": dict.fromkeys(begun, 0), "is_last_batch": False}
    checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = progress


def put_logged(trainer: pl.Trainer, pl_module: pl.LightningModule, state: Mapping[str, Any]) -> None:
    """Put back what `logged` gave."""
    connector, results = trainer._logger_connector, trainer.fit_loop.epoch_loop._results
    metrics = _metrics(pl_module)
    for name, saved in state["metrics"].items():
        load_metric_state(metrics[name], saved, pl_module.device)
    for key, saved in state["results"].items():
        results[key] = _made(trainer, pl_module, saved)
    put_shown(trainer, state)
    connector._first_loop_iter, connector._current_fx = state["first_of_loop"], state["in_hook"]


def put_shown(trainer: pl.Trainer, state: Mapping[str, Any]) -> None:
    """Put back the latest values of metrics only."""
    for name in SHOWN:
        setattr(trainer._logger_connector, name, dict(state["shown"][name]))


def checkpoints_kept(trainer: pl.Trainer) -> list[dict[str, Any]]:
    """What the ModelCheckpoints go by and don't save, in their order."""
    return [{name: getattr(callback, name) for name in KEPT} for callback in model_checkpoints(trainer)]


def put_checkpoints_kept(trainer: pl.Trainer, state: list[Mapping[str, Any]]) -> None:
    """Put it back; where callbacks came or went meanwhile, only those of an unchanged list."""
    callbacks = model_checkpoints(trainer)
    if len(callbacks) == len(state):
        for callback, saved in zip(callbacks, state, strict=True):
            for name, value in saved.items():
                setattr(callback, name, value)


def model_checkpoints(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    """The trainer's callbacks of Lightning that write checkpoints."""
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]


def current_batch(trainer: pl.Trainer) -> Any:
    """The batch of the training step that runs."""
    results = trainer.fit_loop.epoch_loop._results
    return results.batch


def ignore_sigterm(trainer: pl.Trainer) -> None:
    """Let Lightning forget that it was asked to end: we were too, and end at a point of our own."""
    trainer._signal_connector.received_sigterm = False


def _metrics(pl_module: pl.LightningModule) -> dict[str, Metric]:
    """Metrics that are modules and stand in no other metric."""
    found: dict[str, Metric] = {}
    for name, module in pl_module.named_modules():
        if isinstance(module, Metric) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


def _plain(value: Any) -> Any:
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value


def _result(key: str, metric: _ResultMetric) -> dict[str, Any]:
    """One value that is averaged over the epoch."""
    meta = metric.meta
    if meta.sync.group is not None:
        raise RunError(f"{meta.name!r} is logged with a process group of its own, which a checkpoint can't keep")
    state = {name: _plain(getattr(metric, name)) for name in metric._defaults} if metric.is_tensor else None
    return {
        "meta": {name: getattr(meta, name) for name in META},
        "reduce": meta.reduce_fx.__name__,
        "sync": meta.sync.should,
        "rank_zero_only": meta.sync.rank_zero_only,
        "has_reset": metric.has_reset,
        "updates": metric._update_count,
        "state": state,
    }


def _made(trainer: pl.Trainer, pl_module: pl.LightningModule, saved: Mapping[str, Any]) -> _ResultMetric:
    meta = _Metadata(**saved["meta"], reduce_fx=REDUCTIONS[saved["reduce"]])
    meta.sync = _Sync(
        _should=saved["sync"], fn=trainer.strategy.reduce, rank_zero_only=saved["rank_zero_only"]
    )  # fmt: skip
    metric = _ResultMetric(meta, saved["state"] is not None).to(pl_module.device)
    metric.has_reset, metric._update_count = saved["has_reset"], saved["updates"]
    for name, value in (saved["state"] or {}).items():
        setattr(metric, name, value.to(pl_module.device))
    if saved["state"] is None:
        metric.value = dict(pl_module.named_modules())[meta.metric_attribute]
    return metric
