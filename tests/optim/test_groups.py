import warnings
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_helpers import Tied, Vit, build, refusal, same, table, train, vit, weights
from torch import nn

from builder.config.origin import Origins
from builder.errors import ConfigError
from builder.optim.optimizer import build_optimizer

NAMES = [name for name, _ in Vit().named_parameters()]
TOPS = ["stem", "token", "blocks", "norm", "head"]


def test_without_groups_there_is_one_with_all_that_is_trained():
    model = vit()
    model.stem.requires_grad_(False)
    optimizer = build(model, type="AdamW", lr=1e-3)
    (group,) = optimizer.param_groups
    assert (group["name"], group["param_names"]) == ("default", [name for name in NAMES if not name.startswith("stem")])
    by_hand = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    assert {key: group[key] for key in by_hand.param_groups[0] if key != "params"} == {
        key: value for key, value in by_hand.param_groups[0].items() if key != "params"
    }


def test_the_first_group_that_selects_a_parameter_has_it():
    optimizer = build(
        vit(), type="SGD", lr=0.1, momentum=0.9,
        groups=[{"name": "top", "select": ["head", "norm"], "lr": 1.0}, {"select": "**.weight", "momentum": 0.5}],
    )  # fmt: skip
    groups = table(optimizer)
    assert list(groups) == ["top", "**.weight", "default"]
    assert groups["top"][2] == ["norm.weight", "norm.bias", "head.weight", "head.bias"]
    assert all(name.endswith("weight") for name in groups["**.weight"][2])
    assert [group["momentum"] for group in optimizer.param_groups] == [0.9, 0.5, 0.9]
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1, 0.1]


def test_two_groups_with_two_rates_train_to_the_bits_of_code_by_hand():
    ours, theirs = vit(), vit()
    optimizer = build(
        ours, type="SGD", lr=0.01, momentum=0.9, groups=[{"name": "head", "select": "head", "lr": 0.1}]
    )  # fmt: skip
    rest = [parameter for name, parameter in theirs.named_parameters() if not name.startswith("head.")]
    by_hand = torch.optim.SGD(
        [{"params": theirs.head.parameters(), "lr": 0.1}, {"params": rest}], lr=0.01, momentum=0.9
    )
    train(ours, optimizer, 20)
    train(theirs, by_hand, 20)
    assert same(weights(ours), weights(theirs))


def test_no_decay_splits_groups_and_trains_to_the_bits_of_code_by_hand():
    ours, theirs = vit(), vit()
    optimizer = build(
        ours, type="AdamW", lr=0.01, weight_decay=0.5, no_decay=[{"ndim": 1}, "token"],
        groups=[{"name": "head", "select": "head", "lr": 0.1}],
    )  # fmt: skip
    assert list(table(optimizer)) == ["head", "head/no_decay", "default", "default/no_decay"]
    assert table(optimizer)["head/no_decay"] == (0.1, 0.0, ["head.bias"])
    named = dict(theirs.named_parameters())
    rest = [name for name in named if not name.startswith("head")]
    decayed = [name for name in rest if named[name].ndim == 2 and name != "token"]
    by_hand = torch.optim.AdamW(
        [
            {"params": [theirs.head.weight], "lr": 0.1},
            {"params": [theirs.head.bias], "lr": 0.1, "weight_decay": 0.0},
            {"params": [named[name] for name in decayed]},
            {"params": [named[name] for name in rest if name not in decayed], "weight_decay": 0.0},
        ],
        lr=0.01,
        weight_decay=0.5,
    )
    train(ours, optimizer, 20)
    train(theirs, by_hand, 20)
    assert same(weights(ours), weights(theirs))


