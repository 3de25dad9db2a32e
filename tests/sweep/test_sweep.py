"""Whole sweeps of tiny trainings, as a user starts them."""

import json
import math
import os

import pytest
import torch
from sweep_helpers import TINY, results, sweep

from command_line import run

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
SPACE = ("model.args.hidden=4,8", "optimizer.lr=1e-2,1e-3")
FAULTY = """
import builder
import os
import signal
import torch


@builder.register.layer
class Faulty(torch.nn.Module):
    '''Does as its argument says, in the first training step.'''

    def __init__(self, how: str = "fine") -> None:
        super().__init__()
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and not x.is_meta:
            if self.how == "raise":
                raise RuntimeError("broken on purpose")
            if self.how == "memory":
                raise torch.OutOfMemoryError("no more")
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "exit":
                os._exit(3)
            if self.how == "nan":
                return x * float("nan")
        return x
"""


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    return folder, sweep(folder, *SPACE)


def weights(run_folder):
    saved = torch.load(run_folder / "checkpoints/last.ckpt", weights_only=True)
    return saved["state_dict"]


def test_a_grid_equals_the_loop_by_hand_bit_for_bit(grid, tmp_path):
    folder, ran = grid
    assert ran.code == 0 and ran.out.splitlines()[0] == "4 trials: 4 complete"
    rows, number = results(folder), 0
    for hidden in (4, 8):
        for lr in (0.01, 0.001):
            row = rows[number]
            number += 1
            assert (row["model.args.hidden"], row["optimizer.lr"], row["state"]) == (str(hidden), str(lr), "complete")
            hand = run(tmp_path, "train", *TINY, f"model.args.hidden={hidden}", f"optimizer.lr={lr}")
            ours, theirs = weights(folder / row["run"]), weights(hand.run)
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
            assert (folder / row["run"] / "metrics.csv").read_text() == (hand.run / "metrics.csv").read_text()


def test_the_best_trial_is_linked_and_its_overrides_are_printed(grid):
    folder, ran = grid
    rows = results(folder)
    best = max(rows.values(), key=lambda row: (float(row["val/accuracy"]), -int(row["trial"])))
    assert os.path.samefile(folder / "outputs/sweeps/s/best", folder / best["run"])
    words = f"model.args.hidden={best['model.args.hidden']} optimizer.lr={best['optimizer.lr']}"
    assert words in ran.out.splitlines()[1]
    assert ran.out.splitlines()[-1] == "outputs/sweeps/s"


def test_every_trial_is_an_ordinary_run(grid):
    folder, _ = grid
    for row in results(folder).values():
        status = json.loads((folder / row["run"] / "status.json").read_text())
        assert status["state"] == "finished"
        assert {"config.yaml", "model.yaml", "model.py", "manifest.json"} <= set(os.listdir(folder / row["run"]))
        assert "sweep: null" in (folder / row["run"] / "config.yaml").read_text()


def test_the_page_says_what_came_of_it(grid):
    page = (grid[0] / "outputs/sweeps/s/report.html").read_text()
    for title in (
        "Best trials",
        "History",
        "Parallel coordinates",
        "Importance",
        "Slices",
        "Learning curves",
    ):
        assert f"<h2>{title}" in page
    assert "<figcaption>val/accuracy</figcaption>" in page
    assert "default-src &#x27;none&#x27;" in page and 'src="http' not in page  # its own policy forbids it the network
    assert "model.args.hidden=8 optimizer.lr=0.01" in page


def test_parquet_holds_the_same_as_csv(grid):
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(grid[0] / "outputs/sweeps/s/results.parquet")
    rows = results(grid[0])
    assert frame["val/accuracy"].to_list() == [float(row["val/accuracy"]) for row in rows.values()]
    assert frame["optimizer.lr"].to_list() == [0.01, 0.001, 0.01, 0.001]


def test_a_finished_sweep_is_resumed_to_a_larger_total_and_its_trials_stay(tmp_path):
    ran = sweep(
        tmp_path, "model.args.hidden=8", "optimizer.lr=interval(1e-3,1e-2)", "sweep.trials=2", "sweep.sampler=random"
    )
    assert ran.code == 0
    before = results(tmp_path)
    ran = run(tmp_path, "sweep", "resume", "outputs/sweeps/s", "sweep.trials=3")
    assert ran.code == 0 and ran.out.startswith("3 trials: 3 complete")
    after = results(tmp_path)
    assert {number: after[number] for number in before} == before and sorted(after) == [0, 1, 2]
    assert len({row["optimizer.lr"] for row in after.values()}) == 3  # a resumed sampler doesn't draw the same again


def test_a_grid_stays_one_whatever_total_it_is_resumed_to(grid):
    folder, _ = grid
    before = results(folder)
    ran = run(folder, "sweep", "resume", "outputs/sweeps/s", "sweep.trials=9")
    assert ran.code == 0 and "note: the grid has 4 points, and no more" in ran.err
    assert ran.out.startswith("4 trials: 4 complete") and results(folder) == before


def test_train_with_m_is_a_sweep(tmp_path):
    ran = run(tmp_path, "train", "-m", *TINY, "optimizer.lr=1e-2,1e-3", "--json")
    found = json.loads(ran.out)
    assert ran.code == 0 and found["counts"] == {"complete": 2}
    assert [trial["point"]["optimizer.lr"] for trial in found["trials"]] == ["0.01", "0.001"]


