"""Each option of the training loop from the command line, seen by what it does to weights, logs and files."""

import csv
import importlib.util
import json
import math

import pytest
import torch

from builder.runs.status import status
from command_line import finish, run
from command_line import start as start_process

PLAIN = (
    "model=mlp", "model.args.hidden=16", "model.args.dropout=0", "data=wine", "trainer=cpu", "trainer.max_epochs=1",
    "report=false", "~logger.tensorboard",
)  # fmt: skip
SGD = ("optimizer=sgd", "optimizer.lr=1", "optimizer.momentum=0", "optimizer.weight_decay=0")
STEP = (*SGD, "trainer.limit_train_batches=1")
"""One step, which moves the weights by their gradients."""


def refused(folder, *words):
    ran = run(folder, "train", *PLAIN, *words)
    assert ran.code == 2 and not (folder / "outputs").exists()
    return ran.err.rstrip()


def trained(folder, *words):
    ran = run(folder, "train", "--quiet", *PLAIN, *words)
    assert (ran.code, ran.err) == (0, "")
    return ran.run


def weights(folder, name="last"):
    saved = torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)
    return {name.removeprefix("model."): value for name, value in saved["state_dict"].items()}


def column(folder, name):
    with open(folder / "metrics.csv") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def moved(first, second):
    return {name: first[name] - second[name] for name in first}


