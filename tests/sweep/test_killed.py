"""A sweep that is killed at any time is resumed to its exact total, with the trials that it would have had."""

import json
import os
import random
import signal
import sqlite3
import time

import pytest
from sweep_helpers import results

from builder.errors import Origin
from builder.runs.attempts import attempts
from builder.sweep.book import Book
from builder.sweep.space import Axis, Numbers
from builder.training.positions import FOLDER
from command_line import finish, run, start

WORDS = (
    "sweep", "sweep.name=s", "model=mlp", "trainer=cpu", "model.args.hidden=8", "trainer.max_epochs=3", "report=false",
    "logger.tensorboard=null", "trainer.limit_train_batches=4", "optimizer.lr=tag(log,interval(1e-4,1e-1))",
    "sweep.trials=6", "sweep.sampler=random",
)  # fmt: skip


def states(folder):
    """The states of the trials in the study, by number; none before there is one."""
    path = folder / "outputs/sweeps/s/study.db"
    if not path.exists():
        return {}
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60) as database:
        try:
            return dict(database.execute("select number, state from trials").fetchall())
        except sqlite3.OperationalError:
            return {}


def ended(folder):
    return sum(1 for state in states(folder).values() if state in ("COMPLETE", "PRUNED", "FAIL"))


def wait_for(condition, process, seconds=240):
    until = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """The results of the same sweep, run to its end in one go."""
    folder = tmp_path_factory.mktemp("untouched")
    assert run(folder, *WORDS).code == 0
    return results(folder)


def check(folder, expected):
    rows = results(folder)
    assert list(rows) == list(range(6)) and all(row["state"] == "complete" for row in rows.values())
    for number, row in rows.items():
        assert row["optimizer.lr"] == expected[number]["optimizer.lr"]
        assert row["val/accuracy"] == expected[number]["val/accuracy"]  # to the last digit
    assert len({row["run"] for row in rows.values()}) == 6


def test_a_killed_sweep_is_resumed_to_its_total_with_the_same_trials(tmp_path, untouched):
    process = start(tmp_path, *WORDS)
    wait_for(lambda: ended(tmp_path) >= 2, process)
    kill(process)
    done = {number for number, state in states(tmp_path).items() if state == "COMPLETE"}
    assert 2 <= len(done) < 6
    ran = run(tmp_path, "sweep", "resume", "outputs/sweeps/s")
    assert ran.code == 0 and ran.out.startswith("6 trials: 6 complete"), ran.err
    check(tmp_path, untouched)


def test_a_trial_that_was_killed_goes_on_from_its_checkpoint(tmp_path):
    process = start(tmp_path, *WORDS, "sweep.trials=1", "trainer.max_epochs=60")
    runs = tmp_path / "outputs/sweeps/s/digits_mlp"
    wait_for(lambda: len(list(runs.glob(f"*/checkpoints/{FOLDER}/*.ckpt"))) > 1, process)
    kill(process)
    ran = run(tmp_path, "sweep", "resume", "outputs/sweeps/s")
    assert ran.code == 0 and ran.out.startswith("1 trial: 1 complete"), ran.err
    (folder,) = runs.iterdir()
    first, second = attempts(folder)
    assert first["from"] is None and second["from"] is not None and 0 < second["epoch"] < 60
    assert results(tmp_path)[0]["run"].endswith(folder.name)


def test_a_sweep_that_was_killed_as_it_began_is_resumed(tmp_path):
    """Whatever was written by then: nothing but the folder, its words, a study without notes, some of the trials."""
    tiny = ("model.args.hidden=4", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "sweep.trials=3")
    folder = tmp_path / "outputs/sweeps/s"
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    assert run(tmp_path, *WORDS, *tiny).code == 0  # the name isn't taken by an empty folder
    before = results(tmp_path)
    (folder / "study.db").unlink()
    ran = run(tmp_path, "sweep", "resume", "outputs/sweeps/s")
    assert ran.code == 0 and ran.out.startswith("3 trials: 3 complete"), ran.err
    assert [row["optimizer.lr"] for row in results(tmp_path).values()] == [
        row["optimizer.lr"] for row in before.values()
    ]
    (folder / "study.db").unlink()
    url = f"sqlite:///{folder}/study.db"
    axis = Axis("optimizer.lr", Numbers(1e-4, 1e-1, log=True), "", Origin())
    Book.create(url, "s", ["max"], {}).fill([axis], 1, grid=False)
    ran = run(tmp_path, "sweep", "resume", "outputs/sweeps/s")
    assert ran.code == 0 and ran.out.startswith("3 trials: 3 complete"), ran.err
    assert json.loads((folder / "sweep.json").read_text())["words"] == Book(url, "s").notes["words"]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_random_times_it_loses_and_doubles_nothing(seed, tmp_path, untouched):
    generator = random.Random(seed)
    words = (*WORDS, "sweep.executor=local", "sweep.executor.workers=2") if seed % 2 else WORDS
    process = start(tmp_path, *words)
    for _ in range(3):
        goal = ended(tmp_path) + generator.choice((0, 1, 2))
        wait_for(lambda goal=goal: states(tmp_path) and ended(tmp_path) >= goal, process)
        time.sleep(generator.random())
        if process.poll() is not None:
            break
        kill(process)
        process = start(tmp_path, "sweep", "resume", "outputs/sweeps/s")
    finish(process, tmp_path, timeout=600)
    assert run(tmp_path, "sweep", "resume", "outputs/sweeps/s").code == 0
    check(tmp_path, untouched)


def test_two_resumes_at_once_are_refused(tmp_path):
    process = start(tmp_path, *WORDS, "trainer.max_epochs=60")
    try:
        wait_for(lambda: states(tmp_path), process)
        ran = finish(start(tmp_path, "sweep", "resume", "outputs/sweeps/s"), tmp_path)
        assert ran.code == 1 and "is in use by another process" in ran.err, ran.err
    finally:
        kill(process)


@pytest.mark.parametrize("executor", [pytest.param("serial", marks=pytest.mark.slow), "local"])
def test_ctrl_c_seals_the_runs_and_leaves_a_sweep_that_goes_on(executor, tmp_path):
    long = ("trainer.max_epochs=60",)
    workers = ("sweep.executor.workers=2",) if executor == "local" else ()
    process = start(tmp_path, *WORDS, "sweep.trials=2", f"sweep.executor={executor}", *workers, *long)
    wait_for(lambda: len(list(tmp_path.glob("outputs/sweeps/s/*/*/metrics.csv"))) == (1 + len(workers)), process)
    os.killpg(process.pid, signal.SIGINT)
    ran = finish(process, tmp_path)
    assert ran.code == 130, ran.err
    ended = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/sweeps/s/*/*/status.json")]
    assert [(one["state"], one["reason"]) for one in ended] == [("interrupted", ended[0]["reason"])] * (
        1 + len(workers)
    )
    ran = run(tmp_path, "sweep", "resume", "outputs/sweeps/s", "--json")
    assert ran.code == 0 and json.loads(ran.out)["counts"] == {"complete": 2}
