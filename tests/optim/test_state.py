import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_helpers import Tied, build, same, train, vit, weights
from torch import nn

from builder.errors import RunError
from builder.registry import optimizers
from builder.training.checkpoint import check_plain

ADAM = {"type": "AdamW", "lr": 0.01}
GROUPS = {**ADAM, "groups": [{"name": "head", "select": "head", "lr": 0.1}], "no_decay": {"ndim": 1}}


def moments(model, optimizer):
    """The state by name, as it lies in the optimiser."""
    return {
        name: optimizer.state[parameter] for name, parameter in model.named_parameters() if optimizer.state[parameter]
    }


def equal(one, other):
    """Whether states are the same, bit by bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def trained(steps=5, model=None, **section):
    model = model or vit()
    optimizer = build(model, **(section or GROUPS))
    train(model, optimizer, steps)
    return model, optimizer


def saved(optimizer):
    return copy.deepcopy(optimizer.state_dict())


def refused(optimizer, state):
    with pytest.raises(RunError) as caught:
        optimizer.load_state_dict(state)
    return str(caught.value)


@pytest.mark.parametrize("section", [ADAM, GROUPS, {"type": "SGD", "lr": 0.1, "momentum": 0.9, "layer_decay": 0.5}])
def test_a_resumed_training_ends_with_the_bits_of_one_that_was_not_stopped(section):
    whole, _ = trained(12, **section)
    half, optimizer = trained(5, **section)
    resumed = vit()
    again = build(resumed, **section)
    resumed.load_state_dict(half.state_dict())
    again.load_state_dict(saved(optimizer))
    train(resumed, again, 7, start=5)
    assert same(weights(resumed), weights(whole))


@pytest.mark.parametrize("name", [name for name in optimizers.names() if "Tested" not in name])
def test_every_optimiser_continues_bit_by_bit(name):
    torch.manual_seed(0)
    first = nn.Embedding(5, 4, sparse=True) if name == "SparseAdam" else nn.Linear(4, 4, bias=False)
    models = [first, copy.deepcopy(first), copy.deepcopy(first)]
    given = [build(model, type=name) for model in models]

    def steps(model, optimizer, start, end):
        for step in range(start, end):
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            x = (x.abs() * 2).long().clamp(max=4) if name == "SparseAdam" else x

            def closure(x=x):
                optimizer.zero_grad()
                loss = model(x).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)

    steps(models[0], given[0], 0, 6)
    steps(models[1], given[1], 0, 3)
    check_plain(given[1].state_dict())
    given[2].load_state_dict(copy.deepcopy(given[1].state_dict()))
    models[2].load_state_dict(models[1].state_dict())
    steps(models[2], given[2], 3, 6)
    assert torch.equal(models[0].weight, models[2].weight)


def test_names_are_saved_once_and_all_is_plain():
    _, optimizer = trained()
    state = optimizer.state_dict()
    assert set(state) == {"state", "param_groups"}
    names = [name for group in state["param_groups"] for name in group["param_names"]]
    assert sorted(names) == sorted(name for name, _ in vit().named_parameters())
    assert [group["name"] for group in state["param_groups"]] == [
        "head", "head/no_decay", "default", "default/no_decay",
    ]  # fmt: skip
    check_plain(state)


def test_pytorch_itself_can_load_the_state():
    model, optimizer = trained(**ADAM)
    stock = torch.optim.AdamW(model.parameters(), lr=0.01)
    stock.load_state_dict(saved(optimizer))
    assert equal({k: stock.state[p] for k, p in model.named_parameters()}, moments(model, optimizer))


def test_layers_in_another_order_find_their_moments():
    model, optimizer = trained(**ADAM)
    other = vit(stem_last=True)
    again = build(other, **ADAM)
    again.load_state_dict(saved(optimizer))
    assert list(dict(other.named_parameters())) != list(dict(model.named_parameters()))
    assert equal(moments(other, again), moments(model, optimizer))


@pytest.mark.parametrize(
    "section",
    [ADAM, {**ADAM, "layer_decay": 0.5}, {**ADAM, "groups": [{"select": "blocks"}, {"select": "**.bias", "lr": 1}]}],
)
def test_other_groups_find_the_moments_too(section):
    model, optimizer = trained()
    other = vit()
    again = build(other, **section)
    again.load_state_dict(saved(optimizer))
    assert equal(moments(other, again), moments(model, optimizer))


SECTION = st.fixed_dictionaries(
    {"type": st.just("AdamW"), "lr": st.just(0.01)},
    optional={
        "groups": st.lists(
            st.sampled_from(["head", "blocks.1", "stem", {"type": "LayerNorm"}, "**.mlp.2"]), max_size=3, unique_by=str
        ).map(lambda selects: [{"select": select, "lr": 0.1 * at} for at, select in enumerate(selects, 1)]),
        "no_decay": st.sampled_from([{"ndim": 1}, "token"]),
        "layer_decay": st.sampled_from([0.5, 1]),
    },
)


@settings(max_examples=25, deadline=None)
@given(before=SECTION, after=SECTION, stem_last=st.booleans())
def test_whatever_the_groups_and_the_order_moments_stay_with_their_tensors(before, after, stem_last):
    model, other = vit(), vit(stem_last=stem_last)
    optimizer = build(model, **before)
    for number, parameter in enumerate(model.parameters()):
        optimizer.state[parameter] = {"step": torch.tensor(3.0), "exp_avg": torch.full_like(parameter, number)}
    again = build(other, **after)
    again.load_state_dict(saved(optimizer))
    assert equal(moments(other, again), moments(model, optimizer))


def test_hyperparameters_come_from_the_checkpoint_where_the_group_has_its_name_and_else_from_the_config():
    _, optimizer = trained()
    for group in optimizer.param_groups:
        group["lr"] /= 8  # as a schedule would
        group["initial_lr"] = 0.7
    again = build(vit(), **{**GROUPS, "lr": 0.5, "groups": [{"name": "top", "select": "head", "lr": 0.25}]})
    again.load_state_dict(saved(optimizer))
    assert {group["name"]: (group["lr"], group.get("initial_lr")) for group in again.param_groups} == {
        "top": (0.25, None), "top/no_decay": (0.25, None), "default": (0.01 / 8, 0.7), "default/no_decay": (0.01 / 8, 0.7),
    }  # fmt: skip


def test_how_a_step_is_computed_is_not_taken_from_the_checkpoint():
    _, optimizer = trained(**ADAM, fused=True)
    again = build(vit(), **ADAM, fused=False)
    again.load_state_dict(saved(optimizer))
    assert again.param_groups[0]["fused"] is False


def test_tied_parameters_are_found_by_any_of_their_names():
    torch.manual_seed(0)
    model = Tied()
    optimizer = build(model, **ADAM)
    model(torch.tensor([[1, 2]])).square().mean().backward()
    optimizer.step()
    other = Tied(("head", "embed"))
    again = build(other, **ADAM)
    assert optimizer.param_groups[0]["param_names"][0] == "embed.weight"
    assert again.param_groups[0]["param_names"][0] == "head.weight"
    again.load_state_dict(saved(optimizer))
    assert equal(again.state[other.head.weight], optimizer.state[model.head.weight])


def test_state_that_cannot_be_placed_is_named():
    _, optimizer = trained(**ADAM)
    other = vit(blocks=2)
    other.heads = other.head
    del other.head
    other.stem = nn.Linear(7, 4)
    assert refused(build(other, **ADAM), saved(optimizer)) == (
        "the optimiser's state doesn't fit this model:\n"
        "  heads.weight has no state in the checkpoint (there is 'head.weight')\n"
        "  heads.bias has no state in the checkpoint (there is 'head.bias')\n"
        "  blocks.2.norm.weight of the checkpoint is no parameter that is trained here\n"
        "  blocks.2.norm.bias of the checkpoint is no parameter that is trained here\n"
        "  blocks.2.mlp.0.weight of the checkpoint is no parameter that is trained here\n"
        "  blocks.2.mlp.0.bias of the checkpoint is no parameter that is trained here\n"
        "  blocks.2.mlp.2.weight of the checkpoint is no parameter that is trained here\n"
        "  blocks.2.mlp.2.bias of the checkpoint is no parameter that is trained here\n"
        "  and 3 more"
    )


def test_a_changed_shape_is_named_even_where_the_state_has_no_tensor_of_it():
    _, optimizer = trained(type="SGD", lr=0.1)
    other = vit()
    other.stem = nn.Linear(7, 4)
    assert refused(build(other, type="SGD", lr=0.1), saved(optimizer)) == (
        "the optimiser's state doesn't fit this model:\n  stem.weight has the shape [4, 7], its state that of [4, 3]"
    )


def test_a_refused_state_changes_nothing():
    model, optimizer = trained(**ADAM)
    before = saved(optimizer)
    state = saved(optimizer)
    state["param_groups"][0]["param_names"][0] = "other"
    refused(optimizer, state)
    assert equal(saved(optimizer), before)


def test_state_of_another_optimiser_is_refused():
    _, optimizer = trained(**ADAM)
    text = refused(build(nn.Linear(2, 2), type="SGD"), saved(build(nn.Linear(2, 2), **ADAM)))
    assert text == (
        "the optimiser's state doesn't fit this model:\n"
        "  weight has state of AdamW, and is trained by SGD\n"
        "  bias has state of AdamW, and is trained by SGD"
    )


def test_lbfgs_keeps_its_order():
    _, optimizer = trained(type="SGD")
    one, other = build(vit(), type="LBFGS"), build(vit(stem_last=True), type="LBFGS")
    assert refused(other, saved(one)).endswith("  LBFGS keeps one state for all parameters: their order can't change")


def stock_state(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    train(model, optimizer, 3)
    return optimizer.state_dict(), optimizer


def test_state_without_names_is_taken_by_position_if_the_layout_agrees():
    model = vit()
    state, stock = stock_state(model)
    other = vit()
    optimizer = build(other, **ADAM)
    optimizer.load_state_dict(state)
    assert equal(moments(other, optimizer), moments(model, stock))
    (group,) = optimizer.param_groups
    assert (group["name"], group["lr"], len(group["param_names"])) == ("default", 0.02, 25)


def test_state_without_names_is_refused_if_the_layout_is_another():
    state, _ = stock_state(vit())
    assert refused(build(vit(), **GROUPS), state) == (
        "the optimiser's state without names doesn't fit this model:\n"
        "  it is that of 25 parameters, and here there are 1 + 1 + 8 + 15"
    )
    text = refused(build(vit(stem_last=True), **ADAM), state)
    assert "norm.weight has the shape" in text


def test_parameters_that_were_never_stepped_have_no_state_and_are_no_fault():
    model, other = vit(), vit()
    model.stem.requires_grad_(False)
    names = [name for name, _ in model.named_parameters()]
    optimizer = build(model, names, **ADAM)
    train(model, optimizer, 2)
    again = build(other, names, **ADAM)
    again.load_state_dict(saved(optimizer))
    assert again.state[other.stem.weight] == {} and again.state[other.head.weight]
