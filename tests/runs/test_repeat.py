"""What differs from when a run was made, and whether two runs' metrics are the same."""

import hashlib
import json

import pytest

from builder.runs.repeat import changes, metric_differences
from made_runs import make_run

THEN = {
    "git": {"commit": "aaa"}, "packages": {"torch": "2.12.0+cpu", "rich": "1"}, "python": {"version": "3.11.1"},
    "cpu": {"model": "X"}, "machine": "x86_64", "torch": {"devices": ["cpu"], "cuda": None, "threads": 4},
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    made = make_run(tmp_path)
    (made / "environment.json").write_text(json.dumps(THEN))
    (made / "data.json").write_text(json.dumps({"fingerprint": {"train": "d1", "val": "d2"}}))
    digest = hashlib.sha256((made / "config.yaml").read_bytes()).hexdigest()
    (made / "manifest.json").write_text(json.dumps({"files": {"config.yaml": {"sha256": digest}}}))
    return made


def now(**changed):
    return {**THEN, "patch": None, "data": {"train": "d1", "val": "d2"}, **changed}


def told(run, **changed):
    return [str(change) for change in changes(run, now(**changed))]


def test_nothing_differs_where_nothing_does(run):
    assert told(run) == []
    assert told(run, packages={"torch": "2.12.0+cpu", "rich": "99"}) == []  # a version that decides no bits
    assert told(run, torch={**THEN["torch"], "threads": 1}) == []  # they are set as they were


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"git": {"commit": "bbb"}}, "commit: aaa then, bbb now\n    to go back: git checkout aaa"),
        ({"git": None}, "commit: aaa then, none now"),
        ({"packages": {"torch": "2.13"}}, "torch: 2.12.0+cpu then, 2.13 now\n    to go back: pip install torch==2.12.0"),
        ({"python": {"version": "3.12.0"}}, "python: 3.11.1 then, 3.12.0 now"),
        ({"cpu": {"model": "Y"}}, "processor: X then, Y now"),
        ({"torch": {"devices": ["H100"], "cuda": None}}, "devices: cpu then, H100 now"),
        ({"data": {"train": "d1", "val": "d3"}}, "data, val: d2 then, d3 now"),
        ({"data": {"train": "d1"}}, "data, val: d2 then, none now"),
    ],
)  # fmt: skip
def test_each_difference_is_told(run, changed, said):
    assert told(run, **changed) == [said]


def test_uncommitted_changes_are_compared_byte_for_byte(run):
    (only_now,) = told(run, patch=b"+x")
    assert only_now.startswith("uncommitted changes: none then, 2 bytes of ")
    (run / "git.patch").write_bytes(b"+x")
    assert told(run, patch=b"+x") == []
    (other,) = told(run, patch=b"+y")
    assert f"git stash, then git apply {run / 'git.patch'}" in other


def test_a_patch_that_was_not_kept_cannot_be_known_to_be_the_same(run):
    (run / "environment.json").write_text(json.dumps({**THEN, "git": {"commit": "aaa", "patch_left_out": "too large"}}))
    assert told(run) == ["uncommitted changes: not kept, too large then, not known to be the same now"]


def test_a_config_that_was_edited_is_told(run):
    with open(run / "config.yaml", "a") as file:
        file.write("# a note\n")
    (said,) = told(run)
    assert said.startswith("config.yaml: ")
    assert said.endswith("edited since now")


TABLE = "epoch,step,train/loss,val/loss,time/step\n0,1,0.5,,0.1\n0,2,0.25,0.75,0.2\n"


def test_metrics_are_the_same_digit_by_digit_and_times_are_left_aside(tmp_path):
    first, second = make_run(tmp_path, csv=TABLE), make_run(tmp_path, "b", csv=TABLE.replace(",0.1\n", ",0.3\n"))
    assert metric_differences(first, second) == (["2 final metrics", "3 curves"], [])


def test_the_first_step_that_differs_is_told(tmp_path):
    first = make_run(tmp_path, csv=TABLE)
    second = make_run(
        tmp_path, "b", loss=0.50000001, csv=TABLE.replace("0.25", "0.2500000001").replace("epoch,step", "epoch,step")
    )
    same, different = metric_differences(first, second)
    assert same == ["2 curves"]
    assert different[0] == "final metric val/loss: 0.5 then, 0.50000001 now"
    assert different[-1] == "curve train/loss: from step 2 on, 0.25 then, 0.2500000001 now"
    assert metric_differences(first, make_run(tmp_path, "c", loss=None))[1][-1] == "curve val/loss: only then"
