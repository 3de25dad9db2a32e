"""Checkpoints that are written while training goes on: what is written is what was there when it began."""

import threading

import pytest
import torch
from torch import nn
from training_helpers import TRAINER, mlp, train

from builder.errors import RunError
from builder.training import positions
from builder.training.background import BackgroundWriter, Copies


def nested():
    layer = nn.BatchNorm1d(4)
    shared = torch.randn(4, 5)
    return {
        "state_dict": layer.state_dict(),
        "tied": [shared, shared.t(), shared[1:]],
        "others": (torch.ones(3, dtype=torch.bfloat16), torch.empty(0), torch.tensor(2), torch.Size([2, 3]), None, "x"),
    }


def written(value, path):
    torch.save(value, path)
    return path.read_bytes()


def test_a_copy_is_written_to_the_same_bytes_and_shares_no_memory(tmp_path):
    value, copies = nested(), Copies()
    before = written(value, tmp_path / "value.ckpt")
    copied = copies.of(value)
    for tensor in (*value["state_dict"].values(), *value["tied"], *value["others"][:3]):
        tensor.fill_(7)
    assert written(copied, tmp_path / "value.ckpt") == before
    assert copied["tied"][0].data_ptr() == copied["tied"][1].data_ptr() != value["tied"][0].data_ptr()
    assert copied["state_dict"]._metadata == value["state_dict"]._metadata


def test_the_memory_of_a_copy_serves_for_the_next_one():
    value, copies = nested(), Copies()
    first = {tensor.data_ptr() for tensor in copies.of(value)["tied"][:2]}
    again = copies.of(value)
    assert first == {tensor.data_ptr() for tensor in again["tied"][:2]}
    assert torch.equal(again["tied"][0], value["tied"][0])


def test_one_is_written_at_a_time_and_training_waits_for_no_other():
    writer, go, seen = BackgroundWriter(), threading.Event(), []

    def write(copied):
        assert go.wait(20)
        seen.append(float(copied["w"]))

    weight = torch.tensor(1.0)
    writer.begin({"w": weight}, write)
    weight.fill_(2.0)
    writer.check()
    assert seen == []
    threading.Timer(0.1, go.set).start()
    writer.begin({"w": weight}, write)
    assert seen[0] == 1.0, "the first one was waited for"
    writer.wait()
    assert seen == [1.0, 2.0]


@pytest.mark.parametrize("how", ["begin", "check", "wait"])
def test_an_error_of_the_thread_is_raised_once(how):
    def write(copied):
        raise RunError("cannot write it: No space left on device")

    writer = BackgroundWriter()
    writer.begin({}, write)
    writer._thread.join()
    calls = {"begin": lambda: writer.begin({}, print), "check": writer.check, "wait": writer.wait}
    with pytest.raises(RunError, match="No space left on device"):
        calls[how]()
    writer.wait()


CONFIG = {"trainer": {**TRAINER, "max_epochs": 3}}


def kept(folder):
    return [torch.load(path, weights_only=True) for path in positions.in_folder(folder / "checkpoints" / "resume")]


def test_a_run_ends_with_the_same_checkpoints(tmp_path):
    for background in (False, True):
        resume = {"type": "ExactResume", "every_n_steps": 2, "keep": 4, "background": background}
        train(mlp(), tmp_path / str(background), config={**CONFIG, "callbacks": {"resume": resume}})
    ours, theirs = kept(tmp_path / "True"), kept(tmp_path / "False")
    assert [saved["global_step"] for saved in ours] == [saved["global_step"] for saved in theirs] == [12, 10, 8, 6]
    for one, other in zip(ours, theirs, strict=True):
        assert all(map(torch.equal, one["state_dict"].values(), other["state_dict"].values()))
        logged = [positions.taken_out(saved)["logged"] for saved in (one, other)]
        assert logged[0]["log"] == logged[1]["log"]


def test_where_training_fails_what_was_being_written_is_there(tmp_path, monkeypatch):
    save, slow = torch.save, threading.Event()

    def slowly(value, file):
        slow.wait(0.5)
        save(value, file)

    monkeypatch.setattr(torch, "save", slowly)
    model = mlp()

    def fail(module, arguments):
        fail.calls += module.training
        if fail.calls == 4:
            raise RuntimeError("no more")

    fail.calls = 0
    model.register_forward_pre_hook(fail)
    resume = {"type": "ExactResume", "every_n_steps": 3, "background": True}
    with pytest.raises(RuntimeError, match="no more"):
        train(model, tmp_path, config={**CONFIG, "callbacks": {"resume": resume}})
    (saved,) = kept(tmp_path)
    assert saved["global_step"] == 3 and not list(tmp_path.rglob("*.tmp"))


def test_an_error_of_the_disk_ends_training_at_the_next_batch(tmp_path, monkeypatch):
    def full(value, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    resume = {"type": "ExactResume", "every_n_steps": 1, "background": True}
    with pytest.raises(RunError, match=r"cannot write .*resume.*: No space left on device"):
        train(mlp(), tmp_path, config={**CONFIG, "callbacks": {"resume": resume}})
    assert not kept(tmp_path) and not list(tmp_path.rglob("*.tmp"))
