"""Hooks from the config: each kind does what hooks written by hand do, bit for bit, and leaves nothing behind."""

import csv
import json

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from torch import nn
from training_helpers import mlp, train

from builder.config.origin import Origins
from builder.errors import ConfigError
from builder.hashing import derive
from builder.registry import hooks as registered
from builder.training.hooks.callback import Hooks
from builder.training.hooks.plan import plan_hooks
from builder.training.hooks.statistics import BINS, histogram
from command_line import SMALL, run

NAMES = ("mean", "std", "norm", "zeros", "non_finite")
TRAINER = {"max_epochs": 2, "accelerator": "cpu", "log_every_n_steps": 1}
LOGGER = {"csv": {"type": "CSVLogger"}}


def by_hand(tensor):
    """The statistics, as one writes them."""
    return {
        "mean": tensor.mean().item(),
        "std": tensor.std(unbiased=False).item(),
        "norm": tensor.norm().item(),
        "zeros": (tensor == 0).float().mean().item(),
        "non_finite": (~tensor.isfinite()).sum().item(),
    }


def planned(model, section, **config):
    shapes = {name: () for name, module in model.named_modules() if not isinstance(module, nn.ModuleList)}
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return plan_hooks({"hooks": section, **config}, Origins(), model, given=shapes, trainable=names)


def hooked(model, folder, section, *, trainer=None, callbacks=(), seed=0, config=None):
    hooks = planned(model, section)
    config = {"trainer": TRAINER | (trainer or {}), "logger": LOGGER, **(config or {})}
    return train(model, folder, config=config, callbacks=[Hooks(hooks, seed, folder), *callbacks], seed=seed)


def plainly(model, folder, *callbacks, trainer=None):
    return train(model, folder, config={"trainer": TRAINER | (trainer or {}), "logger": LOGGER}, callbacks=callbacks)


def column(folder, name):
    with open(folder / "metrics.csv") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one, other):
    return all(map(torch.equal, weights(one), weights(other)))


class Written(pl.Callback):
    """Hooks written by hand, on a module of the model for each batch of training."""

    def __init__(self, **hooks):
        self.hooks, self.handles = hooks, []

    def on_train_batch_start(self, trainer, pl_module, *rest):
        for method, (name, function) in self.hooks.items():
            module = pl_module.model.get_submodule(name)
            self.handles.append(getattr(module, f"register_{method}")(function))

    def on_train_batch_end(self, *rest):
        for handle in self.handles:
            handle.remove()
        self.handles = []


@pytest.mark.parametrize("every", [1, 3])
def test_statistics_of_activations_are_those_of_a_forward_hook(every, tmp_path):
    seen, model, other = [], mlp(), mlp()
    section = {"act": {"select": "2", "record": list(NAMES), "every_n_steps": every}}
    hooked(model, tmp_path / "a", section)
    plainly(other, tmp_path / "b", Written(forward_hook=("2", lambda m, i, out: seen.append(by_hand(out.detach())))))
    due = seen[every - 1 :: every]
    for name in NAMES:
        assert column(tmp_path / "a", f"activations/2/{name}") == [each[name] for each in due]
    assert same(model, other) and len(due) == 8 // every


def test_statistics_of_gradients_are_those_of_a_full_backward_hook(tmp_path):
    seen, model, other = [], mlp(), mlp()
    hooked(model, tmp_path / "a", [{"select": "1", "record": list(NAMES), "of": "gradients", "every_n_steps": 1}])
    hook = lambda module, grad_input, grad_output: seen.append(by_hand(grad_output[0]))  # noqa: E731
    plainly(other, tmp_path / "b", Written(full_backward_hook=("1", hook)))
    for name in NAMES:
        assert column(tmp_path / "a", f"gradients/1/{name}") == [each[name] for each in seen]
    assert same(model, other) and len(seen) == 8


