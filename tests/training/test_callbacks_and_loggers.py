import csv
import importlib.util
import socket
import sys

import pytest
import pytorch_lightning as pl
import torch

from builder.config.origin import Origins
from builder.errors import ConfigError, MissingExtra, Origin
from builder.registry import callbacks, loggers
from builder.runs.status import status
from builder.training.callbacks import EXCLUDED, OURS, make_callback, read_callbacks
from builder.training.csv_logger import CSVLogger
from builder.training.loggers import EXCLUDED as EXCLUDED_LOGGERS
from builder.training.loggers import TensorBoardLogger, make_logger, read_loggers
from command_line import SMALL, run

METRICS = ["train/loss", "val/loss", "val/accuracy"]
ORIGINS = Origins({("callbacks",): Origin("callbacks.yaml", 1), ("logger",): Origin("logger.yaml", 1)})

ARGUMENTS = {
    "GradientAccumulationScheduler": {"scheduling": {0: 1, 4: 2}},
    "ModelPruning": {"pruning_fn": "l1_unstructured"},
    "StochasticWeightAveraging": {"swa_lrs": 0.01},
    "ClipGradients": {"norm": 1.0},
    "Pictures": {"rows": ["x"]},
}


def made(section, tmp_path, monitor="val/accuracy", mode="max"):
    components, faults = read_callbacks(section, METRICS, ORIGINS)
    assert faults == []
    return [make_callback(component, tmp_path, monitor, mode) for component in components]


def test_every_public_callback_of_lightning_is_registered_or_excluded_with_a_reason():
    assert set(pl.callbacks.__all__) <= set(callbacks) | set(EXCLUDED)
    assert set(pl.loggers.__all__) <= set(loggers) | set(EXCLUDED_LOGGERS)


@pytest.mark.parametrize("name", sorted(set(callbacks) & {*pl.callbacks.__all__, *(ours.__name__ for ours in OURS)}))
def test_every_registered_callback_can_be_made_from_a_config(name, tmp_path):
    (callback,) = made({"it": {"type": name, **ARGUMENTS.get(name, {})}}, tmp_path)
    assert type(callback) is ({ours.__name__: ours for ours in OURS}.get(name) or getattr(pl.callbacks, name))


def test_null_leaves_a_callback_out_and_a_name_alone_is_a_type(tmp_path):
    (callback,) = made({"gone": None, "lr": "LearningRateMonitor"}, tmp_path)
    assert isinstance(callback, pl.callbacks.LearningRateMonitor)
    assert read_callbacks(None, METRICS, ORIGINS) == ([], [])


def test_checkpoints_go_into_a_folder_of_the_run_folder(tmp_path):
    ours, theirs = made(
        {"a": {"type": "ModelCheckpoint"}, "b": {"type": "ModelCheckpoint", "dirpath": "each/epoch"}}, tmp_path / "run"
    )
    assert ours.dirpath == str(tmp_path / "run" / "checkpoints")
    assert theirs.dirpath == str(tmp_path / "run" / "each" / "epoch")


@pytest.mark.parametrize("text", ["/tmp", "../x", "a/../../b", "~/x", "C:\\x", "..\\x", "file:/tmp", "a\0b"])
@pytest.mark.parametrize("key", ["dirpath", "filename"])
def test_callbacks_write_nowhere_else(key, text):
    _, (fault,) = read_callbacks({"a": {"type": "ModelCheckpoint", key: text}}, METRICS, ORIGINS)
    assert str(fault) == (
        f"callbacks.yaml:1: callbacks.a.{key}: leads out of the run folder\n  found:    {text!r}\n"
        "  expected: a path in the run folder, or a name"
    )


def test_loggers_write_nowhere_else(tmp_path):
    section = {"a": {"type": "CSVLogger", "save_dir": "/tmp"}, "b": {"type": "TensorBoardLogger", "save_dir": "events"}}
    (_, events), (fault,) = read_loggers(section, ORIGINS)
    assert (fault.path, fault.found) == (("logger", "a", "save_dir"), "/tmp")
    assert make_logger(events, tmp_path).save_dir == str(tmp_path / "events")


