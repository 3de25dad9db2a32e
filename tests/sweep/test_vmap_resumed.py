"""Trials that train together go on where they were stopped, with the bits that they would have had."""

import json
import os
import random
import signal
import time
from dataclasses import asdict, replace
from datetime import date

import pytest
import torch
from sweep_helpers import results, sweep

from builder.runs.attempts import attempts
from builder.runs.lock import Lock
from builder.runs.process import this_process
from builder.runs.status import status
from builder.sweep import vmap
from builder.sweep.book import Book
from command_line import finish, run, start

WORDS = (
    "model=mlp", "trainer=cpu", "model.args.hidden=8", "model.args.dropout=0.1", "trainer.max_epochs=5", "report=false",
    "trainer.limit_train_batches=4",
)  # fmt: skip
RATES = "optimizer.lr=1e-2,3e-3,1e-3"
SAVING = "sweep.executor={type: vmap, save_seconds: 0}"


def stopped(folder, epoch, monkeypatch, *words, rates=RATES, saving=SAVING):
    """A sweep that is stopped by Ctrl-C once the checkpoint of an epoch is written."""
    written = vmap._Saves.epoch

    def then_stop(self, fit, done):
        written(self, fit, done)
        if done == epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(vmap._Saves, "epoch", then_stop)
        assert sweep(folder, *words, rates, saving, tiny=WORDS).code == 130
    abandon(folder)


def abandon(folder):
    """Let the trials be those of a process that has ended."""
    study = study_of(folder)
    for row in study.rows():
        study.note(row.number, "owner", json.dumps(asdict(replace(this_process(), ticks=0))))


def study_of(folder):
    return Book(f"sqlite:///{folder}/outputs/sweeps/s/study.db", "s")


def resumed(folder, *words, at):
    """Resume it; it has to say from which epoch, if from any."""
    ran = run(folder, "sweep", "resume", "outputs/sweeps/s", *words)
    assert ran.code == 0, ran.err
    notes = [line for line in ran.err.splitlines() if "train together" in line]
    assert [line.partition(", from epoch ")[2] for line in notes] == at
    return results(folder)


def left(folder, row):
    """What each training of a trial left behind: its metrics, and its last and best weights."""
    found = []
    for path in (folder / each for each in row["run"].split()):
        files = {name: path / f"checkpoints/{name}.ckpt" for name in ("last", "best")}
        kept = {name: torch.load(file, weights_only=True)["state_dict"] for name, file in files.items()}
        found.append(((path / "metrics.csv").read_text(), kept))
    return found


def same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for (table, kept), (other, expected) in zip(ours, theirs, strict=True):
        assert table == other
        for name, weights in kept.items():
            assert weights.keys() == expected[name].keys()
            assert all(torch.equal(value, expected[name][key]) for key, value in weights.items())


PLATEAU = "scheduler={type: ReduceLROnPlateau, patience: 0, threshold: 0.5, monitor: val/loss}"