class Steps(pl.Callback):
    """Weights before each step, their gradients in it, and the weights after it."""

    def __init__(self):
        self.before, self.gradients, self.after = [], [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.before.append(weights(pl_module.model))
        self.gradients.append([parameter.grad.clone() for parameter in pl_module.model.parameters()])

    def on_train_batch_end(self, trainer, pl_module, *rest):
        if trainer.global_step > len(self.after):
            self.after.append(weights(pl_module.model))


@pytest.mark.parametrize("accumulated", [1, 3])
def test_statistics_of_weights_gradients_and_updates_are_those_of_whole_steps(accumulated, tmp_path):
    steps, model = Steps(), mlp()
    section = {of: {"record": ["norm", "mean"], "of": of, "every_n_steps": 1} for of in ("weights", "updates")}
    section["g"] = {"select": "0", "record": "norm", "of": "weight_gradients", "every_n_steps": 2}
    hooked(model, tmp_path, section, callbacks=[steps], trainer={"accumulate_grad_batches": accumulated})
    assert len(steps.after) == 2 * -(-4 // accumulated)
    assert column(tmp_path, "weights/0.weight/norm") == [after[0].norm().item() for after in steps.after]
    moved = [(after[1] - before[1]).mean().item() for before, after in zip(steps.before, steps.after, strict=True)]
    assert column(tmp_path, "updates/0.bias/mean") == moved
    assert column(tmp_path, "weight_gradients/0.bias/norm") == [g[1].norm().item() for g in steps.gradients[1::2]]


def test_what_is_accumulated_is_looked_at_in_the_first_micro_batch(tmp_path):
    seen = []
    hooked(mlp(), tmp_path / "a", {"x": {"select": "0", "record": "mean", "every_n_steps": 1}},
           trainer={"accumulate_grad_batches": 2})  # fmt: skip
    hook = Written(forward_hook=("0", lambda module, inputs, output: seen.append(output.mean().item())))
    plainly(mlp(), tmp_path / "b", hook, trainer={"accumulate_grad_batches": 2})
    assert column(tmp_path / "a", "activations/0/mean") == seen[::2]


def test_a_module_that_is_called_twice_and_several_outputs_have_names_of_their_own(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.fc = nn.LSTM(13, 13, batch_first=True), nn.Linear(13, 3)

        def forward(self, x):
            y, _ = self.lstm(x[:, None])
            return self.fc(y[:, 0]) + self.fc(x)

    hooked(Twice(), tmp_path, {"x": {"record": "mean", "every_n_steps": 4}})
    with open(tmp_path / "metrics.csv") as file:
        names = {name for name in csv.DictReader(file).fieldnames if name.startswith("activations")}
    expected = ["fc", "fc#2", "lstm.0", "lstm.1.0", "lstm.1.1"]
    assert names == {f"activations/{name}/mean" for name in expected}


def test_gradients_are_heard_before_activations_in_place(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(13, 16), nn.ReLU(inplace=True), nn.Linear(16, 3))
    hooked(model, tmp_path, {"x": {"record": "norm", "of": "gradients", "every_n_steps": 1}})
    assert len(column(tmp_path, "gradients/0/norm")) == 8


def test_histograms_reach_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = []
    config = {"logger": {"tensorboard": {"type": "TensorBoardLogger"}}}
    model = mlp()
    hooks = plan_hooks(
        {"hooks": {"x": {"select": "0", "record": ["histogram"], "every_n_steps": 4}}, **config},
        Origins(), model, given=None, trainable=(),
    )  # fmt: skip
    hook = Written(forward_hook=("0", lambda module, inputs, output: seen.append(output.detach().clone())))
    train(model, tmp_path, config={"trainer": TRAINER, **config}, callbacks=[Hooks(hooks, 0, tmp_path), hook])
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0}).Reload().Histograms("activations/0")
    assert [event.step for event in events] == [3, 7]
    for event, tensor in zip(events, seen[3::4], strict=True):
        value = event.histogram_value
        assert (value.num, value.min, value.max) == (tensor.numel(), tensor.min().item(), tensor.max().item())
        assert value.sum == pytest.approx(tensor.sum().item(), rel=1e-4, abs=1e-3)


def test_a_histogram_counts_what_lies_in_each_bin():
    tensor = torch.tensor([0.0, 1.0, 1.0, 31.0, 64.0, float("nan"), float("inf")])
    found = histogram(tensor)
    assert torch.equal(found.counts, torch.histc(tensor[:5], BINS).long())
    assert found.edges == list(map(float, range(65)))
    assert histogram(torch.full((3,), 2.0)).counts.sum() == 3
    assert histogram(torch.tensor([float("nan")])) is None


def clipped(bound):
    def hook(module, gradients):
        norm = gradients[0].norm()
        return (gradients[0] * torch.clamp(bound / (norm + 1e-6), max=1.0),)

    return hook


ON_OUTPUTS = {
    "clip norm": ({"clip": {"norm": 0.001}}, clipped(0.001)),
    "clip value": ({"clip": {"value": 0.001}}, lambda module, g: (g[0].clamp(-0.001, 0.001),)),
    "scale": ({"scale": 0.3}, lambda module, g: (g[0] * 0.3,)),
    "zero": ({"zero": True}, lambda module, g: (torch.zeros_like(g[0]),)),
}


@pytest.mark.parametrize("name", ON_OUTPUTS)
def test_gradients_of_outputs_are_changed_as_by_a_full_backward_pre_hook(name, tmp_path):
    section, hook = ON_OUTPUTS[name]
    model, other, untouched = mlp(), mlp(), mlp()
    hooked(model, tmp_path / "a", {"x": {"select": "1", "of": "gradients", **section}})
    plainly(other, tmp_path / "b", Written(full_backward_pre_hook=("1", hook)))
    plainly(untouched, tmp_path / "c")
    assert same(model, other) and not same(model, untouched)


class Before(pl.Callback):
    """Does something to the parameters of a layer before each optimiser step."""

    def __init__(self, change):
        self.change = change

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.change(dict(pl_module.model[0].named_parameters(prefix="0")), trainer.global_step)


def noisy(parameters, step):
    for name, parameter in parameters.items():
        generator = torch.Generator().manual_seed(derive(0, "hooks", "x", step, name))
        parameter.grad += 0.1 * torch.randn(parameter.shape, generator=generator)


ON_WEIGHTS = {
    "clip norm": ({"clip": {"norm": 0.01}}, lambda p, step: nn.utils.clip_grad_norm_(p.values(), 0.01)),
    "clip value": ({"clip": {"value": 0.001}}, lambda p, step: nn.utils.clip_grad_value_(p.values(), 0.001)),
    "scale": ({"scale": 2}, lambda p, step: [each.grad.mul_(2) for each in p.values()]),
    "zero": ({"zero": True}, lambda p, step: [each.grad.zero_() for each in p.values()]),
    "noise": ({"noise": {"std": 0.1}}, noisy),
    "every other step": ({"zero": True, "every_n_steps": 2},
                         lambda p, step: [each.grad.zero_() for each in p.values() if step % 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", ON_WEIGHTS)
def test_gradients_of_weights_are_changed_as_by_hand(name, tmp_path):
    section, change = ON_WEIGHTS[name]
    model, other, untouched = mlp(), mlp(), mlp()
    hooked(model, tmp_path / "a", {"x": {"select": "0", **section}}, trainer={"accumulate_grad_batches": 2})
    plainly(other, tmp_path / "b", Before(change), trainer={"accumulate_grad_batches": 2})
    plainly(untouched, tmp_path / "c", trainer={"accumulate_grad_batches": 2})
    assert same(model, other) and not same(model, untouched)


def test_noise_is_a_function_of_seed_and_step_and_draws_from_no_global_generator(tmp_path):
    section = {"x": {"select": "0", "noise": {"std": 0.01}, "of": "gradients"}}
    one, again, other, plain = mlp(), mlp(), mlp(), mlp()
    hooked(one, tmp_path / "a", section)
    hooked(again, tmp_path / "b", section)
    hooks = planned(other, section)
    config = {"trainer": TRAINER, "logger": LOGGER}
    train(other, tmp_path / "c", config=config, callbacks=[Hooks(hooks, 1, tmp_path)])
    plainly(plain, tmp_path / "d")
    assert same(one, again) and not same(one, other) and not same(one, plain)
    # dropout draws what it would have drawn: the first step's loss is that of the plain run
    assert column(tmp_path / "a", "train/loss_step")[0] == column(tmp_path / "d", "train/loss_step")[0]


def test_saved_activations_are_what_a_forward_hook_sees_and_the_newest_are_kept(tmp_path):
    seen = []
    section = {"kept": {"select": ["0", "2"], "save": "activations", "every_n_steps": 2, "keep": 3}}
    hooked(mlp(), tmp_path, section)
    hook = lambda module, inputs, output: seen.append(output.detach().clone())  # noqa: E731
    plainly(mlp(), tmp_path / "b", Written(forward_hook=("0", hook)))
    files = sorted((tmp_path / "hooks/kept").iterdir())
    assert [file.name for file in files] == [f"step_{step:08d}.safetensors" for step in (3, 5, 7)]
    for file, expected in zip(files, seen[3::2], strict=True):
        saved = load_file(file)
        assert set(saved) == {"0", "2"} and torch.equal(saved["0"], expected)


def test_saved_gradients_are_what_a_full_backward_hook_sees(tmp_path):
    seen = []
    hooked(mlp(), tmp_path, {"g": {"select": "4", "save": "gradients", "every_n_steps": 8}})
    hook = lambda module, grad_input, grad_output: seen.append(grad_output[0].clone())  # noqa: E731
    plainly(mlp(), tmp_path / "b", Written(full_backward_hook=("4", hook)))
    assert torch.equal(load_file(tmp_path / "hooks/g/step_00000007.safetensors")["4"], seen[7])


def test_shapes_are_printed_once(tmp_path, capsys):
    hooked(mlp(), tmp_path, {"x": {"select": ["0", "4"], "print": "shapes"}})
    assert capsys.readouterr().err == "0: [32, 13] → [32, 16]\n4: [32, 16] → [32, 3]\n"


@pytest.fixture
def own_hooks():
    def doubled(value, place, factor=2.0):
        place.log(f"largest/{place.of}/{place.name}", value.abs().max())
        return value * factor

    registered.register("doubled_tested", doubled)
    yield
    del registered._entries["doubled_tested"]


@pytest.mark.parametrize("of", ["activations", "gradients", "weight_gradients"])
def test_functions_of_users_see_and_change_what_hooks_by_hand_do(of, own_hooks, tmp_path):
    model, other = mlp(), mlp()
    layer = "1" if of == "gradients" else "0"  # PyTorch warns of such hooks on a layer whose input needs no gradient
    hooked(model, tmp_path / "a", {"x": {"select": layer, "type": "doubled_tested", "of": of, "factor": 3.0}})
    written = {
        "activations": Written(forward_hook=("0", lambda module, inputs, output: output * 3.0)),
        "gradients": Written(full_backward_pre_hook=(layer, lambda module, g: (g[0] * 3.0,))),
        "weight_gradients": Before(lambda p, step: [each.grad.mul_(3.0) for each in p.values()]),
    }[of]
    plainly(other, tmp_path / "b", written)
    assert same(model, other)
    name = "0.weight" if of == "weight_gradients" else layer
    assert len(column(tmp_path / "a", f"largest/{of}/{name}")) == 8


def test_dead_units_are_those_that_are_zero_for_the_whole_batch(tmp_path):
    seen = []
    hooked(mlp(), tmp_path / "a", {"x": {"select": "2", "type": "dead_units"}})
    hook = lambda module, inputs, out: seen.append((out == 0).all(dim=0).float().mean().item())  # noqa: E731
    plainly(mlp(), tmp_path / "b", Written(forward_hook=("2", hook)))
    assert column(tmp_path / "a", "dead_units/2") == seen


def test_nothing_is_registered_between_due_steps_and_nothing_is_left(tmp_path):
    class Count(pl.Callback):
        counts = []

        def on_before_backward(self, trainer, pl_module, loss):
            self.counts.append(sum(len(module._forward_hooks) for module in pl_module.model.modules()))

        def on_validation_batch_start(self, trainer, pl_module, *rest):
            assert not any(module._forward_hooks for module in pl_module.model.modules())

    model = mlp()
    section = {
        "x": {"record": "mean", "every_n_steps": 4},
        "y": {"record": "mean", "of": "gradients", "every_n_steps": 4},
    }
    hooked(model, tmp_path, section, callbacks=[Count()])
    assert Count.counts == [0, 0, 0, 10] * 2
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


def test_nothing_is_left_after_an_exception(tmp_path):
    class Breaks(pl.Callback):
        def on_before_backward(self, trainer, pl_module, loss):
            raise RuntimeError("broken")

    model = mlp()
    with pytest.raises(RuntimeError, match="broken"):
        hooked(model, tmp_path, {"x": {"record": "mean", "every_n_steps": 1}}, callbacks=[Breaks()])
    assert not any(module._forward_hooks for module in model.modules())


WRONG = {
    "select": ({"select": "5", "record": "mean"}, "hooks.x.select: no module or parameter has such a name"),
    "both": ({"scale": 2, "zero": True}, "hooks.x: a hook does one thing: scale and zero are 2"),
    "none": ({"recrod": ["mean"]}, "did you mean 'record' or 'zero'?"),
    "statistic": ({"record": ["maen"]}, "did you mean 'mean'?"),
    "of": ({"record": "mean", "of": "gradeints"}, "did you mean 'gradients' or 'weight_gradients'?"),
    "key": ({"record": "mean", "evry_n_steps": 3}, "did you mean 'every_n_steps'?"),
    "every": ({"record": "mean", "every_n_steps": 0}, "a whole number above 0"),
    "bound": ({"clip": {"norm": -1}}, "one bound above 0"),
    "std": ({"noise": 0.1}, "{std: 0.01}, a standard deviation above 0"),
    "one": ({"scale": 1}, "a scale of 1 changes nothing"),
    "parameters": ({"select": "2", "scale": 2}, "this hook is about nothing: it selects no parameters"),
    "modules": ({"select": {"ndim": 1}, "record": "mean"}, "and it selects parameters only"),
    "frozen": ({"select": "4", "zero": True}, "none of the parameters that it selects is ever trained"),
    "histogram": ({"record": "histogram"}, "no logger takes histograms"),
    "function": ({"type": "dead_unit"}, "did you mean 'dead_units'?"),
    "argument": ({"type": "dead_units", "dmi": 2}, "did you mean 'dim'?"),
    "print": ({"print": "shape"}, "did you mean 'shapes'?"),
    "twice": ({"save": "activations", "of": "gradients"}, "'save' says already of what"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told(name):
    section, message = WRONG[name]
    model = mlp()
    model[4].requires_grad_(name != "frozen")
    with pytest.raises(ConfigError) as caught:
        planned(model, {"x": section})
    assert message in str(caught.value)


def test_what_cannot_work_together_is_told():
    with pytest.raises(ConfigError, match="can't be had under torch.compile"):
        planned(mlp(), {"x": {"record": "mean"}}, callbacks={"compile": {"type": "Compile"}})
    planned(mlp(), {"x": {"record": "mean", "of": "weights"}}, callbacks={"compile": {"type": "Compile"}})
    with pytest.raises(ConfigError, match="multiplied by a scale in 16-bit precision"):
        planned(mlp(), {"x": {"clip": {"value": 1}, "of": "gradients"}}, trainer={"precision": "16-mixed"})
    with pytest.raises(ConfigError, match="a file would hold about 0.763 MiB"):
        plan_hooks(
            {"hooks": {"x": {"select": "0", "save": "activations", "max_mb": 0.5}}}, Origins(), mlp(),
            given={"0": [(2, 1000)]}, trainable=(), growth=100,
        )  # fmt: skip


def test_a_compiled_model_is_refused_where_it_would_not_be_heard(tmp_path):
    model = mlp()
    model.compile(backend="eager")
    with pytest.raises(ConfigError, match="compiled as a whole"):
        hooked(model, tmp_path, {"x": {"record": "mean"}})


def test_weights_are_recorded_under_compile(tmp_path):
    model, plain = mlp(0.0), mlp(0.0)
    config = {"callbacks": {"compile": {"type": "Compile", "backend": "eager"}}}
    section = {"x": {"select": "4", "record": "norm", "of": "weight_gradients", "every_n_steps": 1}}
    hooked(model, tmp_path / "a", section, config=config)
    hooked(plain, tmp_path / "b", section)
    name = "weight_gradients/4.weight/norm"
    assert column(tmp_path / "a", name) == pytest.approx(column(tmp_path / "b", name))


def test_hooks_of_a_config_are_checked_and_work_in_a_run(tmp_path):
    ran = run(
        tmp_path, "train", *SMALL, "hooks=statistics", "hooks.activations.every_n_steps=7", "hooks.gradients=null"
    )
    assert ran.code == 0, ran.err
    found = column(ran.run, "activations/out/norm")
    assert len(found) == 40 // 7
    ran = run(tmp_path, "check", *SMALL, "hooks=statistics", "hooks.activations.select=outt")
    assert ran.code == 2 and "hooks.activations.select: no module or parameter has such a name" in ran.err
    assert "did you mean 'out'" in ran.err


@pytest.mark.parametrize("choice", ["activations", "gradient_noise", "histograms", "shapes", "statistics", "updates"])
def test_every_shipped_choice_fits_a_model(choice, tmp_path):
    ran = run(tmp_path, "check", "--json", *SMALL, f"hooks={choice}")
    assert ran.code == 0 and json.loads(ran.out)["ok"], ran.out


def test_a_run_with_hooks_trains_the_weights_of_one_without(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, words in zip(folders, [("hooks=statistics", "hooks.activations.every_n_steps=3"), ()], strict=True):
        folder.mkdir()
        assert run(folder, "train", *SMALL, *words).code == 0
    saved = [
        torch.load(next(folder.glob("outputs/*/*/checkpoints/last.ckpt")), weights_only=True) for folder in folders
    ]
    for name, value in saved[0]["state_dict"].items():
        assert torch.equal(value, saved[1]["state_dict"][name])
