"""`builder train` prints a run folder, and every file in it is what it says."""

import csv
import hashlib
import json
import re
import warnings
from datetime import datetime

import pytest
import torch
import yaml

import builder
from builder.config.compose import compose
from builder.data.load import load
from builder.runs.status import status
from command_line import run

WORDS = ("model.args.channels=8", "model.args.depth=1", "trainer=cpu", "trainer.max_epochs=2", "optimizer.lr=0.01")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    ran = run(tmp_path_factory.mktemp("e2e"), "train", *WORDS)
    assert ran.code == 0, ran.err
    return ran


@pytest.fixture(scope="module")
def values(trained):
    return compose(WORDS).values


@pytest.fixture(scope="module")
def data(values):
    composed = compose(WORDS)
    return load(composed.values["data"], composed.values["seed"], composed.origins)


def rows(run_dir):
    with open(run_dir / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def column(run_dir, name):
    return [float(row[name]) for row in rows(run_dir) if row[name]]


def model_of(run_dir, checkpoint):
    """The model that model.yaml describes, with a checkpoint's weights."""
    model = builder.build(run_dir / "model.yaml")
    saved = torch.load(run_dir / "checkpoints" / checkpoint, weights_only=True)
    weights = {name.removeprefix("model."): value for name, value in saved["state_dict"].items()}
    assert all(name.startswith("model.") for name in saved["state_dict"])
    model.load_state_dict(weights, strict=True)
    return model.eval(), saved


@torch.no_grad()
def by_hand(model, split):
    """Loss and accuracy, without any of our training code."""
    output = model(split["x"])
    loss = torch.nn.functional.cross_entropy(output, split["target"])
    return float(loss), float((output.argmax(1) == split["target"]).float().mean())


def test_the_last_line_is_the_run_folder_and_the_one_before_it_the_result(trained):
    *_, result, folder = trained.out.splitlines()
    assert re.fullmatch(r"outputs/digits_cnn/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_[0-9a-f]{8}", folder)
    metrics = json.loads((trained.run / "status.json").read_text())["metrics"]
    assert re.fullmatch(
        f"finished after 2 epochs, 40 steps, [0-9.]+ s: "
        f"test/loss {metrics['test/loss']:.4g}, test/accuracy {metrics['test/accuracy']:.4g}",
        result,
    )


def test_the_folder_holds_these_files_and_no_others(trained):
    files = {path.relative_to(trained.run).as_posix() for path in trained.run.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert files - events >= {
        "config.yaml", "overrides.txt", "model.yaml", "environment.json", "status.json", "manifest.json", "metrics.csv",
        "checkpoints/best.ckpt", "checkpoints/last.ckpt",
    }  # fmt: skip
    assert not [name for name in files if ".tmp" in name or name.endswith("~")]


def test_nothing_is_written_beside_the_run_folder(trained):
    assert [path.name for path in trained.folder.iterdir()] == ["outputs"]
    assert list((trained.folder / "outputs").rglob("status.json")) == [trained.run / "status.json"]


def test_the_status_says_that_it_finished_and_how(trained):
    found = status(trained.run)
    assert (found.state, found.reason, found.epoch, found.step) == ("finished", None, 2, 40)
    assert list(found.command) == ["builder", "train", *WORDS]
    assert datetime.fromisoformat(found.started) <= datetime.fromisoformat(found.ended)
    assert {*found.metrics} == {
        f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "accuracy")
    }
    assert all(isinstance(value, float) and abs(value) < float("inf") for value in found.metrics.values())


def test_the_overrides_are_those_given(trained):
    assert (trained.run / "overrides.txt").read_text() == "".join(f"{word}\n" for word in WORDS)


def test_the_config_read_back_composes_to_the_same_values(trained, values):
    again = compose(config_name="config", config_dir=trained.run)
    assert again.values == values
    shown = run(trained.folder, "show", "config", "-cd", str(trained.run), "-cn", "config", "--json")
    assert json.loads(shown.out) == values


def test_the_environment_says_what_the_run_ran_on_and_none_of_its_variables(trained):
    found = json.loads((trained.run / "environment.json").read_text())
    assert found["torch"]["version"] == torch.__version__
    assert found["python"]["version"].startswith("3.")
    assert found["cpu"]["count"] >= 1 and found["command"] == ["builder", "train", *WORDS]
    assert {"packages", "git", "platform", "host"} <= found.keys() and "PATH" not in json.dumps(found)


def test_the_manifest_has_the_hashes_of_config_and_checkpoints(trained):
    files = json.loads((trained.run / "manifest.json").read_text())["files"]
    assert {"config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= files.keys()
    for name, entry in files.items():
        assert entry["sha256"] == hashlib.sha256((trained.run / name).read_bytes()).hexdigest(), name


def test_the_metrics_are_a_row_for_each_step_with_the_last_ones_in_the_status(trained):
    metrics = status(trained.run).metrics
    assert [int(row["step"]) for row in rows(trained.run)] == [9, 19, 29, 39, 40]
    assert len(column(trained.run, "train/loss")) == len(column(trained.run, "val/accuracy")) == 2
    for name, value in metrics.items():
        assert column(trained.run, name)[-1] == value, name
    assert column(trained.run, "train/loss")[1] < column(trained.run, "train/loss")[0]


def test_tensorboard_has_the_values_of_the_table(trained):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(trained.run)).Reload()
    for name in ("train/loss", "val/loss", "val/accuracy", "test/accuracy", "train/loss_step"):
        written = [event.value for event in events.Scalars(name)]
        assert written == pytest.approx(column(trained.run, name)), name


def test_model_yaml_builds_the_model_that_was_trained(trained, values):
    model = builder.build(trained.run / "model.yaml")
    theirs = builder.build(values["model"], data={"num_classes": 10}, inputs={"x": (2, 1, 8, 8)})
    shapes, expected = ({name: value.shape for name, value in one.state_dict().items()} for one in (model, theirs))
    assert shapes == expected and type(model).__name__ == "Cnn"
    assert yaml.safe_load((trained.run / "model.yaml").read_text())["args"] == {
        "channels": 8,
        "depth": 1,
        "classes": 10,
    }


def test_the_best_checkpoint_gives_the_reported_test_metrics_in_the_built_model(trained, data):
    model, _ = model_of(trained.run, "best.ckpt")
    loss, accuracy = by_hand(model, data.splits["test"])
    metrics = status(trained.run).metrics
    assert accuracy == pytest.approx(metrics["test/accuracy"]) and loss == pytest.approx(metrics["test/loss"], rel=1e-5)


def test_best_is_best_on_the_validation_set_and_last_is_the_last(trained, data):
    best, kept = model_of(trained.run, "best.ckpt")
    last, saved = model_of(trained.run, "last.ckpt")
    accuracies = column(trained.run, "val/accuracy")
    assert by_hand(best, data.splits["val"])[1] == pytest.approx(max(accuracies))
    assert by_hand(last, data.splits["val"])[1] == pytest.approx(accuracies[-1])
    assert saved["global_step"] == 40 and kept["epoch"] == accuracies.index(max(accuracies))


FACTS = """\
description: "= is how a formula begins"
args: {hidden: 8}
inputs: [x]
blocks: {Head: {args: {width: required}, layers: {out: {type: Linear, out_features: =width}}}}
layers:
  flatten: Flatten
  steps: {type: Sequential, repeat: 2, layer: {type: Linear, out_features: "=(i + 1) * hidden + data.num_classes"}}
  head: {type: Head, width: =data.num_classes}
forward: return head(steps(flatten(x)))
"""


def test_model_yaml_stands_alone_whatever_facts_blocks_and_formulas_it_was_made_of(tmp_path):
    (tmp_path / "configs/model").mkdir(parents=True)
    (tmp_path / "configs/model/mine.yaml").write_text(FACTS)
    ran = run(tmp_path, "train", "--quiet", "model=mine", "trainer=cpu", "trainer.max_epochs=1")
    assert (ran.code, ran.err) == (0, "")
    model, _ = model_of(ran.run, "last.ckpt")
    assert [layer.out_features for layer in model.steps] == [18, 26]
    assert "data." not in (ran.run / "model.yaml").read_text()
