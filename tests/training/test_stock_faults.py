"""What stock PyTorch and PyTorch-Lightning do where a run has to be trusted, and that ours doesn't."""

import csv
import errno
import fcntl
import os
import shutil
import signal
import tempfile
import warnings
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from training_helpers import TRAINER, mlp, train, wine

from builder.errors import RunError
from builder.runs.lock import Lock
from builder.training import positions
from builder.training.checkpoint import CheckpointFile
from builder.training.finite import NotFinite
from builder.training.quiet import quiet_lightning

STEPS, KEPT = 8, 3
"""Two epochs; the checkpoint that is gone on from is of a step within the first one."""


class Stock(pl.LightningModule):
    """Wine, by hand."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.model, self.factor = mlp(), factor

    def training_step(self, batch, batch_idx):
        x, target = batch
        loss = nn.functional.cross_entropy(self.model(x), target) * self.factor
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def stock(folder, *, factor=1.0, max_steps=STEPS, ckpt_path=None):
    """Train as Lightning's documentation does, with a checkpoint after some steps."""
    split = wine().splits["train"]
    data = torch.utils.data.TensorDataset(split["x"], split["target"])
    with quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pl.seed_everything(0)
        module = Stock(factor)
        trainer = pl.Trainer(
            max_steps=max_steps, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
            log_every_n_steps=1, logger=CSVLogger(folder, name="", version=""), default_root_dir=folder,
            callbacks=[ModelCheckpoint(folder, filename="{step}", every_n_train_steps=KEPT, save_top_k=-1)],
        )  # fmt: skip
        trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=32, shuffle=True), ckpt_path=ckpt_path)
    return module.model


RESUME = {"resume": {"type": "ExactResume", "every_n_steps": KEPT, "keep": 9}}
OURS = {"trainer": {**TRAINER, "log_every_n_steps": 1}, "callbacks": RESUME, "logger": {"csv": "CSVLogger"}}


def ours(folder, **kwargs):
    model = mlp()
    train(model, folder, config=OURS, **kwargs)
    return model


def equal(first, second):
    return all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


def steps(folder):
    with open(folder / "metrics.csv") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row.get("loss") or row.get("train/loss_step")]


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """Folders of a stock run and of ours that weren't stopped, and their models."""
    torch.set_num_threads(1)  # as in each test here
    folders = [tmp_path_factory.mktemp(name) for name in ("stock", "ours")]
    return folders, (stock(folders[0]), ours(folders[1]))


def test_resumed_within_an_epoch_a_run_ends_elsewhere(once, tmp_path):
    (theirs, own), models = once
    assert not equal(models[0], stock(tmp_path / "stock", ckpt_path=theirs / f"step={KEPT}.ckpt"))
    path = next(path for path in positions.in_folder(own / "checkpoints/resume") if positions.read(path).step == KEPT)
    shutil.copytree(own, tmp_path / "ours")
    assert equal(models[1], ours(tmp_path / "ours", position=positions.read(path)))


def test_its_table_has_rows_twice_or_not_at_all(once, tmp_path):
    (theirs, own), _ = once
    expected = list(range(STEPS))
    assert steps(theirs) == expected
    stock(tmp_path, max_steps=KEPT + 2)  # dies two steps after the checkpoint
    stock(tmp_path, ckpt_path=tmp_path / f"step={KEPT}.ckpt")
    assert steps(tmp_path) != expected
    path = next(path for path in positions.in_folder(own / "checkpoints/resume") if positions.read(path).step == KEPT)
    shutil.copytree(own, tmp_path / "ours")
    ours(tmp_path / "ours", position=positions.read(path))
    assert steps(tmp_path / "ours") == steps(own) == expected


def test_a_loss_that_is_no_number_is_trained_on_and_saved(tmp_path):
    stock(tmp_path / "stock", factor=float("nan"), max_steps=KEPT)
    saved = torch.load(tmp_path / f"stock/step={KEPT}.ckpt", weights_only=True)["state_dict"]
    assert all(value.isnan().any() for name, value in saved.items() if name.endswith("weight"))
    with pytest.raises(NotFinite):
        train(mlp(), tmp_path / "ours", config=OURS, task={"loss": "cross_entropy(output, target) / 0.0"})
    assert not list((tmp_path / "ours").rglob("*.ckpt"))


def test_a_flipped_bit_is_loaded(tmp_path):
    value = {"w": torch.ones(4096)}
    torch.save(value, tmp_path / "stock.ckpt")
    for path in (tmp_path / "stock.ckpt", positions.save(value, tmp_path / "000000000001.ckpt")):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 64
        path.write_bytes(data)
        assert not torch.equal(torch.load(path, weights_only=True)["w"], value["w"]), "nobody noticed"
    assert positions.is_intact(path) is False


@pytest.fixture
def other_disk(tmp_path, monkeypatch):
    """Temporary files lie on another disk, and this one is full after half of what comes."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))

    def move(source, target, *args, **kwargs):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def copy(source, target, **kwargs):
        data = Path(source).read_bytes()
        Path(target).write_bytes(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "rename", move)
    monkeypatch.setattr(shutil, "copyfile", copy)


def test_a_full_disk_leaves_half_a_checkpoint_under_its_name(tmp_path, other_disk, monkeypatch):
    from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

    value, path, own = {"w": torch.ones(4096)}, tmp_path / "stock.ckpt", tmp_path / "ours.ckpt"
    with pytest.raises(OSError, match="No space left"):
        TorchCheckpointIO().save_checkpoint(value, path)
    with pytest.raises((RuntimeError, OSError)):
        torch.load(path, weights_only=True)
    CheckpointFile().save_checkpoint(value, own)

    def full(value, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match="No space left"):
        CheckpointFile().save_checkpoint({"w": torch.zeros(4096)}, own)
    assert torch.equal(torch.load(own, weights_only=True)["w"], value["w"])


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_where_the_environment_says_so_a_checkpoint_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"state_dict": Evil()}, "evil.ckpt")
    with pytest.warns(UserWarning, match="forcing weights_only=False"):
        torch.load("evil.ckpt")
    os.rmdir("evil")  # it was there
    with pytest.raises(Exception, match="weights_only|Weights only"):
        CheckpointFile().load_checkpoint("evil.ckpt")
    assert not os.path.exists("evil")


def test_a_lock_of_flock_outlives_a_killed_process_in_its_children(tmp_path):
    parent = os.fork()
    if not parent:
        file = os.open(tmp_path / "flock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(file, fcntl.LOCK_EX)
        own = Lock(tmp_path)
        child = os.fork()
        if child:
            (tmp_path / "child").write_text(str(child))
        else:
            signal.pause()
        assert own
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        with open(tmp_path / "flock") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        Lock(tmp_path).release()
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
