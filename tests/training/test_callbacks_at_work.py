"""What callbacks do in a training: each is seen by what it leaves behind."""

import csv
import json
import math

import pytest
import torch
from PIL import Image
from torch import nn
from training_helpers import TASK, TRAINER, mlp, sgd, train, wine

from builder.errors import ConfigError
from builder.training.finders import steepest
from builder.training.finite import NotFinite
from builder.training.pictures import sheet

EACH = {**TRAINER, "log_every_n_steps": 1}
CSV = {"csv": "CSVLogger"}


def rows(run_dir):
    with open(run_dir / "metrics.csv") as file:
        return list(csv.DictReader(file))


def column(run_dir, name):
    return [float(row[name]) for row in rows(run_dir) if row.get(name)]


def run(tmp_path, callbacks, model=None, trainer=None, **kwargs):
    config = {"trainer": {**EACH, **(trainer or {})}, "callbacks": callbacks, "logger": CSV}
    return train(model or mlp(), tmp_path, config=config, **kwargs)


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


class Watching(torch.optim.SGD):
    """Notes the gradients that reach it."""

    def step(self, closure=None):
        loss = closure()
        self.seen.append([parameter.grad.clone() for group in self.param_groups for parameter in group["params"]])
        super().step()
        return loss


def watched(seen):
    def make(model):
        optimizer = Watching(model.parameters(), lr=0.1)
        optimizer.seen = seen
        return optimizer

    return make


def norm(gradients):
    return float(torch.cat([gradient.flatten() for gradient in gradients]).norm())


def test_gradients_of_the_selected_parameters_are_clipped_and_no_others(tmp_path):
    seen = []
    run(tmp_path, {"clip": {"type": "ClipGradients", "norm": 0.01, "select": "4"}}, optimizer=watched(seen))
    assert all(norm(gradients[-2:]) <= 0.01001 for gradients in seen)
    assert all(norm(gradients[:-2]) > 0.02 for gradients in seen)


def test_each_value_of_a_gradient_is_clipped(tmp_path):
    seen = []
    run(tmp_path, {"clip": {"type": "ClipGradients", "value": 0.001}}, optimizer=watched(seen))
    assert max(gradient.abs().max() for gradients in seen for gradient in gradients) <= 0.001


def test_a_selector_of_a_callback_that_selects_nothing_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, {"clip": {"type": "ClipGradients", "norm": 1.0, "select": {"type": "Linaer"}}})
    assert str(caught.value) == (
        "callbacks.clip.select.type: no module is of this type\n  found:    'Linaer'\n"
        "  expected: one of Sequential, Linear, BatchNorm1d, ReLU, Dropout\n  did you mean 'Linear'?"
    )


@pytest.mark.parametrize("arguments", [{}, {"norm": 1.0, "value": 1.0}, {"norm": -1.0}])
def test_a_bound_that_is_none_is_refused(arguments, tmp_path):
    with pytest.raises(ConfigError, match="callback 'ClipGradients' can't be made"):
        run(tmp_path, {"clip": {"type": "ClipGradients", **arguments}})


def test_norms_of_gradients_are_logged_by_selector(tmp_path):
    seen = []
    select = {"head": "4", "norms": {"type": "BatchNorm1d"}}
    run(tmp_path, {"norms": {"type": "GradientNorms", "select": select}}, optimizer=watched(seen))
    for name, chosen in (("head", slice(-2, None)), ("norms", slice(2, 4))):
        expected = [norm(gradients[chosen]) for gradients in seen]
        assert column(tmp_path, f"grad_norm/{name}") == pytest.approx(expected, rel=1e-5)


def test_norms_of_activations_are_logged_for_training_only_and_hooks_are_gone_afterwards(tmp_path):
    model = mlp()
    run(tmp_path, {"norms": {"type": "ActivationNorms", "select": {"type": "ReLU"}}}, model=model)
    found = column(tmp_path, "activation/2")
    assert len(found) == 8 == len(column(tmp_path, "train/loss_step")) and all(0.3 < value < 2 for value in found)
    assert not any(module._forward_hooks for module in model.modules())


def test_norms_change_no_bit_of_the_weights(tmp_path):
    plain, listened = mlp(), mlp()
    run(tmp_path / "a", {}, model=plain)
    run(tmp_path / "b", {"a": "ActivationNorms", "b": "GradientNorms", "c": "Timing", "d": "NanGuard"}, model=listened)
    assert all(map(torch.equal, weights(plain), weights(listened)))


def test_timing_divides_a_step_into_its_parts(tmp_path):
    class Slow(nn.Module):
        def forward(self, x):
            import time

            time.sleep(0.02)
            return x

    run(tmp_path, {"timing": {"type": "Timing", "tokens": "x"}}, model=nn.Sequential(Slow(), mlp()))
    parts = {name: column(tmp_path, f"time/{name}") for name in ("data", "forward", "backward", "optimizer", "step")}
    assert all(len(values) == 2 for values in parts.values())
    assert min(parts["forward"]) > 0.02 > max(parts["data"] + parts["backward"])
    assert sum(parts[name][0] for name in ("data", "forward", "backward", "optimizer")) == pytest.approx(
        parts["step"][0], rel=0.3
    )
    samples, tokens = column(tmp_path, "time/samples_per_s"), column(tmp_path, "time/tokens_per_s")
    assert 0 < samples[0] < 32 / 0.02
    assert tokens == pytest.approx([13 * value for value in samples])