@pytest.mark.parametrize(
    ("words", "rates"),
    [
        (("scheduler=cosine",), RATES),
        (("optimizer=sgd", "optimizer.momentum=0.9", PLATEAU), RATES),
        (("optimizer.type=RMSprop", "~optimizer.betas", "trainer.gradient_clip_val=0.5"), RATES),
        (("sweep.seeds=2",), "optimizer.lr=1e-2,1e-3"),
    ],
    ids=["adamw-cosine", "sgd-plateau", "one-by-one", "seeds"],
)
def test_trials_that_were_stopped_go_on_in_their_folders_with_the_same_bits(words, rates, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    assert sweep(whole, *words, rates, SAVING, tiny=WORDS).code == 0
    stopped(cut, 1, monkeypatch, *words, rates=rates)
    rows, expected = resumed(cut, at=["3"]), results(whole)
    ended = "outputs/sweeps/s/*/*/status.json"
    assert len(list(cut.glob(ended))) == len(list(whole.glob(ended)))
    assert rows.keys() == expected.keys()
    for number, row in rows.items():
        same(left(cut, row), left(whole, expected[number]))
        for each in row["run"].split():
            first, second = attempts(cut / each)
            assert (first["from"], second["epoch"]) == (None, 2) and second["from"].endswith(".together.ckpt")
    assert not list(cut.rglob(".together.ckpt")) and not list(whole.rglob(".together.ckpt"))


def test_events_are_those_of_a_run_that_was_never_stopped(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stopped(tmp_path, 2, monkeypatch)
    for row in resumed(tmp_path, at=["4"]).values():
        events = EventAccumulator(str(tmp_path / row["run"])).Reload()
        assert [one.value for one in events.Scalars("epoch")] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_some_of_those_that_trained_together_go_on_without_the_others(tmp_path, monkeypatch):
    """As where another process has taken one of the trials that were left behind."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    calm = "model.args.dropout=0.0"  # what dropout draws depends on how many there are
    assert sweep(whole, RATES, SAVING, calm, tiny=WORDS).code == 0
    for ended in ({0}, {0, 1}):
        folder = cut / str(len(ended))
        folder.mkdir()
        stopped(folder, 1, monkeypatch, calm)
        study = study_of(folder)
        for number in ended:
            study.settle(number, "failed", None, {})
        rows = resumed(folder, at=["3"])
        for number in {0, 1, 2} - ended:
            ((_, ours),), ((_, theirs),) = left(folder, rows[number]), left(whole, results(whole)[number])
            for key, value in ours["last"].items():
                torch.testing.assert_close(value, theirs["last"][key], rtol=1e-4, atol=1e-6)


def test_where_fewer_are_trained_at_once_the_others_keep_what_they_go_on_from(tmp_path, monkeypatch):
    stopped(tmp_path, 1, monkeypatch)
    rows = resumed(tmp_path, "sweep.executor={type: vmap, size: 2, save_seconds: 0}", at=["3", "3"])
    assert all(attempts(tmp_path / row["run"])[1]["epoch"] == 2 for row in rows.values())


@pytest.mark.parametrize("seconds", ["null", "30"])
def test_what_all_went_on_from_is_deleted_when_they_have_ended(seconds, tmp_path, monkeypatch):
    stopped(tmp_path, 3, monkeypatch)
    before = {path.name: status(path).seconds for path in (tmp_path / "outputs/sweeps/s/digits_mlp").iterdir()}
    rows = resumed(tmp_path, f"sweep.executor={{type: vmap, save_seconds: {seconds}}}", at=["5"])
    assert not list(tmp_path.rglob(".together*.ckpt"))
    for row in rows.values():
        folder = tmp_path / row["run"]
        assert status(folder).seconds > before[folder.name] and len(attempts(folder)) == 2


def test_what_is_killed_before_its_next_checkpoint_goes_on_from_the_same_one(tmp_path, monkeypatch):
    """Though the first of them has failed since, in whose folder it lies."""
    stopped(tmp_path, 1, monkeypatch, rates="optimizer.lr=1e30,3e-3,1e-3")
    resume = vmap._Saves.epoch
    with monkeypatch.context() as patch:
        patch.setattr(vmap._Saves, "epoch", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        ran = run(tmp_path, "sweep", "resume", "outputs/sweeps/s", "sweep.executor={type: vmap, save_seconds: 30}")
    assert ran.code == 130 and vmap._Saves.epoch is resume
    abandon(tmp_path)
    rows = resumed(tmp_path, SAVING, at=["3"])
    assert [row["state"] for row in rows.values()] == ["failed", "complete", "complete"]
    assert [len(attempts(tmp_path / row["run"])) for row in rows.values()] == [1, 3, 3]


def damaged(folder):
    (file,) = folder.rglob(".together.ckpt")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def gone(folder):
    (file,) = folder.rglob(".together.ckpt")
    file.unlink()


def another(folder):
    (file,) = folder.rglob(".together.ckpt")
    torch.save({"a": 1}, file)


def more_than_tensors(folder):
    (file,) = folder.rglob(".together.ckpt")
    torch.save({"a": date(2026, 1, 1)}, file)


def without_a_part(folder):
    (file,) = folder.rglob(".together.ckpt")
    tree = torch.load(file, weights_only=True)
    del tree["members"][1]["history"]
    torch.save(tree, file)


def other_data(folder):
    for file in folder.rglob("data.json"):
        file.write_text(file.read_text().replace('"train": "', '"train": "0', 1))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (damaged, "it is damaged"),
        (gone, None),
        (another, "it is damaged"),
        (more_than_tensors, "it is damaged"),
        (without_a_part, "KeyError: 'history'"),
        (other_data, "their data have changed"),
    ],
)
def test_what_cannot_go_on_begins_anew_and_that_is_said(change, why, tmp_path, monkeypatch):
    stopped(tmp_path, 1, monkeypatch)
    change(tmp_path)
    ran = run(tmp_path, "sweep", "resume", "outputs/sweeps/s")
    assert ran.code == 0, ran.err
    said = [line.rpartition(".ckpt: ")[2] for line in ran.err.splitlines() if "note: trials begin anew" in line]
    assert said == ([] if why is None else [why]) and ", from epoch" not in ran.err
    rows = results(tmp_path)
    folders = [tmp_path / row["run"] for row in rows.values()]
    assert all(row["state"] == "complete" for row in rows.values())
    assert all(len(attempts(folder)) == 1 for folder in folders)
    others = [path for path in (tmp_path / "outputs/sweeps/s/digits_mlp").iterdir() if path not in folders]
    assert [status(path).state for path in others] == ["interrupted"] * 3


def test_a_run_that_another_process_is_in_is_left_and_all_begin_anew(tmp_path, monkeypatch):
    stopped(tmp_path, 1, monkeypatch)
    folder = sorted((tmp_path / "outputs/sweeps/s/digits_mlp").iterdir())[1]
    lock = Lock(folder)
    ran = run(tmp_path, "sweep", "resume", "outputs/sweeps/s")
    lock.release()
    assert (
        ran.code == 0
        and "note: trials begin anew, and don't go on from " in ran.err
        and "is in use by this process" in ran.err
    )
    rows = results(tmp_path)
    assert all(row["state"] == "complete" and len(attempts(tmp_path / row["run"])) == 1 for row in rows.values())


def test_what_was_pruned_or_failed_before_stays_so(tmp_path, monkeypatch):
    stopped(tmp_path, 2, monkeypatch, rates="optimizer.lr=1e-2,3e-3,1e30,1e-3")
    before = {path: path.read_text() for path in tmp_path.glob("outputs/sweeps/s/*/*/metrics.csv")}
    rows = resumed(tmp_path, at=["4"])
    assert [row["state"] for row in rows.values()] == ["complete", "complete", "failed", "complete"]
    assert rows[2]["reason"].startswith("train/loss is ")
    folder = tmp_path / rows[2]["run"]
    assert before[folder / "metrics.csv"] == (folder / "metrics.csv").read_text() and len(attempts(folder)) == 1


def test_without_a_checkpoint_nothing_is_written(tmp_path, monkeypatch):
    stopped(tmp_path, 2, monkeypatch, saving="sweep.executor={type: vmap, save_seconds: null}")
    assert not list(tmp_path.rglob(".together.ckpt"))
    resumed(tmp_path, at=[""])


def test_a_disk_that_is_full_ends_the_checkpoints_and_not_the_sweep(tmp_path, monkeypatch):
    from builder.errors import RunError
    from builder.sweep import vmap_saved

    def full(file, write):
        raise RunError(f"cannot write {file.name}: No space left on device")

    monkeypatch.setattr(vmap_saved, "write_file", full)
    ran = sweep(tmp_path, RATES, SAVING, tiny=WORDS)
    assert ran.code == 0
    assert ran.err.count("note: no more checkpoints of what trains together: cannot write .together.ckpt") == 1


def test_seconds_below_zero_are_refused(tmp_path):
    ran = sweep(tmp_path, "sweep.executor={type: vmap, save_seconds: -1}", RATES, tiny=WORDS)
    assert ran.code == 2 and "save_seconds can't be negative" in ran.err


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_killed_at_random_times_they_end_with_the_same_bits(seed, tmp_path):
    generator = random.Random(seed)
    words = (*WORDS, "trainer.max_epochs=60", RATES, SAVING)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    process = start(cut, "sweep", "sweep.name=s", *words)
    for _ in range(2):
        until = time.monotonic() + 120
        seen = {path: path.stat().st_mtime_ns for path in cut.rglob(".together.ckpt")}
        while process.poll() is None and time.monotonic() < until:
            if any(path.stat().st_mtime_ns != seen.get(path) for path in cut.rglob(".together.ckpt")):
                break
            time.sleep(0.01)
        time.sleep(generator.random())
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        process = start(cut, "sweep", "resume", "outputs/sweeps/s")
    finish(process, cut, timeout=240)
    assert run(cut, "sweep", "resume", "outputs/sweeps/s").code == 0
    assert sweep(whole, SAVING, tiny=words[:-1]).code == 0
    rows, expected = results(cut), results(whole)
    assert rows.keys() == expected.keys() == {0, 1, 2}
    for number, row in rows.items():
        same(left(cut, row), left(whole, expected[number]))