def test_layer_decay_scales_the_rate_by_depth_over_the_whole_model():
    model = vit()
    model.blocks[0].requires_grad_(False)
    groups = table(build(model, type="AdamW", lr=0.1, layer_decay=0.5))
    assert {name: rate for name, (rate, _, _) in groups.items()} == {
        "default/layer_0": 0.1 * 0.5**4, "default/layer_2": 0.1 * 0.5**2, "default/layer_3": 0.1 * 0.5,
        "default/layer_4": 0.1,
    }  # fmt: skip
    assert groups["default/layer_0"][2] == ["token", "stem.weight", "stem.bias"]


def test_layer_decay_of_one_group_leaves_the_others():
    groups = table(
        build(vit(), type="SGD", lr=1.0, groups=[{"name": "blocks", "select": "blocks", "layer_decay": 0.5}])
    )
    assert {name: rate for name, (rate, _, _) in groups.items()} == {
        "blocks/layer_1": 0.125, "blocks/layer_2": 0.25, "blocks/layer_3": 0.5, "default": 1.0,
    }  # fmt: skip
    groups = table(
        build(vit(), type="SGD", lr=1.0, layer_decay=0.5, groups=[{"select": "blocks", "layer_decay": None}])
    )
    assert list(groups) == ["default/layer_0", "blocks + default/layer_4"]
    assert groups["blocks + default/layer_4"][0] == 1.0


def test_layers_can_be_said():
    decay = {"rate": 0.1, "layers": ["stem", ["blocks.0", "blocks.1"], "**"]}
    groups = table(build(vit(), type="SGD", lr=1.0, layer_decay=decay, no_decay={"ndim": 1}, weight_decay=0.1))
    assert [(name, rate) for name, (rate, _, _) in groups.items()] == [
        ("default/layer_0", pytest.approx(0.01)), ("default/layer_0/no_decay", pytest.approx(0.01)),
        ("default/layer_1", pytest.approx(0.1)), ("default/layer_1/no_decay", pytest.approx(0.1)),
        ("default/layer_2", 1.0), ("default/layer_2/no_decay", 1.0),
    ]  # fmt: skip


def test_groups_that_differ_in_nothing_are_one_unless_they_are_named():
    section = {"type": "SGD", "lr": 0.1}
    unnamed = [{"select": "head", "lr": 1.0}, {"select": "norm", "lr": 1}, {"select": "stem"}]
    groups = table(build(vit(), **section, groups=unnamed))
    assert list(groups) == ["head + norm", "default"]
    assert groups["head + norm"][2] == ["norm.weight", "norm.bias", "head.weight", "head.bias"]
    named = [{"name": part, **group} for part, group in zip("abc", unnamed, strict=True)]
    assert list(table(build(vit(), **section, groups=named))) == ["a", "b", "c", "default"]
    assert list(table(build(vit(), **section, layer_decay=1, weight_decay=0, no_decay="head"))) == ["default"]


def test_tied_parameters_lie_in_one_group_by_any_of_their_names():
    groups = table(build(Tied(), type="SGD", lr=0.1, groups=[{"select": "head", "lr": 1.0}]))
    assert groups["head"][2] == ["embed.weight"] and groups["default"][2] == ["norm.weight", "norm.bias"]


def test_parameters_that_thaw_later_have_their_group_from_the_first_step_on():
    model = vit()
    model.blocks.requires_grad_(False)
    optimizer = build(model, trainable=[name for name in NAMES if not name.startswith("stem")], type="SGD", lr=0.1)
    assert [name for group in optimizer.param_groups for name in group["param_names"]] == [
        name for name in NAMES if not name.startswith("stem")
    ]


RULE = st.fixed_dictionaries(
    {"select": st.sampled_from([*TOPS, "**.weight", "**.bias", "blocks.[01]", "blocks.2.mlp", "re:.*norm.*"])},
    optional={"lr": st.sampled_from([0.1, 1.0]), "layer_decay": st.sampled_from([0.5, None])},
)


