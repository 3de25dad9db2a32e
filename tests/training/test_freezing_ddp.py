"""A schedule in two processes (DDP, gloo, CPU) trains as it does in one on all of each batch."""

import subprocess
import sys
from pathlib import Path

import freezing_ddp
import pytest
import torch

STEPS = freezing_ddp.EPOCHS * freezing_ddp.BATCHES // 2
"""Of two micro-batches each."""
TRUNK = ["trunk.0.weight", "trunk.0.bias", "trunk.1.weight", "trunk.1.bias", "trunk.3.weight", "trunk.3.bias"]
NORM, FIRST = TRUNK[2:4], TRUNK[:4]
FROZEN = {
    "epoch": [TRUNK] * 4 + [NORM] * (STEPS - 4),
    "step": [TRUNK] * 3 + [FIRST] * 2 + [NORM] * (STEPS - 5),
    "good": [TRUNK] * STEPS,
}
PHASES = {"epoch": 2, "step": 3, "good": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    script = Path(__file__).with_name("freezing_ddp.py")
    done = subprocess.run(
        [sys.executable, script, folder, *FROZEN], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {path.parent.name + path.stem: torch.load(path) for path in folder.rglob("*.pt")}


@pytest.mark.parametrize("schedule", FROZEN)
def test_both_processes_hold_the_same_bits(runs, schedule):
    first, second = (runs[f"{schedule}2rank{rank}"] for rank in (0, 1))
    assert all(torch.equal(first["state"][key], value) for key, value in second["state"].items())
    assert first["frozen"] == second["frozen"] == FROZEN[schedule]


@pytest.mark.parametrize("schedule", FROZEN)
def test_two_processes_train_as_one_on_the_whole_batch(runs, schedule):
    one, two = runs[f"{schedule}1rank0"], runs[f"{schedule}2rank0"]
    assert one["frozen"] == two["frozen"]
    for key, value in one["state"].items():
        assert torch.allclose(two["state"][key], value, rtol=1e-4, atol=1e-6), key


@pytest.mark.parametrize("schedule", FROZEN)
def test_what_is_frozen_for_good_has_not_moved_a_bit_and_the_rest_has(runs, schedule):
    before, after = freezing_ddp.net().state_dict(), runs[f"{schedule}2rank1"]["state"]
    moved = {key for key, value in before.items() if not torch.equal(after[key], value)}
    statistics = {"trunk.1.running_mean", "trunk.1.running_var", "trunk.1.num_batches_tracked"}
    assert moved == set(before) - statistics - set(FROZEN[schedule][-1])


@pytest.mark.parametrize("schedule", FROZEN)
def test_the_model_is_wrapped_once_a_phase_and_old_wrappers_are_gone(runs, schedule):
    for rank in (0, 1):
        run = runs[f"{schedule}2rank{rank}"]
        assert (run["wraps"], run["alive"]) == (PHASES[schedule], 1)