@pytest.mark.parametrize("prefix", ["", "p"])
def test_tensorboard_gets_one_event_for_what_is_logged_at_once_with_the_values_of_lightnings_logger(prefix, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    values = {
        "a/x": 0.1,
        "n": 3,
        "b": True,
        "nan": float("nan"),
        "inf": float("-inf"),
        "t": torch.tensor(2.5),
        "a b!": 1e300,
    }
    theirs = pl.loggers.TensorBoardLogger(
        tmp_path / "theirs", name="", version="", prefix=prefix, default_hp_metric=False
    )
    read, wall = [], []
    for logger in (TensorBoardLogger(tmp_path / "ours", prefix=prefix), theirs):
        logger.log_metrics(values, 7)
        logger.log_metrics({"n": 4})
        logger.experiment.close()
        logger.log_metrics({"n": 5, "later": 1.0}, 9)
        logger.experiment.close()
        events = EventAccumulator(logger.log_dir).Reload()
        found = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
        read.append({tag: [(one.step, str(one.value)) for one in ones] for tag, ones in found.items()})
        wall.append(
            {found[f"{prefix}-{tag}" if prefix else tag][0].wall_time for tag in ("a/x", "n", "b", "nan", "inf")}
        )
        with pytest.raises(ValueError, match="you tried to log text"):
            logger.log_metrics({"n": "text"}, 10)
    assert read[0] == read[1] and len(read[0]) == len(values) + 1
    assert (len(wall[0]), len(wall[1])) == (1, 5)


def test_early_stopping_watches_what_the_task_watches_unless_the_config_says_another(tmp_path):
    ours, theirs = made({"a": "EarlyStopping", "b": {"type": "EarlyStopping", "monitor": "val/loss"}}, tmp_path)
    assert (ours.monitor, ours.mode, theirs.monitor, theirs.mode) == ("val/accuracy", "max", "val/loss", "min")


def test_a_monitor_that_will_not_exist_is_refused():
    _, faults = read_callbacks({"best": {"type": "ModelCheckpoint", "monitor": "val/los"}}, METRICS, ORIGINS)
    assert [str(fault) for fault in faults] == [
        "callbacks.yaml:1: callbacks.best.monitor: there will be no metric 'val/los'\n"
        "  expected: train/loss | val/loss | val/accuracy\n"
        "  did you mean 'val/loss'?"
    ]


def test_what_a_callback_refuses_is_told_at_its_place(tmp_path):
    with pytest.raises(
        ConfigError, match=r"callbacks.yaml:1: callbacks.stop: callback 'EarlyStopping' can't be made: "
    ):
        made({"stop": {"type": "EarlyStopping", "mode": "up"}}, tmp_path)


def test_a_logger_whose_package_is_missing_is_told(tmp_path, monkeypatch):
    components, faults = read_loggers({"mlflow": "MLFlowLogger"}, ORIGINS)
    assert faults == []

    def missing(**kwargs):
        raise ModuleNotFoundError("No module named 'mlflow'")

    object.__setattr__(components[0], "target", missing)
    with pytest.raises(MissingExtra, match="logger 'MLFlowLogger' needs a package that isn't installed"):
        make_logger(components[0], tmp_path)


def rows(logger):
    with open(logger.path) as file:
        return list(csv.DictReader(file))


def test_one_step_gives_one_row(tmp_path):
    logger = CSVLogger(tmp_path / "run")
    logger.log_metrics({"val/loss": 0.5, "epoch": 0}, step=3)
    logger.log_metrics({"train/loss": 1 / 3, "epoch": 0}, step=3)
    logger.log_metrics({"lr": 0.1, "epoch": 1}, step=5)
    logger.log_metrics({"val/loss": 0.25, "epoch": 1}, step=7)
    logger.log_metrics({"train/loss": 0.2, "epoch": 1}, step=7)
    assert (tmp_path / "run" / "metrics.csv").read_text() == (
        "epoch,step,train/loss,val/loss,lr\n0,3,0.3333333333333333,0.5,\n1,5,,,0.1\n1,7,0.2,0.25,\n"
    )
    assert float(rows(logger)[0]["train/loss"]) == 1 / 3


def test_every_row_is_on_disk_at_once_and_a_longer_one_replaces_a_shorter(tmp_path):
    logger = CSVLogger(tmp_path)
    for step in range(3):
        logger.log_metrics({"a": step}, step=step)
        logger.log_metrics({"b": step + 0.123456789}, step=step)
        assert [(row["a"], row["b"]) for row in rows(logger)][-1] == (str(float(step)), str(step + 0.123456789))
    assert len(rows(logger)) == 3 and [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize(("name", "package"), [("MLFlowLogger", "mlflow"), ("WandbLogger", "wandb")])
def test_a_logger_whose_package_is_not_here_says_what_to_install(name, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    components, faults = read_loggers({"it": name}, ORIGINS)
    assert faults == []
    told = f"the logger {name} needs the package '{package}': pip install 'builder\\[{package}\\]'"
    with pytest.raises(MissingExtra, match=told):
        make_logger(components[0], tmp_path)


def test_a_logger_of_lightnings_whose_package_is_not_here_says_which_it_is(tmp_path):
    assert importlib.util.find_spec("comet_ml") is None
    components, _ = read_loggers({"it": "CometLogger"}, ORIGINS)
    with pytest.raises(MissingExtra, match="logger 'CometLogger' needs a package that isn't installed.*comet"):
        make_logger(components[0], tmp_path)


def test_mlflow_and_wandb_keep_what_was_trained_inside_of_the_run_folder(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse_networks)
    ran = run(tmp_path, "train", *SMALL, "logger=[default,mlflow,wandb]")
    assert ran.code == 0, ran.err
    assert [line[:7] for line in ran.err.splitlines()] == ["epoch 1", "epoch 2"]
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}
    client = mlflow.tracking.MlflowClient(f"sqlite:///{ran.run / 'mlflow.db'}")
    (kept,) = client.search_runs([client.get_experiment_by_name("builder").experiment_id])
    metrics = status(ran.run).metrics
    assert {name: kept.data.metrics[name] for name in metrics} == pytest.approx(metrics)
    assert (kept.info.status, kept.info.run_name) == ("FINISHED", ran.run.name)
    (folder,) = (ran.run / "wandb").glob("offline-run-*")
    assert list(folder.glob("run-*.wandb"))[0].stat().st_size > 0
    number = (ran.run / "wandb.id").read_text().strip()
    assert folder.name.endswith(f"-{number}")

    again = run(tmp_path, "resume", str(ran.run), "trainer.max_epochs=3")
    assert again.code == 0, again.err
    (resumed,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert resumed.info.run_id == (ran.run / "mlflow.id").read_text().strip()
    assert [metric.step for metric in client.get_metric_history(resumed.info.run_id, "val/loss")] == [19, 39, 59]
    folders = {path.name.rpartition("-")[2] for path in (ran.run / "wandb").glob("offline-run-*")}
    assert folders == {number}, "a run with the same id, which W&B continues"


CONNECT = socket.socket.connect


def refuse_networks(self, address):
    """W&B's own process is on this machine; nothing else is to be reached."""
    assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"), address
    return CONNECT(self, address)
