"""Several processes, started by one command: they train as one does on the whole batch, and end together."""

import json
import signal
import socket
import time

import pytest
import torch

import builder
from builder.runs.status import status
from command_line import SMALL, finish, run, start

TWO = ("trainer.accelerator=cpu", "trainer.devices=2")
WHOLE = ("model.layers.dropout.p=0", "trainer.max_epochs=2", "trainer.limit_train_batches=8", "seed=1")
"""The default experiment, but for dropout, which draws other masks for other batches."""
TOLERANCE = {"rtol": 2e-3, "atol": 2e-4}
"""Sums are taken in another order in each process; AdamW makes of a difference in the last bit of a gradient near 0 one
of the size of its step."""


def curves(folder):
    lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    return {
        name: [float(row[name]) for row in rows if row.get(name)] for name in lines[0] if name[:3] in ("tra", "val")
    }


def weights(folder):
    saved = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    return {name.removeprefix("model."): value for name, value in saved["state_dict"].items()}


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    ran = run(tmp_path_factory.mktemp("one"), "train", "trainer=cpu", *WHOLE)
    assert ran.code == 0, ran.err
    return ran


@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_two_processes_train_the_default_experiment_as_one_does_on_the_doubled_batch(trainer, one, tmp_path):
    shared = ("trainer.shard='trunk.*'",) if trainer == "fsdp" else ()
    half = ("data.batch_size=32", f"trainer={trainer}", *TWO, *shared)
    ran = finish(start(tmp_path, "train", *WHOLE, *half), tmp_path)
    assert ran.code == 0, ran.err
    assert len(ran.out.splitlines()) == 2, "printed once"
    assert [line[:9] for line in ran.err.splitlines()] == ["epoch 1/2", "epoch 2/2"]
    assert [path.name for path in ran.run.parent.iterdir()] == [ran.run.name], "one run folder"
    assert not (ran.run / "ranks").exists()
    found, expected = curves(ran.run), curves(one.run)
    assert len(expected["train/loss"]) == 2 and found.keys() == expected.keys()
    for name, values in expected.items():
        if "loss" in name:
            torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(values), **TOLERANCE, msg=name)
    assert status(ran.run).step == status(one.run).step == 16
    assert status(ran.run).metrics["test/accuracy"] == pytest.approx(status(one.run).metrics["test/accuracy"], abs=0.02)
    builder.build(ran.run / "model.yaml").load_state_dict(weights(ran.run), strict=True)
    assert json.loads((ran.run / "reports/init.json").read_text()) == json.loads(
        (one.run / "reports/init.json").read_text()
    )


FAILING = """
import os
import builder, torch

@builder.register.layer
class Fails(torch.nn.Module):
    def forward(self, x):
        if self.training and not x.is_meta and os.environ.get("LOCAL_RANK") == "1":
            raise ValueError("no more \\x1b[31m of this")
        return x
"""


def test_a_fault_in_one_process_ends_all_and_is_told(tmp_path):
    (tmp_path / "fails.py").write_text(FAILING)
    words = ("data=wine", "+model.layers.fails=Fails", "trainer=ddp", *TWO, "--import", "fails.py")
    process = start(tmp_path, "train", *words)
    ran = finish(process, tmp_path)
    assert ran.code == 1 and ran.out == ""
    first, second = ran.err.splitlines()[-2:]
    assert first.startswith("error: process 1 of 2 failed with exit code 1: ") and first.endswith(
        "no more \\x1b[31m of this"
    )
    (folder,) = (tmp_path / "outputs/wine_mlp").iterdir()
    assert second == f"  run:      outputs/wine_mlp/{folder.name}"
    assert status(folder).state == "failed" and "no more" in status(folder).reason
    assert "ValueError" in (folder / "ranks/1.log").read_text()


