"""Trials that train together, against the same trials trained one by one."""

import json
import os
import shutil
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sweep_helpers import TINY, results, sweep
from torch import nn
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC
from torchmetrics.wrappers import Running

from builder.sweep.vmap_model import Seen, Together
from builder.sweep.vmap_optim import clipped, has_rule, numbers_of, state_of, step_of
from builder.sweep.vmap_phase import Gathered
from command_line import run

COMPILES = shutil.which(os.environ.get("CXX", "g++")) and Path(sysconfig.get_path("include"), "Python.h").exists()
EXACT = (*TINY, "model.args.dropout=0.0", "report=false", "trainer.precision=64-true", "trainer.max_epochs=3")


def weights(folder, row, name="last"):
    saved = torch.load(folder / row["run"] / f"checkpoints/{name}.ckpt", weights_only=True)
    return saved["state_dict"]


def both(tmp_path, *words, tiny=EXACT, executor="vmap"):
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir(), alone.mkdir()
    ran = sweep(together, *words, f"sweep.executor={executor}", tiny=tiny)
    assert ran.code == 0 and "train together" in ran.err and "isn't compiled" not in ran.err, ran.err
    assert sweep(alone, *words, tiny=tiny).code == 0
    return together, alone


@pytest.mark.parametrize(
    "words",
    [
        ("optimizer.lr=1e-2,1e-3", "optimizer.weight_decay=0.0,0.1"),
        ("optimizer=sgd", "optimizer.lr=0.1,0.01", "optimizer.momentum=0.0,0.9", "trainer.gradient_clip_val=0.5"),
        ("seed=3,4", "optimizer.lr=1e-2,1e-3", "scheduler=cosine"),
        pytest.param(("optimizer.type=RMSprop", "~optimizer.betas", "optimizer.lr=1e-2,1e-3"), marks=pytest.mark.slow),
    ],
    ids=["adamw", "sgd-clipped", "seeds-cosine", "one-by-one"],
)
def test_trials_that_train_together_end_with_the_weights_of_separate_runs(words, tmp_path):
    agree(*both(tmp_path, *words))


def agree(together, alone):
    """Weights and scores of the trials are those of separate runs, to 1e-9."""
    ours, theirs = results(together), results(alone)
    assert ours.keys() == theirs.keys()
    for number, row in ours.items():
        for name in ("last", "best"):
            a, b = weights(together, row, name), weights(alone, theirs[number], name)
            assert a.keys() == b.keys()
            assert all(value.dtype == torch.float64 for value in a.values())
            assert max(float((a[key] - b[key]).abs().max()) for key in a) < 1e-9
        assert float(row["val/accuracy"]) == pytest.approx(float(theirs[number]["val/accuracy"]), abs=1e-9)


@pytest.mark.skipif(not COMPILES, reason="needs a compiler of C++ and Python's headers")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_compiled_steps_and_validation_give_those_of_separate_runs(tmp_path):
    words = ("optimizer.lr=1e-2,1e-3", "trainer.limit_train_batches=1.0", "trainer.limit_val_batches=1.0")
    agree(*both(tmp_path, *words, executor="{type: vmap, compile: true}"))


def test_where_nothing_can_be_compiled_all_is_computed_as_it_is_and_that_is_said(tmp_path, monkeypatch):
    calls = []

    def refuses(function, **options):
        def call(*parts):
            calls.append(function.__name__)
            raise RuntimeError("no compiler\nis here")

        return call

    monkeypatch.setattr(torch, "compile", refuses)
    words = (*EXACT, "optimizer.lr=1e-2,1e-3", "sweep.executor={type: vmap, compile: true}")
    ran = sweep(tmp_path, *words)
    assert ran.code == 0 and calls == ["_step", "_judge"]
    notes = [line for line in ran.err.splitlines() if "isn't compiled" in line]
    assert notes == [f"note: the {what} isn't compiled: no compiler" for what in ("step", "evaluation")]


def test_initial_weights_are_those_of_separate_runs_bit_for_bit(tmp_path):
    """With a rate of zero the last weights are the first."""
    together, alone = both(tmp_path, "seed=1,2", "optimizer.lr=0.0", "optimizer.weight_decay=0.0")
    for number, row in results(together).items():
        a, b = weights(together, row), weights(alone, results(alone)[number])
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_in_single_precision_they_agree_to_a_point_of_accuracy(tmp_path):
    words = ("trainer.limit_train_batches=1.0", "trainer.precision=32-true", "trainer.max_epochs=5", "report=false")
    tiny = ("model=mlp", "trainer=cpu", "model.args.dropout=0.0", "model.args.hidden=32", "logger.tensorboard=null")
    together, alone = both(tmp_path, *words, "optimizer.lr=1e-2,3e-3", tiny=tiny)
    for number, row in results(together).items():
        assert float(row["val/accuracy"]) == pytest.approx(float(results(alone)[number]["val/accuracy"]), abs=0.01)