def close(first, second, **tolerance):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], msg=lambda said, name=name: f"{name}: {said}", **tolerance)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The weights that training begins with."""
    return weights(trained(tmp_path_factory.mktemp("start"), *STEP, "optimizer.lr=0"))


@pytest.fixture(scope="module")
def gradient(start, tmp_path_factory):
    """The gradient of the first batch, by parameter."""
    found = moved(start, weights(trained(tmp_path_factory.mktemp("step"), *STEP)))
    assert all(value.abs().max() > 0 for value in found.values())
    return found


def test_accumulated_gradients_are_those_of_a_batch_of_twice_the_size(tmp_path):
    whole = trained(tmp_path, *SGD, "data.batch_size=32", "data.drop_last=true")
    halves = trained(
        tmp_path, *SGD, "data.batch_size=16", "trainer.limit_train_batches=6", "trainer.accumulate_grad_batches=2"
    )
    assert status(whole).step == status(halves).step == 3
    close(weights(whole), weights(halves), rtol=1e-4, atol=1e-5)


def clipped(gradient, how, bound):
    parameters = {name: torch.nn.Parameter(torch.zeros_like(value)) for name, value in gradient.items()}
    for name, parameter in parameters.items():
        parameter.grad = gradient[name].clone()
    how(parameters.values(), bound)
    return {name: parameter.grad for name, parameter in parameters.items()}


@pytest.mark.parametrize(
    ("algorithm", "by_hand"),
    [("norm", torch.nn.utils.clip_grad_norm_), ("value", torch.nn.utils.clip_grad_value_)],
)
def test_clipping_is_that_of_pytorch(algorithm, by_hand, start, gradient, tmp_path):
    words = ("trainer.gradient_clip_val=0.01", f"trainer.gradient_clip_algorithm={algorithm}")
    found = moved(start, weights(trained(tmp_path, *STEP, *words)))
    close(found, clipped(gradient, by_hand, 0.01), rtol=1e-3, atol=1e-7)


def test_clipping_by_a_selector_leaves_the_rest_as_it_is(start, gradient, tmp_path):
    words = ("callbacks=[default,clip]", "callbacks.clip.select=out", "callbacks.clip.norm=0.01")
    found = moved(start, weights(trained(tmp_path, *STEP, *words)))
    out = {name: value for name, value in gradient.items() if name.startswith("out.")}
    close(found, {**gradient, **clipped(out, torch.nn.utils.clip_grad_norm_, 0.01)}, rtol=1e-3, atol=1e-7)


def test_norms_are_logged_by_the_name_of_the_selector(gradient, tmp_path):
    words = ("callbacks=[default,norms]", "callbacks.gradients.select={head: out, all: '**'}")
    folder = trained(tmp_path, *STEP, *words, "trainer.log_every_n_steps=1")
    for name, parts in (("head", ("out.weight", "out.bias")), ("all", tuple(gradient))):
        norm = math.sqrt(sum(float(gradient[part].square().sum()) for part in parts))
        assert column(folder, f"grad_norm/{name}") == pytest.approx([norm], rel=1e-4)
    assert column(folder, "activation/body.0.act")[0] > 0


def test_mixed_precision_computes_coarsely_and_keeps_fine_weights(start, gradient, tmp_path):
    found = weights(trained(tmp_path, *STEP, "trainer.precision=bf16-mixed"))
    assert {value.dtype for value in found.values()} == {torch.float32}
    coarse = moved(start, found)
    assert any((coarse[name] - gradient[name]).abs().max() > 1e-6 for name in gradient)
    close(coarse, gradient, rtol=0.1, atol=0.02)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("64-true", torch.float64), ("bf16-true", torch.bfloat16), ("16-true", torch.float16)],
)
def test_true_precisions_are_those_of_the_weights(precision, dtype, start, gradient, tmp_path):
    found = weights(trained(tmp_path, *STEP, f"trainer.precision={precision}"))
    assert {value.dtype for value in found.values()} == {dtype}
    close(moved(start, {name: value.float() for name, value in found.items()}), gradient, rtol=0.1, atol=0.02)


def test_a_precision_that_this_device_lacks_is_refused(tmp_path):
    for precision in ("16-mixed", "16"):
        assert refused(tmp_path, f"trainer.precision={precision}") == (
            f"error: override 'trainer.precision={precision}': trainer.precision: CPUs have no 16-mixed\n"
            "  expected: bf16-mixed, 32-true or auto"
        )
    if importlib.util.find_spec("transformer_engine") is None:
        told = refused(tmp_path, "trainer.precision=transformer-engine")
        assert "trainer.precision: Lightning refuses the trainer: Requirement 'transformer_engine" in told


def test_the_callback_compiles_the_model(start, gradient, tmp_path):
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    folder = trained(tmp_path, *STEP, "callbacks=[default,compile]", "callbacks.compile.backend=eager")
    assert counters["stats"]["unique_graphs"] > 0
    close(moved(start, weights(folder)), gradient, rtol=1e-4, atol=1e-6)


def test_compile_true_is_torch_compile_with_its_defaults(tmp_path, monkeypatch):
    asked = []

    def noted(call, **arguments):
        asked.append(arguments)
        return call

    monkeypatch.setattr(torch, "compile", noted)
    trained(tmp_path, *STEP, "trainer.compile=true")
    assert asked == [{"backend": "inductor", "dynamic": None, "fullgraph": False}]
    trained(tmp_path, *STEP, "trainer.compile=true", "callbacks=[default,compile]", "callbacks.compile.backend=eager")
    assert [arguments["backend"] for arguments in asked] == ["inductor", "eager"], "once, as the callback says"


@pytest.mark.slow
def test_compile_true_trains_as_without(start, gradient, tmp_path):
    ran = finish(start_process(tmp_path, "train", "--quiet", *PLAIN, *STEP, "trainer.compile=true"), tmp_path)
    assert ran.code == 0, ran.err
    close(moved(start, weights(ran.run)), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "average", [("ema", "callbacks.ema.decay=0.5"), ("swa", "callbacks.swa.start=0.5")], ids=lambda words: words[0]
)
def test_averages_are_kept_and_tested_and_change_nothing_in_training(average, tmp_path):
    kind, setting = average
    plain = trained(tmp_path, "trainer.max_epochs=3")
    folder = trained(tmp_path, "trainer.max_epochs=3", f"callbacks=[default,{kind}]", setting)
    assert column(folder, "train/loss") == column(plain, "train/loss")
    assert column(folder, "val/loss") != column(plain, "val/loss")
    assert status(folder).metrics["test/loss"] != status(plain).metrics["test/loss"]
    assert any(not torch.equal(value, weights(plain)[name]) for name, value in weights(folder).items())


def test_two_averages_at_once_are_refused(tmp_path):
    told = refused(tmp_path, "callbacks=[default,ema,swa]")
    assert "callbacks.swa: a second average of the weights" in told and "one, as callbacks.ema is" in told


def test_early_stopping_ends_training(tmp_path):
    words = ("callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=100")
    folder = trained(tmp_path, "callbacks=[default,early_stopping]", *words, "trainer.max_epochs=20")
    assert (status(folder).state, status(folder).epoch) == ("finished", 2)


@pytest.mark.parametrize(
    "words", [("trainer.max_time={seconds: 1}",), ("callbacks=[default,time_limit]", "callbacks.time_limit.duration={seconds: 1}")]
)  # fmt: skip
def test_training_ends_when_its_time_is_over(words, tmp_path):
    folder = trained(tmp_path, *words, "trainer.max_epochs=-1")
    assert status(folder).state == "finished" and status(folder).step > 1
    assert math.isfinite(status(folder).metrics["test/loss"])


def test_rates_are_logged_by_the_names_of_their_groups(tmp_path):
    words = ("optimizer.groups=[{name: head, select: out, lr: 0.1}]", "scheduler=step", "trainer.max_epochs=2")
    folder = trained(tmp_path, *words, "optimizer.lr=0.01")
    assert column(folder, "lr/head")[0] == pytest.approx(0.1) == 10 * column(folder, "lr/default")[0]


def test_times_are_logged_by_the_parts_of_a_step(tmp_path):
    folder = trained(tmp_path, "callbacks=[default,timing]", "trainer.log_every_n_steps=2")
    parts = {name: column(folder, f"time/{name}") for name in ("step", "data", "forward", "backward", "optimizer")}
    assert all(len(values) == len(parts["step"]) > 0 and min(values) >= 0 for values in parts.values())
    assert column(folder, "time/samples_per_s")[0] == pytest.approx(16 / parts["step"][0], rel=0.5)


def test_the_guard_names_the_module_and_keeps_finite_weights(tmp_path):
    ran = run(tmp_path, "train", "--quiet", *PLAIN, *SGD, "optimizer.lr=1e30", "callbacks=[default,nan_guard]")
    assert ran.code == 1 and "error: the output of 'body.1.linear' (Linear) isn't finite, the first of" in ran.err
    (folder,) = (tmp_path / "outputs/wine_mlp").iterdir()
    assert status(folder).state == "failed"
    assert all(torch.isfinite(value).all() for value in weights(folder, "not_finite").values())


def test_finders_say_what_they_found_and_change_no_bit(tmp_path):
    plain = trained(tmp_path)
    finders = ("callbacks=[default,learning_rate_finder,batch_size_finder]", "callbacks.learning_rate_finder.steps=20")
    sizes = ("callbacks.batch_size_finder.smallest=16", "callbacks.batch_size_finder.largest=64")
    ran = run(tmp_path, "train", *PLAIN, *finders, *sizes)
    assert ran.code == 0 and "learning rate: " in ran.err and "batch size: 64 is the largest tried" in ran.err
    for name, first in (("learning_rate", "lr"), ("batch_size", "batch_size")):
        with open(ran.run / f"reports/{name}.csv") as file:
            assert len([row[first] for row in csv.DictReader(file)]) == {"lr": 20, "batch_size": 3}[first]
    close(weights(ran.run), weights(plain), rtol=0, atol=0)


def test_profilers_write_into_the_run_folder(tmp_path):
    folder = trained(tmp_path, "trainer.profiler=simple")
    assert "run_training_batch" in (folder / "profile/fit-simple.txt").read_text()
    folder = trained(tmp_path, "callbacks=[default,profile]", "callbacks.profile.wait=1")
    assert "aten::addmm" in (folder / "profile/operators.txt").read_text()
    assert json.loads((folder / "profile/trace.json").read_text())["traceEvents"]


def test_a_fast_run_makes_one_step_of_each_phase_and_leaves_no_weights(tmp_path):
    folder = trained(tmp_path, "trainer.fast_dev_run=true", "trainer.max_epochs=9")
    found = status(folder)
    assert (found.state, found.step) == ("finished", 1) and {"train/loss", "val/loss", "test/loss"} <= {*found.metrics}
    assert not (folder / "checkpoints").exists()


def test_overfitting_a_batch_brings_its_loss_down(tmp_path):
    words = ("trainer.overfit_batches=1", "trainer.max_epochs=30", "optimizer.lr=0.03")
    folder = trained(tmp_path, *words)
    losses = column(folder, "train/loss")
    assert status(folder).step == 30 and losses[-1] < 0.05 < 0.9 < losses[0]


def test_tensorboard_has_the_values_of_the_table(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ran = run(tmp_path, "train", "--quiet", *PLAIN[:-1], "trainer.max_epochs=2")
    assert (ran.code, ran.err) == (0, "")
    events = EventAccumulator(str(ran.run)).Reload()
    for name in ("train/loss", "val/accuracy", "lr"):
        assert [event.value for event in events.Scalars(name)] == pytest.approx(column(ran.run, name))
