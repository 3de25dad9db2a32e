"""Hooks in two processes (DDP, gloo, CPU, accumulated gradients) do what they do in one on all of each batch."""

import csv
import subprocess
import sys
from pathlib import Path

import hooks_ddp
import pytest
import torch


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hooks")
    script = Path(__file__).with_name("hooks_ddp.py")
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {f"{path.parent.name}{path.stem}": torch.load(path) for path in folder.rglob("*.pt")} | {
        processes: list(csv.DictReader((folder / processes / "metrics.csv").read_text().splitlines()))
        for processes in ("1", "2")
    }


def test_changes_are_the_same_in_both_processes_and_those_of_one(runs):
    one, first, second = (runs[name]["state"] for name in ("1rank0", "2rank0", "2rank1"))
    for name, value in first.items():
        assert torch.equal(second[name], value)
        assert torch.allclose(one[name], value, rtol=1e-4, atol=1e-6), name
        assert not torch.equal(hooks_ddp.net().state_dict()[name], value)
    assert not any(runs[name]["left"] for name in ("1rank0", "2rank0", "2rank1"))


def test_the_first_process_records_its_part_of_the_first_micro_batch(runs):
    for processes in ("1", "2"):
        seen = [float(row["activations/2/mean"]) for row in runs[processes] if row["activations/2/mean"]]
        assert seen == runs[f"{processes}rank0"]["heard"] and len(seen) == 6
    assert runs["2rank1"]["heard"] != runs["2rank0"]["heard"]


def test_updates_are_those_of_the_step_that_all_make(runs):
    norms = [
        [float(row["updates/2.weight/norm"]) for row in runs[name] if row["updates/2.weight/norm"]] for name in "12"
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
