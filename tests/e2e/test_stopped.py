"""A training that is stopped: asked to, it seals its run as interrupted; killed, it is known for killed."""

import csv
import json
import os
import signal
import time

import pytest
import torch

from builder.runs.status import read, status
from builder.training import positions
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
    names = {
        "interrupted": signal.SIGINT, "terminated": signal.SIGTERM, "killed": signal.SIGKILL, "preempted": signal.SIGUSR1,
    }  # fmt: skip
    words = {"preempted": ("callbacks.resume.background=true", "callbacks.resume.every_n_steps=5")}
    folders = {name: tmp_path_factory.mktemp(name) for name in names}
    processes = {name: start(folder, "train", *LONG, *words.get(name, ())) for name, folder in folders.items()}
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


def test_before_its_time_is_up_a_run_saves_and_is_sealed(stopped):
    ran = stopped["preempted"]
    found = status(run_of(ran))
    assert (ran.code, ran.err, ran.out) == (138, "error: stopped by SIGUSR1\n", "")
    assert (found.state, found.reason) == ("interrupted", "stopped by SIGUSR1")
    newest = positions.in_folder(run_of(ran) / "checkpoints" / positions.FOLDER)[0]
    assert positions.is_intact(newest) and positions.read(newest).step == found.step
    assert torch.load(run_of(ran) / "checkpoints/last.ckpt", weights_only=True)["global_step"] == found.step


SLEEPS = """
import pathlib, time
import builder, torch

@builder.register.layer
class Sleeps(torch.nn.Module):
    def forward(self, x):
        if self.training and not x.is_meta:
            pathlib.Path("asleep").touch()
            time.sleep(100)
        return x
"""


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    (tmp_path / "sleeps.py").write_text(SLEEPS)
    words = ("data=wine", "trainer=cpu", "callbacks.progress=null", "+model.layers.sleeps=Sleeps")
    process = start(tmp_path, "train", *words, "--import", "sleeps.py")
    try:
        wait_for((tmp_path / "asleep").exists, process)
        for sent in (signal.SIGTERM, signal.SIGINT):
            process.send_signal(sent)
            time.sleep(0.3)  # two that come together may be handled as one
        began = time.monotonic()
        ran = finish(process, tmp_path)
        assert ran.code == 128 + signal.SIGINT and time.monotonic() - began < 20
    finally:
        process.kill()
    (found,) = runs(tmp_path)
    assert read(found).state == "running" and status(found).state == "killed"


def test_a_killed_run_is_not_taken_for_a_running_or_a_finished_one(stopped):
    ran = stopped["killed"]
    assert ran.code == -signal.SIGKILL and ran.out == ""
    assert read(run_of(ran)).state == "running"  # nobody could write more
    found = status(run_of(ran))
    assert (found.state, found.reason) == ("killed", "its process ended without sealing it")
    rows = [json.loads(line) for line in (run_of(ran) / "metrics.jsonl").read_text().splitlines()]
    assert found.epoch == sum("train/loss" in row for row in rows) >= 2
    assert found.step == max(row["step"] for row in rows) + 1 >= 40


def test_a_killed_run_has_no_half_written_checkpoint(stopped):
    kept = sorted((run_of(stopped["killed"]) / "checkpoints").glob("*.ckpt"))
    assert [path.name for path in kept] == ["best.ckpt", "last.ckpt"]
    for path in kept:
        assert torch.load(path, weights_only=True)["global_step"] >= 20
