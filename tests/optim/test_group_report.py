import json

import torch
from optim_helpers import build, train, vit
from torch import nn

from builder.config.origin import Origins
from builder.inspect.memory import optimizer_state_bytes
from builder.optim.optimizer import build_optimizer
from builder.optim.report import group_report


def lines(model, trainable=None, **section):
    return group_report(build(model, trainable, **section), model).lines()


def test_the_table_says_what_differs():
    model = vit()
    model.stem.requires_grad_(False)
    section = {"type": "AdamW", "lr": 0.001, "no_decay": {"ndim": 1}}
    groups = [{"name": "head", "select": "head", "lr": 0.01, "betas": [0.9, 0.99]}]
    assert lines(model, **section, groups=groups) == [
        "group             tensors  parameters     lr  weight_decay         betas  step            holds",
        "head                    1           8   0.01          0.01   (0.9, 0.99)  torch's choice  head.weight",
        "head/no_decay           1           2   0.01             0   (0.9, 0.99)  torch's choice  head.bias",
        "default                 7         100  0.001          0.01  (0.9, 0.999)  torch's choice  token, "
        "blocks.0.mlp.0.weight, blocks.0.mlp.2.weight, … (7)",
        "default/no_decay       14          56  0.001             0  (0.9, 0.999)  torch's choice  blocks.0.norm, "
        "blocks.0.mlp.0.bias, blocks.0.mlp.2.bias, … (10)",
        "in no group, since never trained: 16 parameters",
    ]


def test_layers_are_told_by_the_modules_that_they_are():
    assert [line.split("  ")[-1] for line in lines(vit(), type="SGD", lr=0.1, layer_decay=0.5)][1:] == [
        "token, stem", "blocks.0", "blocks.1", "blocks.2", "norm, head",
    ]  # fmt: skip


def test_several_optimisers_are_told_by_their_names():
    groups = [{"select": "head", "type": "SGD", "lr": 0.1, "fused": True}]
    table = lines(vit(), type="Rprop", lr=0.1, groups=groups)
    assert table[0].split() == ["group", "tensors", "parameters", "lr", "weight_decay", "optimizer", "step", "holds"]
    assert table[1].split() == ["head", "2", "10", "0.1", "0", "SGD", "fused", "head"]
    assert table[2].split()[:6] == ["default", "23", "172", "0.1", "-", "Rprop"]


def test_the_report_is_plain_for_programs():
    model = vit()
    optimizer = build(model, type="SGD", lr=0.1, groups=[{"select": "head", "lr": 1}])
    found = group_report(optimizer, model).to_json()
    assert json.loads(json.dumps(found)) == found
    head, default = found["groups"]
    assert {key: head[key] for key in ("name", "type", "tensors", "parameters", "holds", "names")} == {
        "name": "head", "type": "SGD", "tensors": 2, "parameters": 10, "holds": ["head"],
        "names": ["head.weight", "head.bias"],
    }  # fmt: skip
    assert (head["hyperparameters"]["lr"], default["hyperparameters"]["lr"], found["untrained"]) == (1, 0.1, 0)


class OnCuda(nn.Parameter):
    """A parameter that says it lies on a GPU."""

    is_cuda = True


def on_cuda(dtype=torch.float32):
    model = vit()
    for module in model.modules():
        for name, parameter in module._parameters.items():
            module._parameters[name] = OnCuda(parameter.data.to(dtype))
    return model


def test_fused_kernels_are_taken_on_cuda_unless_the_config_chooses():
    def fused(model=None, **section):
        return build_optimizer(model or on_cuda(), section, Origins()).param_groups[0].get("fused")

    assert [fused(type=name) for name in ("AdamW", "Adam", "SGD")] == [True, True, True]
    assert [fused(type="AdamW", fused=False), fused(type="AdamW", foreach=False)] == [False, None]
    assert [fused(type="AdamW", capturable=True), fused(type="AdamW", differentiable=True)] == [None, None]
    assert [fused(type="AdamW", foreach=True), fused(type="Adagrad"), fused(vit(), type="AdamW")] == [None, None, None]


def test_fused_kernels_that_were_chosen_step_as_those_that_were_asked_for():
    ours, theirs = on_cuda(), vit()
    optimizer = build_optimizer(ours, {"type": "AdamW", "lr": 0.1}, Origins())
    train(ours, optimizer, 5)
    train(theirs, torch.optim.AdamW(theirs.parameters(), lr=0.1, fused=True), 5)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert not getattr(optimizer, "_step_supports_amp_scaling", False), "gradients could not be clipped"
    assert group_report(optimizer, ours).rows[0].implementation == "fused"


def test_the_memory_of_several_optimisers_is_known():
    with torch.device("meta"):
        model = vit()
    groups = [{"select": {"not": {"ndim": 2}}, "type": "AdamW"}]
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    others = [p for p in model.parameters() if p.ndim != 2]
    expected = 4 * (matrices + 2 * sum(p.numel() for p in others) + len(others))
    assert optimizer_state_bytes(build(model, type="Muon", groups=groups)) == expected