def test_dropout_and_weights_of_losses_may_differ(tmp_path):
    loss = "task.loss={a: {loss: 'cross_entropy(output, target)', weight: 1.0}, b: {loss: 'output.square().mean()', weight: 0.1}}"
    words = ("model.args.dropout=0.0,0.5", "task.loss.b.weight=0.0,1.0", loss)
    ran = sweep(tmp_path, *words, "sweep.executor=vmap", tiny=(*TINY, "report=false"))
    assert ran.code == 0 and "4 trainings of 4 trials train together" in ran.err, ran.err
    found = [tuple(map(float, weights(tmp_path, row)["model.out.bias"])) for row in results(tmp_path).values()]
    assert len(set(found)) == 4


def test_a_run_of_several_is_an_ordinary_one(tmp_path):
    together, alone = both(tmp_path, "optimizer.lr=1e-2,1e-3")
    for number, row in results(together).items():
        ours, theirs = together / row["run"], alone / results(alone)[number]["run"]
        assert {path.name for path in theirs.iterdir()} - {path.name for path in ours.iterdir()} <= {
            ".lock",
            "metrics.jsonl",
        }
        ours, theirs = ((folder / "metrics.csv").read_text().splitlines() for folder in (ours, theirs))
        assert set(ours[0].split(",")) <= set(theirs[0].split(","))
    row = results(together)[0]
    found = run(together, "evaluate", row["run"], "--json")
    assert found.code == 0, found.err
    tested = json.loads((together / row["run"] / "status.json").read_text())["metrics"]
    assert json.loads(found.out)["metrics"]["test/accuracy"] == pytest.approx(tested["test/accuracy"], abs=1e-6)
    listed = run(together, "runs", "list", "outputs/sweeps/s", "--json")
    assert {Path(one["folder"]).name for one in json.loads(listed.out)} == {
        Path(row["run"]).name for row in results(together).values()
    }
    ran = run(together, "resume", row["run"])
    assert ran.code == 2 and "was trained together with other trials (executor vmap)" in ran.err
    assert f"load=run:{row['run']}@last" in ran.err
    ran = run(together, "train", *EXACT, f"load=run:{row['run']}@last")
    assert ran.code == 0, ran.err


def test_pruned_trials_are_left_out_and_the_others_train_on_as_before(tmp_path):
    """Which epochs a trial is judged by doesn't depend on the others here, so that both prune the same ones."""
    pruner = "sweep.pruner={type: threshold, lower: 0.2}"
    together, alone = both(tmp_path, "optimizer.lr=1e-2,1e-9,3e-3", "trainer.max_epochs=4", pruner)
    ours, theirs = results(together), results(alone)
    assert [row["state"] for row in ours.values()] == [row["state"] for row in theirs.values()]
    assert [row["state"] for row in ours.values()] == ["complete", "pruned", "complete"]
    assert ours[1]["reason"] == theirs[1]["reason"]
    for number in (0, 2):
        a, b = weights(together, ours[number]), weights(alone, theirs[number])
        assert max(float((a[key] - b[key]).abs().max()) for key in a) < 1e-9
    first = (together / ours[1]["run"] / "metrics.csv").read_text()
    assert "3," not in [line[:2] for line in first.splitlines()]  # it isn't logged once it is pruned
    assert weights(together, ours[1]).keys() == weights(together, ours[0]).keys()