@settings(max_examples=60, deadline=None)
@given(
    rules=st.lists(RULE, max_size=3, unique_by=lambda rule: rule["select"]),
    no_decay=st.sampled_from([None, {"ndim": 1}, "head", ["blocks.0", "token"]]),
    decay=st.sampled_from([None, 1.0, 0.5]),
    frozen=st.sets(st.sampled_from(TOPS), max_size=2),
)
def test_each_trained_parameter_lies_in_exactly_one_group_with_the_values_of_its_first_rule(
    rules, no_decay, decay, frozen
):
    model = MODEL
    trainable = [name for name in NAMES if name.split(".")[0] not in frozen]
    section = {"type": "AdamW", "lr": 0.01, "groups": rules, "no_decay": no_decay, "layer_decay": decay}
    expected = {name: naive(name, rules, no_decay, decay) for name in trainable}
    used = {index for index, _, _ in expected.values()}
    if set(range(len(rules))) - used:
        assert "is empty" in refusal(model, trainable, **section)
        return
    optimizer = build(model, trainable, **section)
    groups = [(name, group) for group in optimizer.param_groups for name in group["param_names"]]
    assert sorted(name for name, _ in groups) == sorted(trainable)
    for name, group in groups:
        assert (group["lr"], group["weight_decay"]) == pytest.approx(expected[name][1:])
    for group in optimizer.param_groups:
        assert group["param_names"] == [name for name in NAMES if name in group["param_names"]]
        assert all(
            dict(model.named_parameters())[n] is p for n, p in zip(group["param_names"], group["params"], strict=True)
        )
    assert len({group["name"] for group in optimizer.param_groups}) == len(optimizer.param_groups)


MODEL = Vit()
LAYER = {"token": 0, "stem": 0, "norm": 4, "head": 4}


def naive(name, rules, no_decay, decay):
    """The rule, rate and weight decay of a parameter, said once more in the simplest way."""

    def under(pattern):
        special = {
            "**.weight": name.endswith("weight"), "**.bias": name.endswith("bias"), "re:.*norm.*": "norm" in name,
            "blocks.[01]": name.startswith(("blocks.0.", "blocks.1.")),
        }  # fmt: skip
        return special.get(pattern, name == pattern or name.startswith(pattern + "."))

    index = next((index for index, rule in enumerate(rules) if under(rule["select"])), len(rules))
    rule = rules[index] if index < len(rules) else {}
    rate = rule.get("layer_decay", decay) or 1.0
    parts = name.split(".")
    depth = int(parts[1]) + 1 if parts[0] == "blocks" else LAYER[parts[0]]
    patterns = no_decay if isinstance(no_decay, list) else [no_decay] if isinstance(no_decay, str) else []
    flat = dict(MODEL.named_parameters())[name].ndim == 1
    without = flat if isinstance(no_decay, dict) else any(under(pattern) for pattern in patterns)
    return index, rule.get("lr", 0.01) * rate ** (4 - depth), 0.0 if without else 0.01


def test_all_that_is_wrong_with_the_section_is_told_at_once():
    text = refusal(
        vit(), type="SGD", lr=0.1, layer_decay=2,
        groups=[{"select": "head", "momentun": 1, "name": "a/b"}, {"lr": 1}],
    )  # fmt: skip
    assert text == (
        "train.yaml:3: optimizer.layer_decay: layer_decay can't be used\n"
        "  found:    2\n"
        "  expected: a number above 0, at most 1, or {rate: …, layers: [selectors from the bottom up]}\n"
        "train.yaml:7: optimizer.groups[0].name: a group can't be called so\n"
        "  found:    'a/b'\n"
        "  expected: a text without '/'\n"
        "train.yaml:7: optimizer.groups[0].momentun: optimizer SGD has no argument 'momentun'\n"
        "  expected: lr, momentum, dampening, weight_decay, nesterov, maximize, foreach, differentiable, fused, "
        "name, select, layer_decay, type\n"
        "  did you mean 'momentum'?\n"
        "train.yaml:8: optimizer.groups[1]: a group selects parameters\n"
        "  found:    {'lr': 1}\n"
        "  expected: a mapping with `select`"
    )


