"""`builder resume`: a run goes on bit for bit, under changes that it can go on with, or says why it can't."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from builder.runs.lock import Lock
from builder.runs.status import status
from builder.training import fingerprint, positions
from command_line import SMALL, run

TESTS = Path(__file__).parents[1]
WORDS = (*SMALL[:-1], "data.batch_size=256", "trainer.log_every_n_steps=1", "model.args.dropout=0.2")
OFTEN = "callbacks.resume.every_n_steps=3"


def trained(folder, *words):
    folder.mkdir(exist_ok=True)
    ran = run(folder, "train", "--quiet", *WORDS, *words)
    assert ran.code == 0, ran.err
    return ran.run


def resumed(run_dir, *words):
    return run(run_dir.parent, "resume", str(run_dir), *words)


def weights(run_dir):
    return torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def log(run_dir):
    return (run_dir / "metrics.jsonl").read_bytes()


def newest(run_dir):
    return positions.in_folder(run_dir / "checkpoints" / positions.FOLDER)[0]


def same(first, second):
    equal = all(torch.equal(first[name], second[name]) for name in first)
    return list(first) == list(second) and equal


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three epochs without a stop."""
    return trained(tmp_path_factory.mktemp("whole"), "trainer.max_epochs=3", OFTEN)


@pytest.fixture
def short(tmp_path):
    """Two of them."""
    return trained(tmp_path / "short", "trainer.max_epochs=2", OFTEN)


@pytest.mark.parametrize(
    "row",
    [
        "every 7 steps, validation twice an epoch",
        "averaged weights",
        pytest.param("written in the background", marks=pytest.mark.slow),
        pytest.param("two processes", marks=pytest.mark.slow),
    ],
)
def test_killed_anywhere_and_resumed_a_run_ends_with_the_same_bits(row):
    code = f"import json, torture_runs; print(json.dumps(torture_runs.tortured({row!r}, full=False)))"
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    scenarios, kills, identical, wrong = json.loads(done.stdout.splitlines()[-1])
    assert wrong == [] and identical == scenarios == 2 and kills >= 2


def test_a_finished_run_says_how_to_train_on_and_is_left_as_it_is(short):
    before = (short / "status.json").read_bytes()
    ran = resumed(short)
    assert ran.code == 0 and "finished already, after 2 epochs and 10 steps; to train on: builder resume" in ran.out
    assert "trainer.max_epochs=4" in ran.out and (short / "status.json").read_bytes() == before