def test_timing_refuses_a_tensor_that_no_batch_has(tmp_path):
    with pytest.raises(ConfigError, match="a batch has no tensor 'ids'"):
        run(tmp_path, {"timing": {"type": "Timing", "tokens": "ids"}})


class Breaks(nn.Module):
    """Multiplies by infinity, or gives a gradient that is no number, from one step on."""

    def __init__(self, step, backward=False):
        super().__init__()
        self.step, self.backward, self.calls = step, backward, 0

    def forward(self, x):
        self.calls += self.training
        if self.calls < self.step:
            return x
        return torch.sqrt(x * 0).where(x < -1e9, x) + torch.sqrt(x * 0) * 0 if self.backward else x * math.inf


@pytest.mark.parametrize("backward", [False, True])
def test_the_guard_stops_at_the_module_and_keeps_the_weights(backward, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(13, 8), Breaks(3, backward), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(NotFinite) as caught:
        run(tmp_path, {"guard": "NanGuard"}, model=model)
    where = "the gradient of '0." if backward else "the output of '1' (Breaks) isn't finite, the first of "
    assert str(caught.value).startswith(where)
    assert "in epoch 1, step 3; the weights at that step are in checkpoints/not_finite.ckpt" in str(caught.value)
    kept = torch.load(tmp_path / "checkpoints" / "not_finite.ckpt", weights_only=True)
    assert kept["global_step"] == 2
    assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())


def test_the_guard_tells_a_loss_and_a_batch_from_the_model(tmp_path):
    task = {"loss": "cross_entropy(output, target) / 0.0"}
    with pytest.raises(NotFinite, match="the loss isn't finite, though what the model gives is"):
        run(tmp_path, {"guard": "NanGuard"}, task=task)
    data = wine()
    data.splits["train"]["x"][0, 0] = math.nan
    with pytest.raises(NotFinite, match="the batch's tensor 'x' isn't finite"):
        run(tmp_path, {"guard": "NanGuard"}, data=data)


def test_finders_leave_training_as_it_would_have_been(tmp_path, capsys):
    plain, tried = mlp(), mlp()
    run(tmp_path / "a", {}, model=plain)
    finders = {
        "rate": {"type": "LearningRateFinder", "steps": 20},
        "size": {"type": "BatchSizeFinder", "smallest": 16, "largest": 100, "steps": 1},
    }
    run(tmp_path / "b", finders, model=tried)
    assert all(map(torch.equal, weights(plain), weights(tried)))
    assert column(tmp_path / "a", "train/loss_step") == column(tmp_path / "b", "train/loss_step")
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("learning rate: ") and "batch size: 64 is the largest tried, which fits, " in told[1]
    with open(tmp_path / "b/reports/batch_size.csv") as file:
        assert [row["batch_size"] for row in csv.DictReader(file)] == ["16", "32", "64"]


def test_the_rate_finder_finds_where_the_loss_falls_fastest(tmp_path, capsys):
    run(tmp_path, {"rate": {"type": "LearningRateFinder", "lowest": 1e-5, "highest": 100.0, "steps": 60}})
    with open(tmp_path / "reports/learning_rate.csv") as file:
        tried = [(float(row["lr"]), float(row["loss"])) for row in csv.DictReader(file)]
    found = float(capsys.readouterr().err.split()[2])
    assert 1e-2 < found < 10
    losses = [loss for _, loss in tried]
    assert min(losses) < 0.8 * losses[0], "it hasn't learnt anything"
    assert steepest([1, 2, 3, 4, 5], [5.0, 4.9, 3.0, 1.0, 3.0]) == 3
    assert steepest([1, 2, 3], [1.0, 2.0, 3.0]) is None


def test_the_size_finder_stops_where_memory_ends(tmp_path, capsys):
    class Greedy(nn.Module):
        def forward(self, x):
            if len(x) > 40:
                raise torch.OutOfMemoryError("no memory")
            return x

    run(
        tmp_path,
        {"size": {"type": "BatchSizeFinder", "largest": 256, "steps": 1}},
        model=nn.Sequential(Greedy(), mlp()),
    )
    assert "batch size: 32 is the largest that fits, " in capsys.readouterr().err


def test_the_model_is_compiled_and_its_weights_keep_their_names(tmp_path):
    from torch._dynamo import register_backend

    graphs = []

    @register_backend(name="noting")
    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model = mlp()
    names = list(model.state_dict())
    plain = mlp()
    run(tmp_path / "a", {}, model=plain)
    torch._dynamo.reset()
    run(tmp_path / "b", {"compile": {"type": "Compile", "backend": "noting"}}, model=model)
    assert graphs and list(model.state_dict()) == names
    for one, other in zip(weights(plain), weights(model), strict=True):
        torch.testing.assert_close(one, other)