def test_values_of_a_group_are_checked_as_the_optimiser_checks_its_own():
    text = refusal(vit(), type="AdamW", lr=0.1, groups=[{"select": "head", "lr": -1.0}])
    told = "train.yaml:7: optimizer.groups[0].lr: wrong value\n  found:    {}\n  expected: a number from 0 on"
    assert text == told.format(-1.0)
    assert refusal(vit(), type="AdamW", lr=0.1, groups=[{"select": "head", "lr": "fast"}]) == told.format("'fast'")
    assert refusal(vit(), type="AdamW", lr=0.1, groups=[{"select": "head", "betas": [0.9, 2]}]) == (
        "train.yaml:7: optimizer.groups[0].betas: "
        "optimizer 'AdamW' can't be made: Invalid beta parameter at index 1: 2\n"
        "  found:    [0.9, 2]"
    )


@pytest.mark.parametrize(
    ("decay", "said"),
    [
        (
            {"rat": 0.5},
            "layer_decay.rat: layer_decay has no key 'rat'\n  expected: rate, layers\n  did you mean 'rate'?",
        ),
        (
            {"rate": 2},
            "layer_decay.rate: this rate can't be used\n  found:    2\n  expected: a number above 0, at most 1",
        ),
        (
            {"layers": ["**"]},
            "layer_decay: layer_decay has no rate\n  found:    {'layers': ['**']}\n"
            "  expected: rate: a number above 0, at most 1",
        ),
    ],
)
def test_what_is_wrong_in_a_layer_decay_is_told_where_it_stands(decay, said):
    assert refusal(vit(), type="SGD", lr=0.1, layer_decay=decay) == f"train.yaml:3: optimizer.{said}"


def test_a_layer_that_takes_nothing_is_refused():
    decay = {"rate": 0.5, "layers": ["stem", "blocks", "blocks.0", "**"]}
    assert refusal(vit(), type="SGD", lr=0.1, layer_decay=decay) == (
        "train.yaml:3: optimizer.layer_decay.layers[2]: the layer 'blocks.0' is empty\n"
        "  found:    'blocks.0'\n"
        "  hint:     all that it selects lies in earlier layers: 'blocks'"
    )
    listed = {"rate": 0.5, "layers": [["stem", "blocks"], "blocks.0", "**"]}
    told = refusal(vit(), type="SGD", lr=0.1, layer_decay=listed)
    assert "layers[1]: the layer 'blocks.0' is empty" in told and "lies in earlier layers: " in told
    decay = {"rate": 0.5, "layers": [{"type": "ReLU"}, "**"]}
    assert "hint:     what it selects holds no parameters" in refusal(vit(), type="SGD", lr=0.1, layer_decay=decay)


def test_other_keys_of_the_section_and_of_a_group_are_among_those_expected():
    known = "lr, betas, eps, weight_decay, amsgrad, maximize, foreach, capturable, differentiable, fused"
    assert refusal(vit(), type="AdamW", layer_deca=0.5, groups=[{"select": "head", "tpye": "SGD"}]) == (
        "train.yaml:3: optimizer.layer_deca: optimizer AdamW has no argument 'layer_deca'\n"
        f"  expected: {known}, groups, no_decay, layer_decay\n"
        "  did you mean 'layer_decay'?\n"
        "train.yaml:7: optimizer.groups[0].tpye: optimizer AdamW has no argument 'tpye'\n"
        f"  expected: {known}, name, select, layer_decay, type\n"
        "  did you mean 'type'?"
    )


def test_what_the_optimiser_refuses_has_no_faults_in_its_wake():
    text = refusal(vit(), type="AdamW", fused=True, foreach=True, no_decay={"ndim": 1}, layer_decay=0.5)
    assert text == (
        "train.yaml:3: optimizer.fused: "
        "optimizer 'AdamW' can't be made: RuntimeError: `fused` and `foreach` cannot be `True` together.\n"
        "  found:    True"
    )