def test_a_run_trained_on_is_the_run_that_was_longer_at_once(short, whole):
    ran = resumed(short, "trainer.max_epochs=3")
    assert ran.code == 0 and "change:   trainer.max_epochs: 2 → 3" in ran.err
    assert log(short) == log(whole) and same(weights(short), weights(whole))
    assert (short / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert status(short).attempts == 2 and status(short).metrics == status(whole).metrics
    (change,) = json.loads((short / "attempts/002.json").read_text())["changes"]
    assert change == {"key": "trainer.max_epochs", "then": 2, "now": 3}
    assert "max_epochs: 3" in (short / "config.yaml").read_text()
    check = run(short.parent, "rerun", str(short), "--check")
    assert (
        check.code == 0 and "resumed with another trainer.max_epochs" in check.out and "comes to the same" in check.out
    )
    attempt = json.loads((short / "attempts/002.json").read_text())
    attempt["changes"].append({"key": "optimizer.lr", "then": 0.1, "now": 0.01})
    (short / "attempts/002.json").write_text(json.dumps(attempt))
    assert run(short.parent, "rerun", str(short), "--check").code == 1


def middle_of_a_tensor(path):
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        with archive.open(largest) as content:
            return path.read_bytes().index(content.read()) + largest.file_size // 2


@pytest.mark.parametrize("harm", ["flipped", "cut"])
def test_of_a_damaged_checkpoint_it_is_said_and_the_one_before_is_taken(short, whole, harm):
    path = newest(short)
    data = bytearray(path.read_bytes())
    data[middle_of_a_tensor(path)] ^= 1
    path.write_bytes(data if harm == "flipped" else data[: len(data) // 2])
    ran = resumed(short, "trainer.max_epochs=3")
    assert ran.code == 0 and f"warning:  {path.name} is damaged" in ran.err
    assert log(short) == log(whole) and same(weights(short), weights(whole))


def test_a_changed_rate_is_applied_and_a_restored_one_is_not_kept(short):
    assert resumed(short, "trainer.max_epochs=3", "optimizer.lr=0.0005").code == 0
    rates = [row["lr"] for row in map(json.loads, log(short).splitlines()) if "lr" in row]
    assert rates == [0.001] * 10 + [0.0005] * 5


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model.args.hidden=32", "model.args.hidden: can't change in a run that goes on"),
        ("data.batch_size=32", "data.batch_size: can't change in a run that goes on"),
        ("trainer.min_epochs=2", "did you mean 'trainer.max_epochs'"),
        ("+callbacks.clip={type:ClipGradients,norm:1}", "callbacks that only report may"),
    ],
)
def test_a_change_that_a_run_cannot_go_on_with_is_refused(whole, word, said):
    before = (whole / "status.json").read_bytes()
    ran = resumed(whole, "trainer.max_epochs=4", word)
    assert ran.code == 2 and said in ran.err and (whole / "status.json").read_bytes() == before


def test_what_differs_is_refused_and_with_inexact_it_is_recorded(short, monkeypatch):
    before, logged = (short / "status.json").read_bytes(), log(short)
    monkeypatch.setattr(fingerprint, "_version", lambda package: "0.0")
    ran = resumed(short, "trainer.max_epochs=3")
    assert ran.code == 1 and "packages.torch: " in ran.err and "with --inexact it goes on" in ran.err
    assert (short / "status.json").read_bytes() == before and log(short) == logged
    assert "max_epochs: 2" in (short / "config.yaml").read_text()
    assert resumed(short, "trainer.max_epochs=3", "--inexact").code == 0
    record = json.loads((short / "attempts/002.json").read_text())
    assert record["inexact"] and "packages.torch" in {each["what"] for each in record["differences"]}


def test_a_second_process_is_kept_out(short):
    lock = Lock(short)
    try:
        ran = resumed(short, "trainer.max_epochs=3")
    finally:
        lock.release()
    assert ran.code == 1 and "is in use by this process" in ran.err


def test_no_run_is_trained_into_the_folder_of_another(short, tmp_path):
    ran = run(tmp_path, "train", *WORDS, f"output_dir={short.parent}", f"name={short.name}")
    assert ran.code == 2 and f"to go on with that run: builder resume {short}" in ran.err


@pytest.mark.parametrize("call", ["save", "fsync", "in the background"])
def test_a_full_disk_fails_the_run_and_once_there_is_space_it_goes_on(tmp_path, whole, monkeypatch, call):
    background = f"callbacks.resume.background={str(call == 'in the background').lower()}"
    fsync, left = os.fsync, [5]
    folder = tmp_path / "full"
    folder.mkdir()

    def full(*args):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return fsync(*args)

    def half(value, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if call == "fsync":
            from builder.training import checkpoint

            begin = checkpoint.CheckpointFile.save_checkpoint
            patch.setattr(
                checkpoint.CheckpointFile,
                "save_checkpoint",
                lambda *args, **kwargs: (patch.setattr(os, "fsync", full), begin(*args, **kwargs))[1],
            )
        else:
            save, count = torch.save, [0]

            def some(value, file):
                count[0] += 1
                return save(value, file) if count[0] < 4 else half(value, file)

            patch.setattr(torch, "save", some)
        ran = run(folder, "train", "--quiet", *WORDS, "trainer.max_epochs=3", OFTEN, background)
    (found,) = (path.parent for path in folder.rglob("status.json"))
    assert ran.code == 1 and "No space left on device" in ran.err
    assert all(map(positions.is_intact, positions.in_folder(found / "checkpoints/resume")))
    assert resumed(found).code == 0
    assert log(found) == log(whole) and same(weights(found), weights(whole))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("where", ["resume", "load", "weights", "evaluate", "predict", "features", "export"])
def test_a_malicious_pickle_runs_nothing_whatever_the_environment_says(short, tmp_path, where, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = newest(short)
    torch.save({"exact": Evil(), "state_dict": Evil()}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    evil = path.rename(path.with_name(f"{path.name[:12]}-{digest}.ckpt"))
    words = {
        "resume": ("resume", str(short), "trainer.max_epochs=3"),
        "load": ("train", *WORDS, f"load={evil}"),
        "weights": ("weights", str(evil)),
        "evaluate": ("evaluate", str(short)),
        "predict": ("predict", str(short), "--input", "new.npy"),
        "features": ("features", str(short), "--select", "body", "--data", "test", "-o", "features.npz"),
        "export": ("export", str(short), "--to", "onnx"),
    }
    for name in ("best.ckpt", "last.ckpt"):
        (short / "checkpoints" / name).unlink()
        (short / "checkpoints" / name).write_bytes(evil.read_bytes())
    np.save(tmp_path / "new.npy", np.zeros((2, 1, 8, 8), np.float32))
    ran = run(tmp_path, *words[where])
    assert ran.code in (1, 2) and "error:" in ran.err and "internal error" not in ran.err
    assert not list(tmp_path.rglob("evil"))


def test_a_loss_that_is_not_finite_ends_the_run_before_the_step(tmp_path):
    words = (*WORDS, "optimizer={type:SGD,lr:1e30}", "trainer.max_epochs=2", "callbacks.resume.every_n_steps=1")
    ran = run(tmp_path, "train", "--quiet", *words)
    (found,) = (path.parent for path in tmp_path.rglob("status.json"))
    assert ran.code == 1 and "isn't finite" in ran.err and status(found).state == "failed"
    for path in (found / "checkpoints").rglob("*.ckpt"):
        saved = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in saved.values())


@pytest.mark.parametrize(
    ("variables", "alone"),
    [
        ({"RANK": "1", "WORLD_SIZE": "2"}, ""),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, "env -u SLURM_NTASKS "),
    ],
)
def test_processes_that_others_start_are_refused_before_they_wait_for_each_other(short, monkeypatch, variables, alone):
    before = (short / "status.json").read_bytes()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ran = resumed(short, "trainer.max_epochs=3")
    assert ran.code == 2
    launcher = "SLURM" if alone else "torchrun"
    assert ran.err == (
        f"error: {launcher} starts 2 processes, and a run is gone on with by one, which starts the others itself: "
        f"{alone}builder resume {short}\n"
    )
    assert (short / "status.json").read_bytes() == before
