from pathlib import Path

import pytest

from builder.config.compose import compose, shipped_configs
from builder.config.kinds import Names
from builder.config.schema import TOP
from builder.config.validate import validate
from builder.config.yaml_file import read_yaml

FILES = sorted(path.relative_to(shipped_configs()).as_posix() for path in shipped_configs().rglob("*.yaml"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_every_shipped_file_can_be_read(name):
    document = read_yaml(shipped_configs() / name, f"configs/{name}")
    assert isinstance(document.value, dict)


@pytest.mark.parametrize("trainer", ["auto", "cpu", "gpu"])
def test_every_trainer_is_valid(trainer):
    composed = compose([f"trainer={trainer}"])
    validate(composed)
    section = composed.values["trainer"]
    assert section["accelerator"] == trainer
    assert section["max_epochs"] == 20 and section["deterministic"] is True


def test_the_default_config_is_valid_anywhere():
    composed = compose()
    validate(composed)
    assert (composed.choices["model"], composed.choices["data"]) == ("cnn", "digits")
    assert composed.values["name"] == "digits_cnn"
    assert composed.values["scheduler"] is None
    assert composed.values["callbacks"]["best"]["monitor"] == composed.values["task"]["monitor"]
    assert str(composed.origins.of(("seed",))).startswith("configs/train.yaml:")


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (shipped_configs() / "experiment").glob("*.yaml")))
def test_every_experiment_is_valid(experiment):
    composed = compose([f"experiment={experiment}"])
    validate(composed)
    assert composed.values["name"] == experiment


@pytest.mark.parametrize("scheduler", sorted(path.stem for path in (shipped_configs() / "scheduler").glob("*.yaml")))
def test_every_scheduler_is_valid(scheduler):
    composed = compose([f"scheduler={scheduler}"])
    validate(composed)
    assert (composed.values["scheduler"] is None) == (scheduler == "none")


def test_every_folder_of_the_shipped_configs_is_a_section():
    sections = {name for name, node in TOP.fields.items() if isinstance(node, Names) or hasattr(node, "fields")}
    folders = {path.name for path in Path(shipped_configs()).iterdir() if path.is_dir()}
    assert folders - sections <= {"block", "experiment", "init"}
