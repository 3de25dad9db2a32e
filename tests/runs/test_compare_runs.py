import json
import math
import re

import pytest
import yaml

from builder.config.compose import compose
from builder.config.saved import saved_yaml
from builder.defaults import default_of
from builder.errors import RunError, UsageError, dotted
from builder.runs import find, remove
from builder.runs.compare import as_json, compare, labels
from builder.runs.curves import Curve, curves
from builder.runs.differences import differences
from builder.runs.lock import Lock
from builder.runs.process import this_process
from builder.runs.record import ABSENT
from made_runs import make_run

TABLE = "epoch,step,train/loss,val/loss,lr\n0,9,1.5,,0.1\n0,19,1.25,0.75,0.1\n1,39,nan,0.5,0.1\n2,59,0.75,0.625,"


def config(*overrides):
    """A config as it is saved."""
    return yaml.safe_load(saved_yaml(compose(["model=mlp", *overrides])))


def found(*overrides, **options):
    return {dotted(one.path): one.values for one in differences([config(), config(*overrides)], **options)}


def test_only_what_differs_is_told_in_the_order_of_the_schema():
    assert found("optimizer.lr=0.5", "seed=3", "model.args.hidden=7") == {
        "seed": (0, 3), "model.args.hidden": (128, 7), "optimizer.lr": (0.001, 0.5),
    }  # fmt: skip
    assert found("name=other", "output_dir=elsewhere") == {}


@pytest.mark.parametrize(
    "override",
    [
        "data.eval_batch_size=512",
        "+trainer.num_nodes=1",  # the schema's default
        "+trainer.min_epochs=null",
        "model.layers.flatten={type: Flatten}",  # a short form written out
        "+task.inputs=null",
        "optimizer.lr=1e-3",
        "callbacks.best={mode: max, monitor: val/accuracy, filename: best, type: ModelCheckpoint}",  # another order
        "callbacks.best.monitor=val/accuracy",  # what was referred to
    ],
)  # fmt: skip
def test_what_means_the_same_is_no_difference(override):
    assert found(override) == {}


@pytest.mark.parametrize(
    "override",
    [
        "+optimizer.amsgrad=false",
        "~optimizer.eps",
        "model.layers.flatten={type: Flatten, start_dim: 1}",
        "+callbacks.best.save_top_k=1",
        "+task.metrics.accuracy.top_k=1",
    ],
)
def test_the_default_of_a_signature_is_no_difference_where_signatures_are_looked_up(override):
    assert len(found(override)) == 1
    assert found(override, default_of=default_of) == {}


def test_a_looked_up_default_is_shown_beside_what_differs_from_it():
    assert found("+optimizer.amsgrad=true", default_of=default_of) == {"optimizer.amsgrad": (False, True)}
    assert found("+callbacks.extra={type: Timing}", default_of=default_of) == {
        "callbacks.extra": (ABSENT, {"type": "Timing"})
    }


def test_the_order_of_layers_is_a_difference_and_true_is_not_one():
    first, second = config(), config()
    second["model"]["layers"] = dict(reversed(second["model"]["layers"].items()))
    assert [dotted(one.path) for one in differences([first, second])] == ["model.layers.(order)"]
    first["trainer"]["log_every_n_steps"], second = 1, config("trainer.log_every_n_steps=1")
    second["trainer"]["log_every_n_steps"] = True
    assert [one.values for one in differences([first, second])] == [(1, True)]


def test_a_secret_stays_a_reference(monkeypatch):
    monkeypatch.setenv("T_RATE", "0.25")
    assert found("optimizer.lr=${oc.env:T_RATE}")["optimizer.lr"][1] == "${oc.env:T_RATE}"


def test_curves_are_read_as_far_as_they_are_written(tmp_path):
    read = curves(make_run(tmp_path, csv=TABLE + "0.0"))
    assert read["val/loss"] == Curve("val/loss", (19, 39, 59), (0, 1, 2), (0.75, 0.5, 0.625))
    assert math.isnan(read["train/loss"].values[2])
    assert list(read) == ["train/loss", "val/loss", "lr"]
    assert curves(make_run(tmp_path, "none")) == {}
    assert curves(make_run(tmp_path, "empty", csv="")) == {}