def test_the_profile_tells_of_operators(tmp_path):
    run(tmp_path, {"profile": {"type": "Profile", "wait": 2, "steps": 2}})
    assert "aten::addmm" in (tmp_path / "profile/operators.txt").read_text()
    assert json.loads((tmp_path / "profile/trace.json").read_text())["traceEvents"]


def test_pictures_have_a_column_for_each_sample_and_a_row_for_each_expression(tmp_path):
    task = {**TASK, "tensors": {"picture": "x[:, :12].view(-1, 3, 4).sigmoid()"}}
    callback = {"type": "Pictures", "rows": ["picture", "1 - picture"], "numbers": "target", "count": 5, "every": 2}
    run(tmp_path, {"pictures": callback}, task=task)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["epoch_2.png"]
    with Image.open(tmp_path / "pictures/epoch_2.png") as picture:
        size = picture.size
    assert size == (5 * (4 * 21 + 2), 2 * (3 * 21 + 2) + 14)


def test_a_sheet_shows_the_pictures_themselves():
    pictures = torch.zeros(2, 1, 2, 2)
    pictures[1, 0, 0, 1] = 1.0
    page = sheet([pictures])
    assert page.size == (2 * 66, 66)
    assert [page.getpixel(place) for place in ((10, 10), (66 + 40, 10), (66 + 10, 10))] == [
        (0, 0, 0), (255, 255, 255), (0, 0, 0),
    ]  # fmt: skip


def test_an_expression_of_a_picture_that_names_nothing_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match="unknown name 'picture'"):
        run(tmp_path, {"pictures": {"type": "Pictures", "rows": ["picture"]}})


def noted(steps):
    def make(module):
        optimizer = sgd(module)
        optimizer.register_step_post_hook(lambda *_: steps.append(weights(module)))
        return optimizer

    return make


def saved(path, model):
    state = torch.load(path, weights_only=True)["state_dict"]
    return [state[f"model.{name}"] for name, _ in model.named_parameters()]


def all_close(first, second):
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other)


LAST = {"last": {"type": "ModelCheckpoint", "filename": "last"}}
BEST = {"best": {"type": "ModelCheckpoint", "filename": "best", "monitor": "val/loss", "mode": "min"}}


@pytest.mark.parametrize("start", [None, 3])
def test_the_moving_average_of_the_weights_is_what_is_kept_and_tested(start, tmp_path):
    steps, averaged = [], mlp(0.0)
    ema = {"type": "EMAWeightAveraging", "decay": 0.5, "update_starting_at_step": start}
    result = run(tmp_path, {"ema": ema, **LAST, **BEST}, model=averaged, optimizer=noted(steps))
    expected = steps[start or 0]
    for after in steps[(start or 0) + 1 :]:
        expected = [0.5 * old + 0.5 * new for old, new in zip(expected, after, strict=True)]
    all_close(saved(tmp_path / "checkpoints/last.ckpt", averaged), expected)
    assert result.best_checkpoint is not None
    all_close(weights(averaged), saved(result.best_checkpoint, averaged))


def test_until_the_average_begins_the_weights_themselves_are_kept(tmp_path):
    steps, model = [], mlp(0.0)
    ema = {"type": "EMAWeightAveraging", "update_starting_at_step": 10_000}
    run(tmp_path, {"ema": ema, **LAST}, model=model, optimizer=noted(steps))
    all_close(saved(tmp_path / "checkpoints/last.ckpt", model), steps[-1])
    all_close(weights(model), steps[-1])


def test_weights_at_the_ends_of_the_last_epochs_are_averaged(tmp_path):
    steps, model = [], mlp(0.0)
    swa = {"type": "MeanWeightAveraging", "start": 0.4}
    run(tmp_path, {"swa": swa, **LAST}, model=model, optimizer=noted(steps), trainer={"max_epochs": 5})
    mean = [torch.stack(values).mean(0) for values in zip(*steps[3::4][2:], strict=True)]
    assert len(steps) == 20
    all_close(saved(tmp_path / "checkpoints/last.ckpt", model), mean)
    all_close(weights(model), mean)


def test_early_stopping_stops(tmp_path):
    stop = {"type": "EarlyStopping", "monitor": "val/loss", "mode": "min", "patience": 1, "min_delta": 100.0}
    assert run(tmp_path, {"stop": stop}, trainer={"max_epochs": 20}).epoch == 2


def test_training_stops_when_its_time_is_over(tmp_path):
    limit = {"type": "Timer", "duration": {"seconds": 1}}
    result = run(tmp_path, {"limit": limit}, trainer={"max_epochs": -1})
    assert result.state == "finished" and result.step > 1 and result.seconds < 20
