"""Where trials run: other processes, clusters, and processes that join; and an executor of the user's."""

import json
import os
import subprocess
import sys
import time

import pytest
from sweep_helpers import TINY, results, sweep

from builder.errors import MissingExtra, Origin
from builder.sweep.book import Book
from builder.sweep.local import Local
from builder.sweep.search import Search
from builder.sweep.space import Axis, Numbers
from builder.sweep.storage import open_storage
from command_line import finish, run, start

MINE = """
import builder
from builder.sweep.trial import run_trial


@builder.register.executor
class Backwards:
    '''Runs what it was given from the last to the first.'''

    def __init__(self, slots: int = 2) -> None:
        self.slots, self.jobs = slots, []

    def submit(self, job) -> None:
        self.jobs.append(job)

    def poll(self, timeout: float):
        job = self.jobs.pop()
        return [(job.number, run_trial(job))]

    def cancel(self) -> None:
        self.jobs.clear()
"""
FOUR = ("optimizer.lr=1e-2,1e-3", "model.args.hidden=4,8", "report=false")


def values(folder):
    return {number: row["val/accuracy"] for number, row in results(folder).items()}


def test_an_executor_of_the_users_is_named_like_any_other(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    ran = sweep(tmp_path, *FOUR, "sweep.executor=Backwards", "--import", "mine.py")
    assert ran.code == 0, ran.err
    begun = [line.split()[1] for line in ran.err.splitlines() if line.startswith("trial ")]
    assert begun != sorted(begun) and sorted(begun) == ["0", "1", "2", "3"]
    ran = sweep(tmp_path, *FOUR, "sweep.executor=locla", name="t")
    assert ran.code == 2 and "did you mean 'local'?" in ran.err


WHERE = """
import os

import builder
import torch


@builder.register.layer
class Where(torch.nn.Module):
    '''Fails with the GPUs that its process sees, and its threads.'''

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.is_meta:
            return x
        raise RuntimeError(f"<{os.environ.get('CUDA_VISIBLE_DEVICES')}> with {torch.get_num_threads()} threads")
"""


@pytest.mark.parametrize(
    ("visible", "gpus", "seen"), [(None, "2", {"0", "1"}), ("3,GPU-5,7", "2", {"3", "GPU-5"}), ("", "null", {""})]
)
def test_each_worker_has_a_gpu_of_its_own(visible, gpus, seen, tmp_path, monkeypatch):
    """Declared ones: what a worker is told doesn't depend on whether there are any."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    (tmp_path / "where.py").write_text(WHERE)
    executor = f"sweep.executor={{type: local, workers: 2, threads: 3, gpus: {gpus}}}"
    where = ("+model.layers.where={type: Where}", "optimizer.lr=1e-2,1e-3", executor, "--import", "where.py")
    ran = sweep(tmp_path, *where, "report=false")
    assert ran.code == 1, ran.err
    reasons = [row["reason"] for row in results(tmp_path).values()]
    assert {reason.partition("<")[2].partition(">")[0] for reason in reasons} == seen, reasons
    assert all("with 3 threads" in reason for reason in reasons)


def test_more_gpus_than_there_are_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    ran = sweep(tmp_path, *FOUR, "sweep.executor={type: local, gpus: 2}")
    assert ran.code == 2 and "2 GPUs, but CUDA_VISIBLE_DEVICES=0 names 1" in ran.err, ran.err
    assert not (tmp_path / "outputs").exists()


def test_the_process_that_workers_are_forked_from_leaves_cuda_asleep():
    """A process that has looked for GPUs can't be told any more which of them it has, and can't be forked."""
    code = (
        "import torch\n"
        "def awake(*_): raise AssertionError('CUDA was asked')\n"
        "torch.cuda.is_available = torch.cuda.device_count = torch.cuda.init = torch.cuda._lazy_init = awake\n"
        "import builder.sweep.warm\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)


@pytest.mark.slow
def test_submitit_runs_four_trials_in_its_local_executor(tmp_path):
    pytest.importorskip("submitit")
    where = "sweep.executor={type: slurm, cluster: local, folder: jobs, slots: 2, parameters: {timeout_min: 10}}"
    ran = finish(start(tmp_path, "sweep", "sweep.name=s", *TINY, *FOUR, where), tmp_path, timeout=280)
    assert ran.code == 0 and ran.out.startswith("4 trials: 4 complete"), ran.err


@pytest.mark.slow
def test_ray_runs_four_trials(tmp_path):
    pytest.importorskip("ray")
    where = "sweep.executor={type: ray, num_cpus: 2}"
    ran = finish(start(tmp_path, "sweep", "sweep.name=s", *TINY, *FOUR, where), tmp_path, timeout=280)
    assert ran.code == 0 and ran.out.startswith("4 trials: 4 complete"), ran.err
    assert run(tmp_path, "sweep", "sweep.name=t", *TINY, *FOUR).code == 0
    assert values(tmp_path) == {number: row["val/accuracy"] for number, row in results(tmp_path, "t").items()}


@pytest.mark.parametrize(
    ("storage", "joined"), [("null", "outputs/sweeps/s"), ("study.log", "study.log")], ids=["sqlite", "journal"]
)
def test_two_processes_that_join_share_the_trials(storage, joined, tmp_path):
    words = ("optimizer.lr=interval(1e-3,1e-2)", "sweep.sampler=random", "report=false", f"sweep.storage={storage}")
    assert sweep(tmp_path, *words, "sweep.trials=1").code == 0
    where = (
        f"sqlite:///{tmp_path}/outputs/sweeps/s/study.db" if storage == "null" else f"journal:///{tmp_path}/study.log"
    )
    axis = Axis("optimizer.lr", Numbers(1e-3, 1e-2), "", Origin())
    assert Book(where, "s").fill([axis], 5, grid=False) == 4
    joiners = [start(tmp_path, "sweep", "join", joined, "--json") for _ in range(2)]
    ran = [finish(joiner, tmp_path) for joiner in joiners]
    assert [one.code for one in ran] == [0, 0], ran[0].err + ran[1].err
    final = run(tmp_path, "sweep", "report", "outputs/sweeps/s", "--json")
    found = json.loads(final.out)
    assert found["counts"] == {"complete": 5} and [trial["number"] for trial in found["trials"]] == list(range(5))
    assert len({trial["runs"][0] for trial in found["trials"]}) == 5


def test_joining_nothing_is_told(tmp_path):
    ran = run(tmp_path, "sweep", "join", "nothing.db")
    assert ran.code == 2 and "no sweep 'nothing.db'" in ran.err
    ran = run(tmp_path, "sweep", "join", "sqlight:///x.db")
    assert ran.code == 2 and "no storage" in ran.err


def test_tpe_finds_the_best_region_of_a_known_function(tmp_path):
    """A bowl over two numbers, one on a log scale: the last trials lie far nearer to its bottom than random ones."""
    axes = [Axis("x", Numbers(-5.0, 5.0), "", Origin()), Axis("y", Numbers(1e-4, 1.0, log=True), "", Origin())]

    def distances(name, sampler):
        import math

        book = Book.create(f"sqlite:///{tmp_path}/{name}.db", name, ["min"], {})
        book.fill(axes, 40, grid=False)
        found = []
        while (number := book.claim(abandoned=False)) is not None:
            point = book.choose(number, axes, Search(sampler), 0)
            x, y = float(point["x"]), float(point["y"])
            found.append((x - 2) ** 2 + (math.log10(y) + 2) ** 2)
            book.settle(number, "complete", [found[-1]], {})
        return found

    by_tpe, at_random = distances("tpe", "tpe"), distances("random", "random")
    assert min(by_tpe) < 0.1
    assert sum(by_tpe[-15:]) < 0.5 * sum(at_random[-15:])


def test_a_claimed_trial_is_given_to_nobody_else(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    book = Book.create(url, "s", ["min"], {})
    book.fill([Axis("x", Numbers(0.0, 1.0), "", Origin())], 3, grid=False)
    other = Book(url, "s")
    assert [book.claim(abandoned=True), other.claim(abandoned=True), book.claim(abandoned=True)] == [0, 1, 2]
    assert other.claim(abandoned=True) is None and len(book.rows()) == 3


@pytest.mark.parametrize(
    ("url", "package"),
    [("postgresql+psycopg://u:secret@localhost/s", "psycopg"), ("mysql+pymysql://u:secret@h/s", "pymysql")],
)
def test_a_driver_that_isnt_installed_is_named_and_no_password_told(url, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra) as caught:
        open_storage(url)
    said = str(caught.value)
    assert f"the storage {url.partition('://')[0]}:// needs the package {package!r}: pip install it" in said
    assert "secret" not in said


def test_a_worker_has_a_process_group_of_its_own_so_that_ctrl_c_comes_once():
    local = Local(workers=1)
    process = local._start(0).process
    try:
        until = time.monotonic() + 60
        while os.getpgid(process.pid) == os.getpgid(0) and time.monotonic() < until:
            time.sleep(0.02)
        assert os.getpgid(process.pid) == process.pid
    finally:
        local.cancel()


CLAIMS = """
import sys
from builder.sweep.book import Book
book = Book(sys.argv[1], "s")
print("ready", flush=True)
sys.stdin.readline()
taken = []
while (number := book.claim(abandoned=False)) is not None:
    taken.append(number)
print(*taken)
"""


def test_no_trial_is_taken_by_two_processes_at_once(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    Book.create(url, "s", ["max"], {}).fill([Axis("optimizer.lr", Numbers(1e-3, 1e-2), "", Origin())], 30, grid=False)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    takers = [subprocess.Popen([sys.executable, "-c", CLAIMS, url], **pipes) for _ in range(2)]
    for taker in takers:
        assert taker.stdout.readline() == "ready\n"
    for taker in takers:
        taker.stdin.write("go\n")
        taker.stdin.flush()
    taken = [int(number) for taker in takers for number in taker.communicate()[0].split()]
    assert sorted(taken) == list(range(30))
