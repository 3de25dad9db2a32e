import copy

import pytest
import torch
from optim_helpers import build, refusal, same, table, train, vit, weights
from torch import nn
from torch.optim import SGD, AdamW, Muon
from torch.optim.lr_scheduler import StepLR

from builder.optim.combined import Combined

MUON = {
    "type": "Muon", "lr": 0.02, "weight_decay": 0.1,
    "groups": [{"name": "rest", "select": [{"ndim": 1}, "stem", "token", "head"], "type": "AdamW", "lr": 3e-3}],
}  # fmt: skip


def by_hand(model):
    """What a user would write: two optimisers, stepped one after the other."""
    matrices = [block.mlp[index].weight for block in model.blocks for index in (0, 2)]
    chosen = {id(parameter) for parameter in matrices}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    return AdamW(rest, lr=3e-3), Muon(matrices, lr=0.02, weight_decay=0.1)


def train_by_hand(model, optimizers, steps, schedulers=()):
    class Both:
        def zero_grad(self):
            model.zero_grad()

        def step(self):
            for optimizer in optimizers:
                optimizer.step()
            for scheduler in schedulers:
                scheduler.step()

    train(model, Both(), steps)


def test_muon_with_the_rest_under_adamw_trains_to_the_bits_of_two_optimisers():
    ours, theirs = vit(), vit()
    optimizer = build(ours, **MUON)
    assert isinstance(optimizer, Combined) and list(table(optimizer)) == ["rest", "default"]
    train(ours, optimizer, 20)
    train_by_hand(theirs, by_hand(theirs), 20)
    assert same(weights(ours), weights(theirs))


def test_a_group_with_a_type_of_its_own_takes_nothing_from_the_section():
    optimizer = build(vit(), **{**MUON, "momentum": 0.5})
    rest, default = optimizer.param_groups
    assert rest["weight_decay"] == AdamW([nn.Parameter(torch.ones(1))]).defaults["weight_decay"]
    assert "momentum" not in rest and default["momentum"] == 0.5


def test_schedulers_see_all_groups():
    ours, theirs = vit(), vit()
    optimizer, parts = build(ours, **MUON), by_hand(theirs)
    train(ours, optimizer, 6, scheduler=StepLR(optimizer, 2, 0.5))
    train_by_hand(theirs, parts, 6, [StepLR(part, 2, 0.5) for part in parts])
    assert [group["lr"] for group in optimizer.param_groups] == [part.param_groups[0]["lr"] for part in parts]
    assert same(weights(ours), weights(theirs))


def test_its_state_is_saved_and_continued_bit_by_bit():
    whole, half = vit(), vit()
    train(whole, build(whole, **MUON), 12)
    optimizer = build(half, **MUON)
    train(half, optimizer, 5)
    saved = copy.deepcopy((half.state_dict(), optimizer.state_dict()))
    resumed = vit()
    again = build(resumed, **MUON)
    resumed.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    train(resumed, again, 7, start=5)
    assert same(weights(resumed), weights(whole))


def test_a_copy_of_it_goes_on_alone():
    model = vit()
    optimizer = build(model, **MUON)
    train(model, optimizer, 2)
    model_2, optimizer_2 = copy.deepcopy((model, optimizer))
    train(model, optimizer, 3, start=2)
    train(model_2, optimizer_2, 3, start=2)
    assert same(weights(model), weights(model_2))
    assert optimizer_2.state.keys() == set(model_2.parameters())


def test_a_closure_is_called_once_and_gives_the_loss():
    model = vit()
    optimizer, calls = build(model, **MUON), []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).square().sum()
        loss.backward()
        return loss

    before = weights(model)
    assert optimizer.step(closure).ndim == 0 and calls == [True]
    assert not any(torch.equal(before[name], value) for name, value in weights(model).items() if "head" in name)


def test_a_group_cannot_be_added_later():
    optimizer = build(vit(), **MUON)
    with pytest.raises(NotImplementedError, match="several optimisers"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))]})


def test_groups_of_one_type_share_an_optimiser():
    groups = [{"name": name, "select": name, "type": "SGD", "lr": lr} for name, lr in (("head", 0.1), ("norm", 0.2))]
    optimizer = build(vit(), type="AdamW", groups=groups)
    assert [type(each) for each in optimizer.optimizers] == [SGD, AdamW]
    assert [group["type"] for group in optimizer.param_groups] == ["SGD", "SGD", "AdamW"]


def test_muon_refuses_what_is_no_matrix_and_says_the_way_out():
    assert refusal(vit(), type="Muon", lr=0.02) == (
        "train.yaml:3: optimizer: Muon trains matrices only, but the group 'default' holds stem.bias, "
        "blocks.0.norm.weight, blocks.0.norm.bias, blocks.0.mlp.0.bias and 12 more\n"
        "  hint:     train them with another optimiser: groups: [{select: {not: {ndim: 2}}, type: AdamW, lr: 3.0e-4}]"
    )
    hint = [{"select": {"not": {"ndim": 2}}, "type": "AdamW", "lr": 3.0e-4}]
    assert [group["type"] for group in build(vit(), type="Muon", lr=0.02, groups=hint).param_groups] == [
        "AdamW",
        "Muon",
    ]


def test_lbfgs_takes_one_group():
    assert refusal(vit(), type="LBFGS", groups=[{"select": "head", "lr": 0.1}]) == (
        "train.yaml:7: optimizer.groups[0]: LBFGS takes all parameters as one group, but there are 2\n"
        "  expected: no `groups`, `no_decay` and `layer_decay`"
    )
    assert "LBFGS takes all parameters as one group" in refusal(vit(), type="LBFGS", layer_decay=0.5)
    mixed = [{"select": "head", "type": "LBFGS"}]
    assert refusal(vit(), type="SGD", groups=mixed).startswith("train.yaml:7: optimizer.groups[0]: LBFGS takes all")


def embedding(sparse):
    return nn.ModuleDict({"embed": nn.Embedding(5, 4, sparse=sparse), "head": nn.Linear(4, 5)})


def test_sparse_gradients_go_to_optimisers_that_take_them():
    groups = [{"select": "embed", "type": "SparseAdam", "lr": 0.1}]
    optimizer = build(embedding(True), type="AdamW", groups=groups)
    assert [group["type"] for group in optimizer.param_groups] == ["SparseAdam", "AdamW"]
    assert refusal(embedding(True), type="AdamW") == (
        "train.yaml:3: optimizer: AdamW can't train with sparse gradients, which embed.weight will have\n"
        "  hint:     train them in a group with `type: SparseAdam`, or leave out `sparse: true`"
    )
    assert refusal(embedding(True), type="SparseAdam") == (
        "train.yaml:3: optimizer: SparseAdam trains parameters with sparse gradients only, but those of head.weight, "
        "head.bias are dense\n"
        "  hint:     an Embedding or EmbeddingBag has them with `sparse: true`; train the rest in groups of another `type`"
    )
    assert "embed.weight" in refusal(embedding(False), type="SparseAdam")
    build(embedding(True), type="SGD", lr=0.1)
