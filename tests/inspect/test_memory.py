"""The estimated memory is what real tensors and real optimisers take."""

import pytest
import torch
from torch import nn

from builder.inspect.memory import memory, optimizer_state_bytes

OPTIMIZERS = {
    "plain SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "SGD with momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "AMSGrad": lambda parameters: torch.optim.Adam(parameters, amsgrad=True),
    "fused AdamW": lambda parameters: torch.optim.AdamW(parameters, fused=True),
    "RMSprop": torch.optim.RMSprop,
    "centred RMSprop": lambda parameters: torch.optim.RMSprop(parameters, momentum=0.9, centered=True),
    "Adagrad": torch.optim.Adagrad,
    "NAdam": torch.optim.NAdam,
}


def network(device="cpu", dtype=torch.float32):
    with torch.device(device):
        return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3, bias=False)).to(dtype)


def state_bytes(optimizer):
    """What the state of an optimiser takes after a real step."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return sum(value.nbytes for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_an_optimiser_is_that_after_a_real_step(name):
    estimated = optimizer_state_bytes(OPTIMIZERS[name](network("meta").parameters()))
    assert estimated == state_bytes(OPTIMIZERS[name](network().parameters()))


def test_adam_keeps_two_numbers_a_parameter_and_a_step_count_a_tensor():
    assert optimizer_state_bytes(torch.optim.AdamW(network("meta").parameters())) == 2 * 4 * (42 + 14 + 21) + 5 * 4


def test_parameters_in_half_precision_have_half_the_state():
    half = optimizer_state_bytes(torch.optim.AdamW(network("meta", torch.bfloat16).parameters()))
    assert half == state_bytes(torch.optim.AdamW(network(dtype=torch.bfloat16).parameters()))


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, torch.optim.ASGD])
def test_the_state_of_an_optimiser_that_needs_values_is_not_known(kind):
    model = network("meta")
    optimizer = kind(model.parameters())
    assert optimizer_state_bytes(optimizer) is None
    assert memory(model, optimizer, 100).total == 4 * (2 * (42 + 14 + 21) + 14) + 8 + 100


def test_weights_are_parameters_and_buffers_and_gradients_those_that_are_trained():
    model, real = network("meta"), network()
    model[2].weight.requires_grad = False
    found = memory(model, None, None)
    assert found.weights == sum(tensor.nbytes for tensor in real.state_dict().values())
    assert found.gradients == sum(parameter.nbytes for parameter in real[:2].parameters())
    assert (found.optimizer, found.optimizer_state, found.activations) == ("", 0, None)


def test_tied_parameters_count_once():
    model = nn.Sequential(nn.Linear(4, 4, device="meta"), nn.Linear(4, 4, device="meta"))
    model[1].weight = model[0].weight
    assert memory(model, None, 0).weights == 4 * (16 + 4 + 4)
    assert optimizer_state_bytes(torch.optim.SGD(model.parameters(), lr=1, momentum=0.9)) == 4 * (16 + 4 + 4)
