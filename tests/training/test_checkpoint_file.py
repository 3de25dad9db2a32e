import os
import pickle
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
import torch

from builder.errors import RunError
from builder.training import checkpoint
from builder.training.checkpoint import CheckpointFile, check_plain

STATE = {
    "epoch": 3,
    "state_dict": OrderedDict(weight=torch.arange(6.0)),
    "optimizer_states": [{"state": {0: {"step": 1.0}}}],
}


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = tmp_path / "folder" / "last.ckpt"
    CheckpointFile().save_checkpoint(STATE, path)
    back = CheckpointFile().load_checkpoint(path)
    assert back["epoch"] == 3 and back["optimizer_states"] == STATE["optimizer_states"]
    assert torch.equal(back["state_dict"]["weight"], STATE["state_dict"]["weight"])
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_whatever_fails_the_old_checkpoint_stays_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "last.ckpt"
    CheckpointFile().save_checkpoint(STATE, path)

    def fail(*args):
        raise OSError(28, "No space left on device")

    def half(value, file):
        file.write(b"half")
        fail()

    target = {"write": (torch, "save", half), "fsync": (os, "fsync", fail), "replace": (os, "replace", fail)}
    monkeypatch.setattr(*target[step])
    with pytest.raises(RunError, match=r"cannot write .*last\.ckpt: No space left on device"):
        CheckpointFile().save_checkpoint({**STATE, "epoch": 4}, path)
    assert CheckpointFile().load_checkpoint(path)["epoch"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_file_and_folder_are_synced_around_the_rename(tmp_path, monkeypatch):
    calls = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append(os.readlink(f"/proc/self/fd/{fd}")) or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda a, b: calls.append("replace") or replace(a, b))
    CheckpointFile().save_checkpoint(STATE, tmp_path / "last.ckpt")
    file, rename, folder = calls
    assert Path(file).name.startswith(".last.ckpt") and rename == "replace" and folder == str(tmp_path)


def test_a_file_that_would_run_code_is_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": Evil()}, path)
    for weights_only in (None, True, False):
        with pytest.raises(pickle.UnpicklingError):
            CheckpointFile().load_checkpoint(path, weights_only=weights_only)
    assert not (tmp_path / "evil").exists()


def test_only_tensors_and_plain_values_are_written(tmp_path):
    with pytest.raises(RunError) as caught:
        CheckpointFile().save_checkpoint({"callbacks": [{"where": Path("x")}]}, tmp_path / "last.ckpt")
    kind = f"{type(Path('x')).__module__}.{type(Path('x')).__qualname__}"
    assert str(caught.value) == (
        f"a checkpoint holds tensors and plain values only, but callbacks[0].where is a {kind}"
    )
    assert list(tmp_path.iterdir()) == []
    check_plain(
        {"a": [1, 2.0, None, True, "x", b"y", (torch.ones(1), torch.float32, torch.Size([2]))], 3: Counter([1])}
    )


def test_every_value_that_passes_can_be_read_back(tmp_path):
    values = {
        "a": [1, 2.0, None, True, "x", b"y", 1j, torch.ones(1), torch.float32, torch.Size([2]), torch.device("cpu")],
        "c": Counter([1]),
        "s": {1, 2},
    }
    CheckpointFile().save_checkpoint(values, tmp_path / "a.ckpt")
    assert checkpoint.CheckpointFile().load_checkpoint(tmp_path / "a.ckpt") == values


def test_removing_a_checkpoint_that_is_gone_is_no_error(tmp_path):
    CheckpointFile().remove_checkpoint(tmp_path / "gone.ckpt")