LONG = ("data=wine", "trainer=ddp", *TWO, "trainer.max_epochs=200", "callbacks.progress=null", "report=false")


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unstopped")
    ran = finish(start(folder, "train", *LONG), folder)
    assert ran.code == 0, ran.err
    return ran.run


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_request_to_stop_ends_all_and_the_run_goes_on_to_the_same_bits(sign, code, unstopped, tmp_path):
    process = start(tmp_path, "train", *LONG)
    while not list(tmp_path.glob("outputs/*/*/metrics.csv")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(sign)
    ran = finish(process, tmp_path)
    (folder,) = (tmp_path / "outputs/wine_mlp").iterdir()
    assert ran.code == code, ran.err
    stands = status(folder)
    assert stands.state == "interrupted" and stands.epoch is not None and 0 < stands.epoch < 200
    ran = finish(start(tmp_path, "resume", str(folder)), tmp_path)
    assert ran.code == 0, ran.err
    assert (folder / "metrics.jsonl").read_bytes() == (unstopped / "metrics.jsonl").read_bytes()
    ours, theirs = weights(folder), weights(unstopped)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


LAUNCHED = ("train", "model=mlp", "data=wine", "trainer=ddp", *TWO, "trainer.max_epochs=2", "report=false")


def assert_one_run(folder, out, err):
    assert [line[:9] for line in err.splitlines() if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    told, place = out.splitlines()
    assert told.startswith("finished after 2 epochs, 8 steps") and place.startswith("outputs/wine_mlp/")
    assert [path.name for path in (folder / "outputs/wine_mlp").iterdir()] == [(folder / place).name], "one run folder"
    assert status(folder / place).state == "finished" and len(curves(folder / place)["train/loss"]) == 2


@pytest.mark.slow
def test_processes_that_torchrun_starts_make_one_run(tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    ran = finish(start(tmp_path, *LAUNCHED, launcher=torchrun), tmp_path)
    assert ran.code == 0, ran.err
    assert_one_run(tmp_path, ran.out, ran.err)


@pytest.mark.slow
def test_processes_that_slurm_starts_make_one_run(tmp_path):
    """The variables that `srun --ntasks 2` sets, as far as a machine without SLURM can tell."""
    task = {"JOB_ID": "7", "JOB_NAME": "train", "NTASKS": "2", "NTASKS_PER_NODE": "2", "NODEID": "0",
            "NODELIST": "localhost"}  # fmt: skip
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = {"MASTER_PORT": str(free.getsockname()[1])}
    each = [{f"SLURM_{name}": value for name, value in {**task, "PROCID": rank, "LOCALID": rank}.items()} | port
            for rank in ("0", "1")]  # fmt: skip
    processes = [start(tmp_path, *LAUNCHED, env=env) for env in each]
    first, second = (finish(process, tmp_path) for process in processes)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert (second.out, second.err) == ("", "")
    assert_one_run(tmp_path, first.out, first.err)


def test_what_a_strategy_does_not_shard_is_refused_to_be_sharded(tmp_path):
    ran = run(tmp_path, "check", "trainer=ddp", "trainer.shard='trunk.*'", *TWO)
    assert ran.code == 2 and "trainer.shard: nothing is sharded by this strategy" in ran.err
    for selector, said in (("trnk", "did you mean 'trunk'"), ("trunk", "a list that is never called")):
        ran = run(tmp_path, "check", "trainer=fsdp", f"trainer.shard={selector}", *TWO)
        assert ran.code == 2 and said in ran.err, ran.err


def test_a_sharded_run_is_not_gone_on_with_and_a_way_on_is_told(tmp_path):
    trained = run(tmp_path, "train", "--quiet", *SMALL, "trainer.max_epochs=1", "report=false").run
    config = (trained / "config.yaml").read_text()
    assert "\ntrainer:\n" in config and "strategy" not in config
    (trained / "config.yaml").write_text(config.replace("\ntrainer:\n", "\ntrainer:\n  strategy: fsdp2\n"))
    ran = run(tmp_path, "resume", str(trained), "trainer.max_epochs=2")
    assert ran.code == 2 and "trainer.strategy: a sharded run can't be gone on with" in ran.err
    way = f"load=run:{trained.parent.name}/{trained.name}@last"
    assert way in ran.err
    assert run(tmp_path, "train", "--quiet", *SMALL, "trainer.max_epochs=1", "report=false", way).code == 0
