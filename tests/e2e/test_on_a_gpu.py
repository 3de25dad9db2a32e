"""What a GPU does differently: runs where there is one, and skips elsewhere."""

import csv
import json

import pytest
import torch
from torch import nn

from builder.config.origin import Origins
from builder.inspect.memory import memory
from builder.optim.optimizer import build_optimizer
from builder.runs.status import status
from builder.seeding import reseed_step
from command_line import finish, run, start

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and this machine has none"),
]
SHORT = ("trainer.limit_train_batches=4", "trainer.max_epochs=1", "report=false", "~logger.tensorboard")
GPU = ("trainer=gpu", *SHORT)
EXACT = "trainer.precision=32-true"


def trained(folder, *words):
    folder.mkdir(exist_ok=True)
    ran = run(folder, "train", "--quiet", *words)
    assert (ran.code, ran.err) == (0, "")
    return ran.run


def weights(folder, name="last"):
    return torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True, map_location="cpu")["state_dict"]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def column(folder, name):
    with open(folder / "metrics.csv") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The default experiment, which has dropout and BatchNorm, for two epochs without a stop."""
    return trained(tmp_path_factory.mktemp("whole"), *GPU, EXACT, "trainer.max_epochs=2")


def test_one_gpu_trains_as_the_cpu_does_but_for_dropout(tmp_path):
    words = (*SHORT, "model.layers.dropout.p=0", EXACT)
    ours, theirs = trained(tmp_path, "trainer=gpu", *words), trained(tmp_path, "trainer=cpu", *words)
    assert json.loads((ours / "environment.json").read_text())["torch"]["devices"] == [
        torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
    ]
    assert status(ours).step == status(theirs).step == 4
    for name in ("train/loss", "val/loss"):  # convolutions on a GPU may round to TF32
        assert column(ours, name) == pytest.approx(column(theirs, name), rel=0.02)


def test_the_same_seed_gives_the_same_bits(whole, tmp_path):
    again = trained(tmp_path, *GPU, EXACT, "trainer.max_epochs=2")
    assert same(weights(again), weights(whole)) and column(again, "val/loss") == column(whole, "val/loss")


def test_a_resumed_run_ends_with_the_bits_of_one_that_was_never_stopped(whole, tmp_path):
    half = trained(tmp_path, *GPU, EXACT)
    assert not same(weights(half), weights(whole))
    ran = run(tmp_path, "resume", str(half), "trainer.max_epochs=2", "--quiet")
    assert ran.code == 0, ran.err
    assert same(weights(half), weights(whole)) and column(half, "train/loss") == column(whole, "train/loss")


def test_samples_that_lie_on_the_gpu_change_no_bit(whole, tmp_path):
    resident = trained(tmp_path, *GPU, EXACT, "trainer.max_epochs=2", "data.device=true")
    assert same(weights(resident), weights(whole))


def test_what_a_gpu_draws_follows_from_the_place_of_the_step():
    drawn = []
    for _ in range(2):
        reseed_step(3, "train", 1, 7)
        drawn.append(torch.rand(5, device="cuda"))
        torch.rand(100, device="cuda")
    reseed_step(3, "train", 1, 8)
    assert torch.equal(*drawn) and not torch.equal(drawn[0], torch.rand(5, device="cuda"))


def test_precision_auto_is_bfloat16_where_the_gpu_has_it(whole, tmp_path):
    told = "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    auto = trained(tmp_path, *GPU, "trainer.max_epochs=2")
    named = trained(tmp_path, *GPU, "trainer.max_epochs=2", f"trainer.precision={told}")
    assert same(weights(auto), weights(named))
    assert same(weights(auto), weights(whole)) == (told == "32-true")
    assert {value.dtype for value in weights(auto).values() if value.is_floating_point()} == {torch.float32}


def test_float16_with_scaled_losses_trains_and_clips(tmp_path):
    words = ("trainer.precision=16-mixed", "trainer.gradient_clip_val=0.5", "trainer.max_epochs=3")
    folder = trained(tmp_path, *GPU, *words, "trainer.limit_train_batches=1.0")
    assert all(torch.isfinite(value).all() for value in weights(folder).values())
    losses = column(folder, "train/loss")
    assert losses[-1] < losses[0]


def test_adamw_takes_fused_kernels_and_steps_as_without():
    def network(device):
        torch.manual_seed(0)
        return nn.Linear(5, 3).to(device)

    stepped = []
    for device, fused in (("cuda", True), ("cpu", None)):
        model = network(device)
        optimizer = build_optimizer(model, {"type": "AdamW", "lr": 0.1}, Origins())
        assert [group["fused"] for group in optimizer.param_groups] == [fused]
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        optimizer.step()
        stepped.append([parameter.detach().cpu() for parameter in model.parameters()])
    for ours, theirs in zip(*stepped, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_memory_told_of_weights_gradients_and_optimiser_is_what_they_take():
    def network(device):
        with torch.device(device):
            return nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(4)))

    meta = network("meta")
    told = memory(meta, torch.optim.AdamW(meta.parameters()), 0)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    model = network("cuda")
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() - before == pytest.approx(told.total, rel=0.02)


def test_times_of_a_step_wait_for_the_gpu(tmp_path):
    folder = trained(tmp_path, *GPU, "callbacks=[default,timing]", "trainer.limit_train_batches=1.0")
    parts = {name: column(folder, f"time/{name}")[0] for name in ("data", "forward", "backward", "optimizer")}
    assert min(parts.values()) >= 0 < column(folder, "time/samples_per_s")[0]
    assert sum(parts.values()) == pytest.approx(column(folder, "time/step")[0], rel=1.0)


def test_the_profile_tells_of_kernels(tmp_path):
    folder = trained(tmp_path, *GPU, "callbacks=[default,profile]", "callbacks.profile.wait=1")
    assert "CUDA" in (folder / "profile/operators.txt").read_text()


def test_finders_change_no_bit_on_a_gpu_either(tmp_path):
    plain = trained(tmp_path, *GPU, EXACT)
    words = ("callbacks=[default,learning_rate_finder,batch_size_finder]", "callbacks.batch_size_finder.largest=64")
    ran = run(tmp_path, "train", *GPU, EXACT, *words, "callbacks.learning_rate_finder.steps=10")
    assert ran.code == 0 and same(weights(ran.run), weights(plain)), ran.err


def test_what_was_trained_on_a_gpu_is_used_on_the_cpu(whole, tmp_path):
    ran = run(tmp_path, "evaluate", str(whole), "--device", "cpu", "--json")
    assert ran.code == 0, ran.err
    (accuracy,) = column(whole, "test/accuracy")
    assert json.loads(ran.out)["metrics"]["test/accuracy"] == pytest.approx(accuracy, abs=0.02)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs, and this machine has fewer")
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_two_gpus_train_as_one_does_on_the_doubled_batch(trainer, tmp_path):
    words = ("model.layers.dropout.p=0", EXACT, "trainer.limit_train_batches=4", "trainer.max_epochs=1", "seed=1")
    one = trained(tmp_path / "one", "trainer=gpu", *words)
    both = (f"trainer={trainer}", "trainer.accelerator=gpu", "trainer.devices=2", "data.batch_size=32")
    ran = finish(start(tmp_path, "train", *words, *both), tmp_path)
    assert ran.code == 0, ran.err
    assert column(ran.run, "train/loss") == pytest.approx(column(one, "train/loss"), rel=0.01)