def test_a_thinned_curve_keeps_its_ends_and_its_spikes():
    values = [0.0] * 10_000
    values[4321], values[9000], values[17] = 5.0, -5.0, math.nan
    curve = Curve("a", tuple(range(10_000)), (0,) * 10_000, tuple(values)).thinned(100)
    assert len(curve.values) <= 102
    assert {0, 4321, 9000, 9999} <= set(curve.steps)
    assert list(curve.steps) == sorted(set(curve.steps))
    assert all(values[step] == value for step, value in zip(curve.steps, curve.values, strict=True))
    short = Curve("a", (1, 2), (0, 0), (3.0, 4.0))
    assert short.thinned() is short


def test_a_comparison_tells_all_that_differs(tmp_path):
    first = make_run(tmp_path, csv=TABLE)
    second = make_run(tmp_path, run="2026-01-02_03-04-06_bb000000", lr=0.5, loss=0.25)
    for run, version in ((first, "1"), (second, "2")):
        environment = {"git": {"commit": "abc"}, "packages": {"torch": version, "numpy": "3"}, "torch": {"threads": 1}}
        (run / "environment.json").write_text(json.dumps(environment))
    (second / "git.patch").write_text("+x")
    told = as_json(compare([first, second]))
    assert told["config"] == {"optimizer.lr": [0.1, 0.5]}
    assert told["environment"].keys() == {"uncommitted changes", "torch version"}
    assert told["environment"]["torch version"] == ["1", "2"]
    assert told["metrics"]["val/loss"] == [0.5, 0.25]
    assert told["best"] == [{"metric": "val/loss", "value": 0.5, "epoch": 2}, None]
    assert [run["label"] for run in told["runs"]] == ["ab12cd34", "bb000000"]


def test_labels_are_as_short_as_tells_apart(tmp_path):
    runs = [tmp_path / "a" / "2026_x", tmp_path / "b" / "2026_x", tmp_path / "b" / "2027_x"]
    assert labels(runs[:2]) == ["a/2026_x", "b/2026_x"]
    assert labels(runs[::2]) == ["2026_x", "2027_x"]


def test_only_the_run_is_deleted(tmp_path):
    keep, run = make_run(tmp_path), make_run(tmp_path, run="2026-01-02_03-04-06_bb000000")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "a.ckpt").write_bytes(b"x" * 1000)
    (run / "elsewhere").symlink_to(keep)
    assert remove.removable(run) > 1000
    remove.remove(run)
    assert find.runs_in(tmp_path) == [keep]
    assert [path.name for path in keep.parent.iterdir()] == [keep.name]
    assert (keep / "config.yaml").is_file()


def test_deleting_is_refused_where_it_would_hurt(tmp_path):
    run, process = make_run(tmp_path), this_process()
    link = tmp_path / "exp" / "link"
    link.symlink_to(run)
    with pytest.raises(UsageError, match="is a link to"):
        remove.remove(link)
    other = tmp_path / "exp" / "other"
    other.mkdir()
    with pytest.raises(UsageError, match=r"is not a run folder: it holds no status.json and no config.yaml"):
        remove.remove(other)
    (other / "status.json").write_text("{}")
    with pytest.raises(UsageError, match=r"it holds no config.yaml"):
        remove.remove(other)
    alive = {"state": "running", "pid": process.pid, "host": process.host, "boot": process.boot, "ticks": process.ticks}
    running = make_run(tmp_path, "busy", **alive)
    with pytest.raises(RunError, match="is running, as process"):
        remove.remove(running)
    far = make_run(tmp_path, "far", state="running")
    with pytest.raises(RunError, match=re.escape("is running, as process 1 on elsewhere")):
        remove.remove(far)
    lock = Lock(run)
    try:
        with pytest.raises(RunError, match="is in use"):
            remove.remove(run)
    finally:
        lock.release()
    assert all(path.is_dir() for path in (run, other, running, far))


def test_a_run_whose_process_is_gone_can_be_deleted(tmp_path):
    process = this_process()
    killed = make_run(tmp_path, state="running", pid=process.pid, host=process.host, boot="another", ticks=1)
    remove.remove(killed)
    assert find.runs_in(tmp_path) == []