def test_a_selector_that_matches_nothing_is_told_with_near_names():
    text = refusal(vit(), type="SGD", lr=0.1, groups=[{"select": "haed", "lr": 1.0}])
    assert text == (
        "train.yaml:7: optimizer.groups[0].select: no module or parameter has such a name\n"
        "  found:    'haed'\n"
        "  did you mean 'head'?"
    )


def test_an_empty_group_says_who_took_its_parameters():
    text = refusal(vit(), type="SGD", groups=[{"name": "top", "select": ["head", "norm"]}, {"select": "head.bias"}])
    assert text == (
        "train.yaml:8: optimizer.groups[1].select: the group 'head.bias' is empty\n"
        "  found:    'head.bias'\n"
        "  hint:     of what it selects, all that is trained is taken by earlier groups: 'top'"
    )


def test_a_group_of_frozen_parameters_says_so():
    model = vit()
    model.stem.requires_grad_(False)
    text = refusal(model, type="SGD", groups=[{"select": "stem", "lr": 1.0}])
    assert text == (
        "train.yaml:7: optimizer.groups[0].select: the group 'stem' is empty\n"
        "  found:    'stem'\n"
        "  hint:     it selects stem.weight, stem.bias, frozen for good: leave the group out, or thaw them at some time"
    )


def test_parameters_in_none_of_the_layers_are_named():
    text = refusal(vit(), type="SGD", lr=0.1, layer_decay={"rate": 0.5, "layers": ["stem", "blocks", "norm", "token"]})
    assert text == (
        "train.yaml:3: optimizer.layer_decay.layers: parameters of the group 'default' lie in none of these layers: "
        "head.weight, head.bias\n"
        "  expected: a layer for each; '**' as the last one takes the rest"
    )


def test_no_decay_needs_a_weight_decay():
    text = refusal(vit(), type="Rprop", lr=0.1, no_decay="head")
    assert text == (
        "train.yaml:5: optimizer.no_decay: Rprop has no weight decay to leave out\n  expected: no `no_decay`"
    )


def test_no_decay_needs_a_weight_decay_that_somebody_asked_for():
    assert refusal(vit(), type="SGD", lr=0.1, no_decay="head") == (
        "train.yaml:5: optimizer.no_decay: SGD has a weight decay of 0, of which nothing can be left out\n"
        "  expected: a `weight_decay`, or no `no_decay`"
    )
    groups = [{"select": "blocks", "weight_decay": 0.1}]
    assert not build(vit(), type="SGD", lr=0.1, no_decay="blocks.0", groups=groups).notes


def test_two_groups_cannot_have_one_name():
    text = refusal(vit(), type="SGD", groups=[{"name": "head", "select": "norm"}, {"select": "head"}])
    assert text == (
        "train.yaml:8: optimizer.groups[1]: two groups are called 'head'\n"
        "  expected: `name`s that differ\n"
        "  hint:     the other stands at train.yaml:7"
    )


def test_the_name_of_the_last_group_is_taken():
    told = (
        "train.yaml:7: optimizer.groups[0]: the name 'default' is that of the group of all that no other one takes\n"
        "  expected: another `name`"
    )
    assert refusal(vit(), type="SGD", groups=[{"name": "default", "select": "norm"}]) == told
    assert refusal(nn.ModuleDict({"default": nn.Linear(2, 2)}), type="SGD", groups=[{"select": "default"}]) == told


def test_what_has_another_form_is_told():
    text = refusal(vit(), type="SGD", groups={"head": {"lr": 1}}, layer_decay={"rate": 0.5, "layers": "stem"})
    assert text == (
        "train.yaml:3: optimizer.layer_decay.layers: layers are a list\n"
        "  found:    'stem'\n"
        "  expected: selectors from the bottom up\n"
        "train.yaml:3: optimizer.groups: groups are a list\n"
        "  found:    {'head': {'lr': 1}}\n"
        "  expected: a list of mappings with `select`"
    )
    assert "layer_decay can't be used" in refusal(vit(), type="SGD", layer_decay=True)
    assert "unknown key 'nmae' of a selector" in refusal(vit(), type="SGD", groups=[{"select": {"nmae": "bias"}}])


