"""A training that is stopped: asked to, it seals its run as interrupted; killed, it is known for killed."""

import csv
import json
import os
import signal
import time

import pytest
import torch

from builder.runs.status import read, status
from command_line import SMALL, finish, start

LONG = (*SMALL[:-1], "trainer.max_epochs=100000", "callbacks.progress=null")


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def runs(folder):
    return [path.parent for path in folder.rglob("status.json")]


def epochs(folder):
    """Rows of metrics.csv with a validation, over all runs in a folder."""
    tables = [run / "metrics.csv" for run in runs(folder) if (run / "metrics.csv").exists()]
    return sum(bool(row.get("val/loss")) for table in tables for row in csv.DictReader(table.read_text().splitlines()))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Trainings side by side, each of which gets its signal once it is in its third epoch or later."""
    names = {"interrupted": signal.SIGINT, "terminated": signal.SIGTERM, "killed": signal.SIGKILL}
    folders = {name: tmp_path_factory.mktemp(name) for name in names}
    processes = {name: start(folder, "train", *LONG) for name, folder in folders.items()}
    try:
        for name, process in processes.items():
            wait_for(lambda name=name: epochs(folders[name]) >= 3, process)
            os.killpg(process.pid, names[name])
        return {name: finish(process, folders[name]) for name, process in processes.items()}
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()


def run_of(ran):
    (found,) = runs(ran.folder)
    return found


def test_after_ctrl_c_the_run_is_sealed_as_interrupted(stopped):
    ran = stopped["interrupted"]
    found = status(run_of(ran))
    assert (ran.code, ran.err) == (130, "error: interrupted\n")
    assert (found.state, found.reason) == ("interrupted", "Ctrl-C")
    assert found.epoch >= 2 and found.step >= 40
    summary, folder = ran.out.splitlines()
    assert summary.startswith(f"interrupted after {found.epoch} epochs, {found.step} steps, ")
    assert ran.folder / folder == run_of(ran)


def test_after_ctrl_c_checkpoints_and_table_are_whole(stopped):
    found = run_of(stopped["interrupted"])
    saved = torch.load(found / "checkpoints/last.ckpt", weights_only=True)
    table = list(csv.DictReader((found / "metrics.csv").read_text().splitlines()))
    assert saved["global_step"] <= status(found).step
    assert int(table[-1]["step"]) <= status(found).step and "" not in {row["epoch"] for row in table}
    assert "checkpoints/last.ckpt" in json.loads((found / "manifest.json").read_text())["files"]


def test_after_sigterm_the_run_is_sealed_too(stopped):
    ran = stopped["terminated"]
    found = status(run_of(ran))
    assert (ran.code, ran.err, ran.out) == (143, "error: terminated\n", "")
    assert (found.state, found.reason) == ("interrupted", "terminated")
    assert found.epoch >= 2 and found.step >= 40


def test_a_killed_run_is_not_taken_for_a_running_or_a_finished_one(stopped):
    ran = stopped["killed"]
    assert ran.code == -signal.SIGKILL and ran.out == ""
    assert read(run_of(ran)).state == "running"  # nobody could write more
    found = status(run_of(ran))
    assert (found.state, found.reason) == ("killed", "its process ended without sealing it")


def test_a_killed_run_has_no_half_written_checkpoint(stopped):
    kept = sorted((run_of(stopped["killed"]) / "checkpoints").glob("*.ckpt"))
    assert [path.name for path in kept] == ["best.ckpt", "last.ckpt"]
    for path in kept:
        assert torch.load(path, weights_only=True)["global_step"] >= 20
