"""A run with hooks that is killed and resumed ends as one that wasn't: weights, what was recorded, files."""

import csv

import pytest
import torch

from command_line import SMALL, finish, run, start

DIES = """
import os, pathlib, signal
import builder
from pytorch_lightning.callbacks import Callback

@builder.register.callback
class Dies(Callback):
    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == 13 and not pathlib.Path("died").exists():
            pathlib.Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""
WORDS = (
    "--import", "dies.py", *SMALL, "+callbacks.dies.type=Dies", "callbacks.resume.every_n_steps=5",
    "+hooks={noise: {noise: {std: 0.01}}, flow: {select: out, noise: {std: 0.001}, of: gradients}, "
    "seen: {select: out, record: [mean, norm], every_n_steps: 4}, moved: {record: norm, of: updates, every_n_steps: 3}, "
    "kept: {select: out, save: activations, every_n_steps: 7, keep: 2}}",
)  # fmt: skip


def recorded(folder):
    """What hooks logged, a step a row."""
    with open(folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith(("activations/", "updates/"))]
    return [(row["step"], *(row[name] for name in names)) for row in rows if any(row[name] for name in names)]


@pytest.mark.slow
def test_a_run_with_hooks_that_is_killed_and_resumed_ends_with_the_same_bits(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dies.py").write_text(DIES)
    (tmp_path / "a/died").touch()
    whole = run(tmp_path / "a", "train", *WORDS)
    assert whole.code == 0, whole.err
    killed = finish(start(tmp_path / "b", "train", *WORDS), tmp_path / "b")
    assert killed.code == -9
    (folder,) = (tmp_path / "b/outputs").glob("*/*")
    resumed = run(tmp_path / "b", "resume", str(folder), "--import", "dies.py")
    assert resumed.code == 0, resumed.err
    saved = [
        torch.load(each / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for each in (whole.run, folder)
    ]
    assert all(torch.equal(value, saved[1][name]) for name, value in saved[0].items())
    assert recorded(folder) == recorded(whole.run) and len(recorded(folder)) > 10
    files = [{file.name: file.read_bytes() for file in (each / "hooks/kept").iterdir()} for each in (whole.run, folder)]
    assert files[0] == files[1] and sorted(files[0]) == [f"step_{step:08d}.safetensors" for step in (27, 34)]
