"""Steps without PyTorch's wrappers give PyTorch's bits, and whatever listens to a step is heard."""

import warnings

import pytest
import torch
from torch.optim import optimizer as torchs
from torch.profiler import profile

from builder.training.unwrapped import Unwrapped

OPTIMIZERS = ["SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "ASGD", "Rprop"]


def made(kind=torch.optim.AdamW, **arguments):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    return model, kind(model.parameters(), **{"lr": 0.1} | arguments)


def trained(model, optimizer, steps, count=4):
    """The weights and states after some steps that `steps` takes: an optimiser itself, or unwrapped."""
    inputs = torch.linspace(-1, 1, 20).reshape(5, 4)

    def closure():
        assert torch.is_grad_enabled()
        steps.zero_grad()
        loss = model(inputs).square().mean()
        loss.backward()
        return loss

    for _ in range(count):
        steps.step(closure)
    assert torch.is_grad_enabled()
    states = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    return [*model.state_dict().values(), *states]


def same(ours, theirs):
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("arguments", [{}, {"foreach": True}], ids=["", "foreach"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_bits_are_those_of_the_optimisers_own_step(name, arguments, monkeypatch):
    model, optimizer = made(getattr(torch.optim, name), **arguments)
    theirs = trained(model, optimizer, optimizer)
    model, optimizer = made(getattr(torch.optim, name), **arguments)
    unwrapped = Unwrapped(optimizer)
    monkeypatch.setattr(type(optimizer), "step", None)  # it isn't called
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", None)
    assert same(trained(model, optimizer, unwrapped), theirs)


def test_a_fused_optimiser_too():
    model, optimizer = made(fused=True)
    theirs = trained(model, optimizer, optimizer)
    model, optimizer = made(fused=True)
    assert same(trained(model, optimizer, Unwrapped(optimizer)), theirs)


@pytest.mark.parametrize("before", [True, False], ids=["registered before", "in the midst"])
@pytest.mark.parametrize("of", ["the optimiser", "all optimisers"])
def test_hooks_of_optimisers_are_called(of, before):
    model, optimizer = made()
    calls = []

    def register():
        if of == "the optimiser":
            return [
                optimizer.register_step_pre_hook(lambda *_: calls.append("pre")),
                optimizer.register_step_post_hook(lambda *_: calls.append("post")),
            ]
        return [
            torchs.register_optimizer_step_pre_hook(lambda *_: calls.append("pre")),
            torchs.register_optimizer_step_post_hook(lambda *_: calls.append("post")),
        ]

    handles = register() if before else []
    unwrapped = Unwrapped(optimizer)
    handles = handles or register()
    trained(model, optimizer, unwrapped, 2)
    for handle in handles:
        handle.remove()
    trained(model, optimizer, unwrapped, 1)
    assert calls == ["pre", "post"] * 2


def test_a_profiler_finds_its_labels():
    model, optimizer = made()
    unwrapped = Unwrapped(optimizer)
    with profile() as found:
        trained(model, optimizer, unwrapped, 1)
    names = {event.key for event in found.key_averages()}
    assert {"Optimizer.step#AdamW.step", "Optimizer.zero_grad#AdamW.zero_grad"} <= names


class Counting(torch.optim.SGD):
    """An optimiser of a user, around one of PyTorch's."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = []

    def step(self, closure=None):
        self.calls.append("step")
        return super().step(closure)

    def zero_grad(self, set_to_none=True):
        self.calls.append("zero_grad")
        super().zero_grad(set_to_none)


def test_what_is_overridden_is_called():
    model, optimizer = made(Counting)
    trained(model, optimizer, Unwrapped(optimizer), 2)
    assert optimizer.calls == ["step", "zero_grad"] * 2
    model, optimizer = made()
    calls, step = [], optimizer.step
    optimizer.step = lambda closure: calls.append("step") or step(closure)
    trained(model, optimizer, Unwrapped(optimizer), 2)
    assert calls == ["step"] * 2


def test_an_optimiser_with_another_decorator_is_left_as_it_is():
    model, optimizer = made(torch.optim.LBFGS)
    theirs = trained(model, optimizer, optimizer, 2)
    model, optimizer = made(torch.optim.LBFGS)
    assert same(trained(model, optimizer, Unwrapped(optimizer), 2), theirs)


def test_a_differentiable_step_keeps_its_graph():
    parameter = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([parameter.clone()], lr=0.1, differentiable=True)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(2, requires_grad=True)
    Unwrapped(optimizer).step(None)
    assert optimizer.param_groups[0]["params"][0].grad_fn is not None


def test_a_scheduler_sees_the_steps(recwarn):
    model, optimizer = made()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    trained(model, optimizer, Unwrapped(optimizer), 1)
    scheduler.step()
    assert not [str(each.message) for each in recwarn] and optimizer.param_groups[0]["lr"] < 0.1
    model, optimizer = made()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.optim.lr_scheduler.StepLR(optimizer, 1).step()
    assert caught, "PyTorch warns where no step was taken: else the first half would show nothing"