def test_a_selector_of_modules_without_parameters_is_refused():
    text = refusal(vit(), type="AdamW", no_decay={"type": "ReLU"}, groups=[{"select": {"type": "ReLU"}, "lr": 1.0}])
    assert text == (
        "train.yaml:7: optimizer.groups[0].select: the group '{type: ReLU}' is empty\n"
        "  found:    {'type': 'ReLU'}\n"
        "  hint:     what it selects holds no parameters\n"
        "train.yaml:5: optimizer.no_decay: this selects no parameters\n"
        "  found:    {'type': 'ReLU'}"
    )


class Rateless(torch.optim.Optimizer):
    """An optimiser that finds its rate by itself."""

    def __init__(self, params, decay: float = 0.1):
        super().__init__(params, {"decay": decay})


class Constant(torch.optim.SGD):
    """SGD with an argument that it doesn't keep."""

    def __init__(self, params, lr: float = 0.1, scale: float = 1.0):
        super().__init__(params, lr=lr * scale)


def test_an_argument_that_is_none_of_a_group_is_not_dropped(monkeypatch):
    from builder.registry import optimizers

    monkeypatch.setitem(optimizers._entries, "TestedConstant", Constant)
    monkeypatch.setitem(optimizers._entries, "TestedRateless", Rateless)
    text = refusal(vit(), type="TestedConstant", groups=[{"select": "head", "scale": 2.0}])
    assert refusal(vit(), type="TestedRateless", layer_decay=0.5) == (
        "train.yaml:3: optimizer.layer_decay: TestedRateless has no learning rate that layers could decay\n"
        "  expected: no `layer_decay`"
    )
    assert text == (
        "train.yaml:7: optimizer.groups[0].scale: TestedConstant takes 'scale' for all parameters, not for one group"
    )


def test_groups_work_on_the_meta_device():
    with torch.device("meta"):
        model = Vit()
    section = {"type": "AdamW", "lr": 0.1, "layer_decay": 0.5, "no_decay": {"ndim": 1}, "fused": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = build_optimizer(model, section, Origins())
    assert list(table(optimizer)) == list(table(build(vit(), **section)))


@pytest.mark.parametrize("fused", [None, False, True])
def test_fused_is_as_the_config_says_and_pytorchs_choice_on_a_cpu(fused):
    section = {} if fused is None else {"fused": fused}
    optimizer = build(vit(), type="AdamW", lr=0.1, groups=[{"select": "head", "lr": 1.0}], **section)
    assert [group["fused"] for group in optimizer.param_groups] == [fused, fused]


def test_a_module_of_a_layer_is_selected_by_type():
    groups = table(build(vit(), type="SGD", groups=[{"name": "norms", "select": {"type": "LayerNorm"}, "lr": 1.0}]))
    assert len(groups["norms"][2]) == 8 and all("norm" in name for name in groups["norms"][2])
    assert isinstance(Vit().norm, nn.LayerNorm)


def test_a_layer_is_missing_for_the_second_of_two_groups_with_the_same_layers():
    model = nn.Sequential(OrderedDict(a=nn.Linear(2, 2), b=nn.Linear(2, 2), c=nn.Linear(2, 2)))
    section = {
        "type": "SGD", "lr": 0.1, "groups": [{"name": "head", "select": "c"}],
        "layer_decay": {"rate": 0.5, "layers": ["a", "c"]},
    }  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        build_optimizer(model, section, Origins())
    assert "parameters of the group 'default' lie in none of these layers: b.weight, b.bias" in str(raised.value)