def test_a_bad_corner_is_refused_with_its_override_before_anything_runs(tmp_path):
    ran = sweep(tmp_path, "model.args.hidden=4,-1,8", "optimizer.lr=1e-2,1e-3")
    assert ran.code == 2 and ran.err.startswith("error: override 'model.args.hidden=-1'")
    assert not (tmp_path / "outputs").exists()


def test_a_fault_of_another_key_names_the_choice_that_makes_it(tmp_path):
    ran = run(tmp_path, "sweep", "trainer=cpu", "model=mlp,vit", "model.args.depth=1,2", "+model.args.patch=3,4")
    assert ran.code == 2 and ran.err.startswith("error: override 'model=vit': model.args.patch: there already"), ran.err


def test_a_sweep_is_not_begun_twice(grid):
    folder, _ = grid
    ran = sweep(folder, *SPACE)
    assert ran.code == 2 and "outputs/sweeps/s is there already" in ran.err
    assert "hint:     builder sweep resume outputs/sweeps/s" in ran.err


def test_a_resumed_sweep_changes_no_more_than_it_may(grid):
    folder, _ = grid
    ran = run(folder, "sweep", "resume", "outputs/sweeps/s", "model.args.hidden=3")
    assert ran.code == 2 and "override 'model.args.hidden=3'" in ran.err and "can't change any more" in ran.err
    ran = run(folder, "sweep", "resume", "outputs/sweeps/z")
    assert ran.code == 2 and "is no sweep's folder" in ran.err


def test_faults_are_recorded_with_their_reason_and_the_sweep_goes_on(tmp_path):
    (tmp_path / "faulty.py").write_text(FAULTY)
    ran = sweep(
        tmp_path, "+model.layers.faulty={type: Faulty, how: fine}", "model.layers.faulty.how=raise,memory,'nan',fine",
        "sweep.retry=1", "--import", "faulty.py",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    rows = results(tmp_path)
    assert [row["state"] for row in rows.values()] == ["failed", "failed", "failed", "complete"]
    assert "broken on purpose" in rows[0]["reason"] and rows[1]["reason"].startswith("out of memory")
    assert rows[2]["reason"].startswith("the output of 'faulty' (Faulty) isn't finite")
    assert ran.err.count("; once more") == 3


def test_a_killed_worker_fails_its_trial_alone(tmp_path):
    (tmp_path / "faulty.py").write_text(FAULTY)
    ran = sweep(
        tmp_path, "+model.layers.faulty={type: Faulty, how: fine}", "model.layers.faulty.how=kill,fine,exit,fine2",
        "sweep.executor=local", "sweep.executor.workers=2", "--import", "faulty.py",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    rows = results(tmp_path)
    assert [row["state"] for row in rows.values()] == ["failed", "complete", "failed", "complete"]
    assert rows[0]["reason"] == "its process was killed by SIGKILL: out of memory?"
    assert rows[2]["reason"] == "its process ended with code 3"


def test_pruning_ends_bad_trials_early(tmp_path):
    ran = sweep(
        tmp_path, "optimizer.lr=choice(1e-2, 2e-2, 1e-7, 1e-8)", "trainer.max_epochs=6", "model.args.dropout=0.0",
        "sweep.pruner={type: median, n_startup_trials: 2, n_warmup_steps: 0}", "trainer.limit_train_batches=10",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    rows = results(tmp_path)
    assert [row["state"] for row in rows.values()] == ["complete", "complete", "pruned", "pruned"]
    status = json.loads((tmp_path / rows[3]["run"] / "status.json").read_text())
    assert status["state"] == "interrupted" and status["reason"].startswith("pruned after epoch ")
    assert status["epoch"] < 6


def test_seeds_give_mean_and_deviation(tmp_path):
    ran = sweep(tmp_path, "optimizer.lr=choice(1e-2)", "sweep.seeds=3")
    assert ran.code == 0, ran.err
    row = results(tmp_path)[0]
    values = []
    for seed, folder in enumerate(row["run"].split()):
        alone = run(tmp_path, "train", *TINY, "optimizer.lr=1e-2", f"seed={seed}", "--json")
        metrics = (tmp_path / folder / "metrics.csv").read_text()
        assert metrics == (tmp_path / json.loads(alone.out)["run"] / "metrics.csv").read_text()
        lines = [line.split(",") for line in metrics.splitlines()]
        column = lines[0].index("val/accuracy")
        values.append(max(float(line[column]) for line in lines[1:] if line[column]))
    mean = sum(values) / 3
    assert float(row["val/accuracy"]) == pytest.approx(mean, abs=1e-12)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 2)
    assert float(row["val/accuracy std"]) == pytest.approx(deviation, abs=1e-12)


def test_several_objectives_give_a_front(tmp_path):
    ran = sweep(tmp_path, "model.args.hidden=2,32", "sweep.objectives=[val/loss min,params min]", "--json")
    found = json.loads(ran.out)
    assert ran.code == 0 and [one["name"] for one in found["objectives"]] == ["val/loss", "params"]
    sizes = [64 * h + h + h * h + h + 10 * h + 10 for h in (2, 32)]
    assert [trial["values"][1] for trial in found["trials"]] == sizes
    assert found["best"][0] == 1 and 0 in found["best"]  # less loss, or fewer parameters
    assert "<h2>Pareto front" in (tmp_path / "outputs/sweeps/s/report.html").read_text()


def test_an_unknown_objective_is_refused_with_the_nearest(tmp_path):
    ran = sweep(tmp_path, "model.args.hidden=2,4", "sweep.objectives=val/acuracy max")
    assert ran.code == 2 and "did you mean 'val/accuracy'" in ran.err