def test_leaving_models_out_moves_what_is_left():
    models = [nn.Linear(2, 1) for _ in range(3)]
    before = [model.weight.detach().clone() for model in models]
    trials = Together(
        models, [SimpleNamespace(loss=SimpleNamespace(parts={}))] * 3,
        lambda index, model: torch.optim.SGD(model.parameters(), 0.1), device=torch.device("cpu"), dtype=torch.float32,
    )  # fmt: skip
    trials.keep([0, 2])
    trials.params["weight"].add_(1.0)
    changed = [model.weight.detach() - old for model, old in zip(models, before, strict=True)]
    assert [float(one.abs().max()) > 0.5 for one in changed] == [True, False, True]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("model=cnn", "model.args.channels=4", "model.args.depth=1"), "running statistics"),
        (("trainer.accumulate_grad_batches=2",), "trainer.accumulate_grad_batches: 2"),
        (("callbacks=[default,ema]",), "callback EMAWeightAveraging"),
    ],
    ids=["batch-norm", "trainer", "callback"],
)
def test_what_cannot_train_together_says_why_and_trains_alone(words, reason, tmp_path):
    tiny = [word for word in (*TINY, "report=false") if word != "model=mlp" or "model=cnn" not in words]
    ran = sweep(tmp_path, "optimizer.lr=1e-2,1e-3", *words, "sweep.executor=vmap", tiny=tiny)
    assert ran.code == 0 and "note: trials train alone: " in ran.err and reason in ran.err, ran.err
    assert all(row["state"] == "complete" for row in results(tmp_path).values())


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (torch.optim.SGD, [{"lr": 0.1}, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1, "dampening": 0.1}]),
        (torch.optim.Adam, [{"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3}]),
        (torch.optim.AdamW, [{"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3}]),
    ],
)
def test_a_rule_steps_as_the_optimisers_of_pytorch_do(kind, numbers):
    torch.manual_seed(0)
    models = [nn.Linear(3, 2).double() for _ in numbers]
    params = {
        name: torch.stack([dict(m.named_parameters())[name].detach().clone() for m in models])
        for name in ("weight", "bias")
    }
    optimizers = [kind(model.parameters(), **given) for model, given in zip(models, numbers, strict=True)]
    assert has_rule(optimizers)
    step, state = step_of(optimizers, {"weight": 0, "bias": 0}), state_of(kind, params)
    for number in range(1, 6):
        grads = {name: torch.randn_like(value) for name, value in params.items()}
        for index, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            for name, parameter in model.named_parameters():
                parameter.grad = grads[name][index].clone()
            optimizer.step()
        step(params, grads, state, numbers_of(optimizers, number, params["bias"]))
        for index, model in enumerate(models):
            for name, parameter in model.named_parameters():
                assert torch.allclose(params[name][index], parameter, rtol=0, atol=1e-12)


def test_each_model_has_its_own_norm():
    grads = {"a": torch.randn(3, 4, 2), "b": torch.randn(3, 5)}
    found = clipped(grads, 1.0)
    for index in range(3):
        one = [nn.Parameter(torch.zeros(4, 2)), nn.Parameter(torch.zeros(5))]
        one[0].grad, one[1].grad = grads["a"][index].clone(), grads["b"][index].clone()
        nn.utils.clip_grad_norm_(one, 1.0)
        assert torch.allclose(found["a"][index], one[0].grad) and torch.allclose(found["b"][index], one[1].grad)


def last_sum():
    """The sum of the last update alone: joined updates would give another."""
    return Running(SumMetric(), window=1)


@pytest.mark.parametrize("sizes", [(64, 64, 17), (64,)])
@pytest.mark.parametrize(
    "metric",
    [
        pytest.param(lambda: MulticlassAccuracy(4, average="micro"), id="sums"),
        pytest.param(lambda: MulticlassAUROC(4), id="keeps all samples"),
        pytest.param(last_sum, id="counts updates"),
    ],
)
def test_metrics_of_several_models_are_those_of_metrics_updated_one_by_one(metric, sizes):
    """The reference: a metric of torchmetrics for each model, updated batch by batch."""
    torch.manual_seed(0)
    task = SimpleNamespace(metrics={"m": SimpleNamespace(make=metric, of=())}, loss=SimpleNamespace(terms={}))
    models, losses = 3, []
    gathered, theirs = Gathered("val", [task] * models, torch.device("cpu")), [metric() for _ in range(models)]
    for size in sizes:
        loss, scores = torch.rand(models), torch.randn(models, size, 4).softmax(dim=-1)
        given = (scores[..., 0],) if metric is last_sum else (scores, torch.randint(4, (models, size)))
        gathered.add(Seen(loss, {}, {"m": given}, None), {}, size, apart=False)
        losses.append(loss * size)
        for index, one in enumerate(theirs):
            one.update(*(value[index] for value in given))
    values = gathered.values()
    assert [value["val/m"] for value in values] == [float(one.compute()) for one in theirs]
    assert len({value["val/m"] for value in values}) == models
    mean = sum(losses) / sum(sizes)
    assert [value["val/loss"] for value in values] == pytest.approx(mean.tolist())
    assert gathered.values() == [{}] * models
