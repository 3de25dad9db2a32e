"""Reading `freeze:`, and what its rules come to for a model."""

import json
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from builder.config.origin import Origins
from builder.errors import ConfigError, Origin
from builder.registry import optimizers
from builder.weights.freeze import read_freeze, resolve
from builder.weights.freeze_plan import Freezer, Until
from builder.weights.freeze_report import phases_table, rules_table

HERE = Origins({("freeze",): Origin("train.yaml", 7)})


class Net(nn.Module):
    """stem and trunk with BatchNorm and Dropout, a recurrent layer, a head; `scale` is never trained."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.trunk = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.rnn = nn.LSTM(4, 4)
        self.head = nn.Linear(4, 3)
        self.scale = nn.Parameter(nn.init.ones_(nn.Linear(1, 5).bias.data), requires_grad=False)


TRUNK = {"trunk.0.weight", "trunk.0.bias", "trunk.1.weight", "trunk.1.bias"}
RNN = {"rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0"}
STEM, HEAD = {"stem.weight", "stem.bias"}, {"head.weight", "head.bias"}
ALL = STEM | TRUNK | RNN | HEAD


def plan_of(section, model=None):
    return resolve(read_freeze(section, Origins()), model or Net())


def told(section, model=None):
    with pytest.raises(ConfigError) as caught:
        resolve(read_freeze(section, HERE), model or Net())
    return str(caught.value)


def test_null_and_an_empty_list_freeze_nothing():
    for section in (None, []):
        plan = plan_of(section)
        assert plan.state(0, 0) == (frozenset(), frozenset())
        assert set(plan.ever_trainable) == ALL


@pytest.mark.parametrize(
    "section",
    [
        "trunk", {"match": "trunk"}, {"select": "trunk"}, ["trunk"], [{"select": {"match": "trunk.**"}}],
        {"select": ["trunk.0", {"type": ["BatchNorm1d", "Dropout"]}]}, ["trunk.0", "trunk.1", {"type": "Dropout"}],
    ],
)  # fmt: skip
def test_short_and_long_forms_say_the_same(section):
    frozen, in_eval = plan_of(section).state(0, 0)
    assert frozen == TRUNK
    assert in_eval - {"trunk"} == {"trunk.0", "trunk.1", "trunk.2"}


def test_the_module_itself_is_held_too():
    assert plan_of("trunk").state(0, 0).in_eval == {"trunk", "trunk.0", "trunk.1", "trunk.2"}


def test_all_but_the_head_holds_the_model_itself_as_eval_then_head_train_would():
    by_hand = Net().eval()
    by_hand.head.train()
    model = Net()
    plan_of({"not": "head"}, model).apply(model, 0, 0)
    ours = {name: module.training for name, module in model.named_modules()}
    # A recurrent layer without dropout is the same in both modes, but has a gradient on a GPU in one only.
    assert ours == {name: module.training or name == "rnn" for name, module in by_hand.named_modules()}


def test_mode_train_holds_no_module():
    assert plan_of({"select": "trunk", "mode": "train"}).state(0, 0) == (TRUNK, frozenset())


def test_a_selector_of_parameters_holds_no_module():
    frozen, in_eval = plan_of({"name": "bias"}).state(0, 0)
    assert frozen == {"stem.bias", "trunk.0.bias", "trunk.1.bias", "head.bias"} and not in_eval


def test_a_recurrent_layer_is_held_for_its_dropout_only():
    assert plan_of("rnn").state(0, 0).in_eval == set()
    model = Net()
    model.rnn = nn.LSTM(4, 4, num_layers=2, dropout=0.1)
    assert plan_of("rnn", model).state(0, 0).in_eval == {"rnn"}


@pytest.mark.parametrize(
    ("epoch", "step", "frozen"),
    [(0, 0, STEM | TRUNK), (1, 99, STEM | TRUNK), (2, 0, STEM), (2, 100, set()), (0, 100, TRUNK), (9, 999, set())],
)
def test_what_is_frozen_is_a_function_of_epoch_and_step(epoch, step, frozen):
    rules = [{"select": "trunk", "until": {"epoch": 2}}, {"select": "stem", "until": {"step": 100}}]
    plan = plan_of(rules)
    assert plan.state(epoch, step).frozen == frozen
    assert set(plan.ever_trainable) == ALL


def test_a_parameter_is_frozen_as_long_as_any_rule_says_so():
    rules = ["trunk.0", {"select": "trunk", "until": {"epoch": 1}}, {"select": "trunk.1", "until": {"step": 50}}]
    plan = plan_of(rules)
    assert plan.state(0, 0).frozen == TRUNK
    assert plan.state(1, 49).frozen == TRUNK
    assert plan.state(1, 50).frozen == {"trunk.0.weight", "trunk.0.bias"}
    assert set(plan.ever_trainable) == ALL - {"trunk.0.weight", "trunk.0.bias"}


def test_a_module_is_held_as_long_as_any_rule_of_mode_eval_says_so():
    rules = [{"select": "trunk", "mode": "train"}, {"select": "trunk.1", "until": {"epoch": 1}}]
    plan = plan_of(rules)
    assert plan.state(0, 0) == (TRUNK, {"trunk.1"})
    assert plan.state(1, 0) == (TRUNK, frozenset())


def test_what_is_never_trained_is_no_concern_of_the_plan():
    model = Net()
    plan = plan_of([{"select": ["scale", "stem"], "until": {"epoch": 1}}], model)
    assert "scale" not in plan.ever_trainable and plan.untrained == 5
    plan.apply(model, 5, 5)
    assert not model.scale.requires_grad and model.stem.weight.requires_grad


def test_what_is_trained_is_in_the_models_order():
    model = Net()
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert list(plan_of("trunk", model).ever_trainable) == [name for name in names if name not in TRUNK]


def test_tied_parameters_are_one():
    model = nn.Module()
    model.embed, model.norm, model.head = nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 5, bias=False)
    model.head.weight = model.embed.weight
    plan = plan_of({"select": "head", "until": {"epoch": 1}}, model)
    assert plan.state(0, 0).frozen == {"embed.weight"}
    plan.apply(model, 0, 0)
    assert not model.head.weight.requires_grad
    assert plan.phases()[0].frozen == 20 and plan.phases()[1].trainable == 28


def test_apply_sets_flags_gradients_and_modes_and_nothing_else():
    model = Net()
    plan = plan_of({"select": "trunk", "until": {"epoch": 1}}, model)
    for parameter in model.parameters():
        parameter.grad = parameter.detach().clone()
    plan.apply(model, 0, 0)
    named = dict(model.named_parameters())
    assert {name for name, parameter in named.items() if not parameter.requires_grad} == TRUNK | {"scale"}
    assert {name for name, parameter in named.items() if parameter.grad is None} == TRUNK
    assert {name for name, module in model.named_modules() if not module.training} == plan.state(0, 0).in_eval
    plan.apply(model, 1, 0)
    assert {name for name, parameter in named.items() if not parameter.requires_grad} == {"scale"}
    assert all(module.training for module in model.modules())


def test_a_module_goes_back_to_the_mode_that_it_had():
    class Steady(nn.BatchNorm1d):
        def train(self, mode=True):
            return super().train(False)

    model = Net()
    model.trunk[1] = Steady(4)
    model.train()
    freezer = Freezer(plan_of({"select": "trunk", "until": {"epoch": 1}}, model), model)
    freezer.remember_modes()
    for epoch in (0, 1):
        freezer.apply(epoch, 0)
    assert not model.trunk[1].training and model.trunk[2].training


def test_a_compiled_model_is_frozen_and_thawed():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    plan, compiled = plan_of({"select": "0", "until": {"epoch": 1}}, model), torch.compile(model, backend=backend)
    for epoch in (0, 0, 1, 1):
        plan.apply(compiled, epoch, 0)
        compiled(torch.ones(3, 4)).sum().backward()
        assert (model[0].weight.grad is None) == (not model[0].weight.requires_grad) == (epoch < 1)
    assert len(graphs) == 2  # one for each phase


def test_a_plan_made_on_the_meta_device_holds_for_the_real_model():
    with torch.device("meta"):
        plan = plan_of("trunk", Net())
    model = Net()
    plan.apply(model, 0, 0)
    assert not model.trunk[0].weight.requires_grad
    assert plan == plan_of("trunk") == pickle.loads(pickle.dumps(plan))


def test_within_unfrozen_the_model_trains_what_it_would_without_the_plan():
    model = Net()
    plan = plan_of(["trunk", {"select": "stem", "until": {"epoch": 1}}], model)
    plan.apply(model, 0, 0)
    with plan.unfrozen(model):
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == ALL
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == RNN | HEAD


def test_a_plan_of_another_model_is_refused():
    with pytest.raises(AssertionError, match=r"this one has no \['trunk"):
        plan_of("trunk").apply(nn.Linear(2, 2), 0, 0)


def test_every_optimiser_leaves_frozen_parameters_where_they_are():
    moved = []
    for name in optimizers.names():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
        plan_of("0", model).apply(model, 0, 0)
        arguments = {"lr": 0.1} | (
            {"weight_decay": 0.1} if "weight_decay" in optimizers.signature(name).parameters else {}
        )
        if "momentum" in optimizers.signature(name).parameters:
            arguments["momentum"] = 0.9
        if name == "SparseAdam":
            continue  # takes sparse gradients only
        optimizer = optimizers.get(name)(model.parameters(), **arguments)
        frozen, trained = (layer.weight.detach().clone() for layer in model)
        for _ in range(3):

            def closure(model=model, optimizer=optimizer):
                optimizer.zero_grad()
                loss = model(torch.ones(2, 4)).square().sum()
                loss.backward()
                return loss

            optimizer.step(closure)
        moved += [name] if not torch.equal(model[0].weight, frozen) else []
        assert not torch.equal(model[1].weight, trained), name
    assert not moved


def test_the_phases_count_what_trains():
    total, trunk, stem = 20 + 20 + 8 + 160 + 15 + 5, 28, 20
    plan = plan_of([{"select": "trunk", "until": {"epoch": 2}}, {"select": "stem", "until": {"epoch": 5}}])
    assert [(str(phase), phase.trainable, phase.frozen) for phase in plan.phases()] == [
        ("the start", total - 5 - trunk - stem, 5 + trunk + stem),
        ("epoch 2", total - 5 - stem, 5 + stem),
        ("epoch 5", total - 5, 5),
    ]


def test_phases_of_epochs_and_steps_are_in_order_where_the_order_is_known():
    rules = [
        {"select": "trunk", "until": {"epoch": 2}},
        {"select": "stem", "until": {"step": 15}},
        {"select": "head", "until": {"step": 20}},
    ]
    plan = plan_of(rules)
    assert [str(phase) for phase in plan.phases(steps_per_epoch=10)] == ["the start", "step 15", "epoch 2 and step 20"]
    assert [str(phase) for phase in plan.phases(steps_per_epoch=7)] == ["the start", "epoch 2", "step 15", "step 20"]
    assert [phase.trainable for phase in plan.phases(7)] == [160, 188, 208, 223]
    unknown = ["the start", "epoch 2", "step 15", "step 20", "epoch 2 and step 20"]
    assert [str(phase) for phase in plan.phases()] == unknown
    assert [phase.trainable for phase in plan.phases()] == [160, 188, 180, 195, 223]


def test_the_next_step_is_the_next_at_which_a_rule_ends():
    plan = plan_of([{"select": "stem", "until": {"step": 5}}, {"select": "trunk", "until": {"step": 9}}, "rnn"])
    assert [plan.next_step(step) for step in (0, 4, 5, 8, 9)] == [5, 5, 9, 9, None]


def test_the_plan_as_plain_values():
    plan = plan_of({"select": "trunk.1", "until": {"epoch": 2}})
    assert json.loads(json.dumps(plan.to_json())) == {
        "rules": [
            {
                "select": "trunk.1", "mode": "eval", "until": {"epoch": 2}, "path": "freeze", "origin": "default",
                "parameters": ["trunk.1.weight", "trunk.1.bias"], "modules_in_eval": ["trunk.1"], "never_trained": 0,
            }
        ],
        "phases": [
            {"from": {}, "trainable": 215, "frozen": 13},
            {"from": {"epoch": 2}, "trainable": 223, "frozen": 5},
        ],
    }  # fmt: skip


def test_the_tables():
    plan = plan_of(["trunk.1", {"select": {"type": "Linear"}, "mode": "train", "until": {"epoch": 2}}])
    assert rules_table(plan) == [
        "rule       select          mode   until     tensors  parameters  in eval mode",
        "freeze[0]  trunk.1         eval   for good        2           8             1",
        "freeze[1]  {type: Linear}  train  epoch 2         6          55             0",
    ]
    assert phases_table(plan) == [
        "from       trainable  frozen",
        "the start        160      68",
        "epoch 2          215      13",
    ]
    assert phases_table(plan_of(None)) == rules_table(plan_of(None)) == []


def test_an_end_that_never_comes_is_noted():
    plan = plan_of([{"select": "trunk", "until": {"epoch": 3}}, {"select": "stem", "until": {"step": 30}}])
    assert plan.notes() == plan.notes(max_epochs=4, total_steps=31) == []
    assert [str(note) for note in plan.notes(max_epochs=3, total_steps=30)] == [
        "freeze[0].until: epoch 3 never comes, so trunk stays frozen: there are 3 epochs, which count from 0",
        "freeze[1].until: step 30 never comes, so stem stays frozen: there are 30 steps, which count from 0",
    ]


def test_an_end_for_what_is_never_trained_is_noted():
    plan = plan_of({"select": "scale", "until": {"epoch": 3}})
    assert [str(note) for note in plan.notes()] == [
        "freeze.until: nothing begins to train at epoch 3: all of scale is never trained"
    ]


IDLE = {
    "an end while another rule holds for good": (
        ["trunk", {"select": "trunk.0", "until": {"epoch": 1}}],
        ["freeze[1].until: epoch 1 changes nothing: freeze[0] holds all of trunk.0 for good"],
    ),
    "a part of what is frozen": (
        ["trunk", "trunk.0"], ["freeze[1]: this rule changes nothing: freeze[0] holds all of trunk.0 for good"],
    ),
    "the part first": (
        ["trunk.0", "trunk"], ["freeze[0]: this rule changes nothing: freeze[1] holds all of trunk.0 for good"],
    ),
    "the same twice": (
        ["trunk", "trunk"], ["freeze[1]: this rule changes nothing: freeze[0] holds all of trunk for good"],
    ),
    "an end before another's": (
        [{"select": "trunk.0", "until": {"epoch": 1}}, {"select": "trunk", "until": {"epoch": 2}}],
        ["freeze[0]: this rule changes nothing: freeze[1] holds all of trunk.0 until epoch 2"],
    ),
    "several together": (
        ["trunk.0", "stem", {"select": ["trunk.0", "stem"], "until": {"step": 9}}],
        ["freeze[2].until: step 9 changes nothing: freeze[0] and freeze[1] hold all of [trunk.0, stem] for good"],
    ),
    "what is never trained": ("scale", ["freeze: this rule changes nothing: all of scale is never trained"]),
    "an end in the other unit": (
        [{"select": "trunk", "until": {"epoch": 2}}, {"select": "trunk.0", "until": {"step": 1}}], [],
    ),
    "more than others hold": (["trunk.0", {"select": "trunk", "until": {"epoch": 1}}], []),
    "a mode that others leave alone": (
        [{"select": "trunk", "mode": "train"}, {"select": "trunk.1", "until": {"epoch": 1}}], [],
    ),
    "a part for good": ([{"select": "trunk", "until": {"epoch": 1}}, {"select": "trunk.0", "mode": "train"}], []),
}  # fmt: skip


@pytest.mark.parametrize("case", IDLE)
def test_a_rule_that_changes_nothing_is_noted(case):
    section, notes = IDLE[case]
    assert [str(note) for note in plan_of(section).notes()] == notes


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["trunk", "trunk.0", "trunk.1", "stem", "bias"]),
                          st.sampled_from(["eval", "train"]), st.sampled_from([None, 1, 2])), max_size=4))  # fmt: skip
def test_without_the_rules_that_are_noted_the_same_is_frozen(rules):
    section = [
        {"select": {"name": "bias"} if select == "bias" else select} | ({} if select == "bias" else {"mode": mode})
        | ({} if until is None else {"until": {"epoch": until}})
        for select, mode, until in rules
    ]  # fmt: skip
    plan = plan_of(section)
    noted = {note.path[1] for note in plan.notes()}
    rest = plan_of([rule for index, rule in enumerate(section) if index not in noted])
    assert all(plan.state(epoch, 0) == rest.state(epoch, 0) for epoch in range(4))
    assert rest.notes() == []


def test_ends_compare_as_they_are():
    assert Until("epoch", 2).has_come(2, 0) and not Until("epoch", 2).has_come(1, 999)
    assert Until("step", 2).has_come(0, 2) and not Until("step", 2).has_come(999, 1)


MESSAGES = {
    "no such module": (
        "trunc",
        "train.yaml:7: freeze: no module or parameter has such a name\n"
        "  found:    'trunc'\n"
        "  did you mean 'trunk' or 'trunk.2' or 'trunk.1'?",
    ),
    "no such type": (
        [{"select": {"type": "BatchNorm2d"}}],
        "train.yaml:7: freeze[0].select.type: no module is of this type\n"
        "  found:    'BatchNorm2d'\n"
        "  expected: one of Net, Linear, Sequential, BatchNorm1d, Dropout, LSTM\n"
        "  did you mean 'BatchNorm1d'?",
    ),
    "a key that no rule has": (
        {"select": "trunk", "untill": {"epoch": 1}},
        "train.yaml:7: freeze.untill: unknown key 'untill' of a rule to freeze\n"
        "  expected: select | mode | until\n"
        "  did you mean 'until'?",
    ),
    "a misspelt select": (
        {"selct": "trunk"},
        "train.yaml:7: freeze.selct: unknown key 'selct' of a rule to freeze\n"
        "  expected: select | mode | until\n"
        "  did you mean 'select'?",
    ),
    "a selector's key beside until": (
        {"match": "trunk", "until": {"epoch": 1}},
        "train.yaml:7: freeze.match: unknown key 'match' of a rule to freeze\n"
        "  expected: select | mode | until\n"
        "  hint:     what a selector says stands under 'select'",
    ),
    "no select": (
        [{"until": {"epoch": 1}}],
        "train.yaml:7: freeze[0]: a rule to freeze needs 'select'\n"
        "  found:    {'until': {'epoch': 1}}\n"
        "  hint:     freeze: {select: encoder, until: {epoch: 3}}",
    ),
    "a mode that there isn't": (
        {"select": "trunk", "mode": "evil"},
        "train.yaml:7: freeze.mode: unknown mode\n  found:    'evil'\n  expected: eval | train\n  did you mean 'eval'?",
    ),
    "a number without a unit": (
        {"select": "trunk", "until": 3},
        "train.yaml:7: freeze.until: 'until' is an epoch or a step\n"
        "  found:    3\n"
        "  expected: {epoch: 3} or {step: 1000}; null for good",
    ),
    "both units": (
        {"select": "trunk", "until": {"epoch": 1, "step": 2}},
        "train.yaml:7: freeze.until: 'until' is an epoch or a step\n"
        "  found:    {'epoch': 1, 'step': 2}\n"
        "  expected: {epoch: 3} or {step: 1000}; null for good",
    ),
    "another unit": (
        {"select": "trunk", "until": {"epochs": 1}},
        "train.yaml:7: freeze.until.epochs: unknown key 'epochs' of 'until'\n"
        "  expected: epoch | step\n"
        "  did you mean 'epoch'?",
    ),
    "epoch 0": (
        {"select": "trunk", "until": {"epoch": 0}},
        "train.yaml:7: freeze.until.epoch: until epoch 0 freezes nothing: training begins there\n"
        "  found:    0\n"
        "  expected: a whole number from 1; epochs count from 0",
    ),
    "no number": (
        {"select": "trunk", "until": {"step": True}},
        "train.yaml:7: freeze.until.step: no step to train from\n"
        "  found:    True\n"
        "  expected: a whole number from 1; steps count from 0",
    ),
    "a mode for parameters": (
        {"select": {"name": "bias"}, "mode": "eval"},
        "train.yaml:7: freeze.mode: {name: bias} selects parameters, which have no mode\n"
        "  found:    'eval'\n"
        "  hint:     leave 'mode' out, or select modules",
    ),
    "nothing to freeze": (
        {"select": {"type": "Dropout"}, "mode": "train"},
        "train.yaml:7: freeze: this freezes nothing: {type: Dropout} has no parameters\n"
        "  hint:     mode: eval would hold its modules in eval mode",
    ),
    "everything": (
        "**",
        "train.yaml:7: freeze: nothing is left to train: all 223 parameters are frozen for good",
    ),
    "everything at first": (
        [{"select": "**", "until": {"epoch": 2}}, {"select": "head", "until": {"step": 5}}],
        "train.yaml:7: freeze: nothing is left to train before epoch 2: all 223 parameters are frozen",
    ),
    "several faults": (
        [{"select": "trunc"}, {"select": "stem", "mode": "train"}, "heat"],
        "train.yaml:7: freeze[0].select: no module or parameter has such a name\n"
        "  found:    'trunc'\n"
        "  did you mean 'trunk' or 'trunk.2' or 'trunk.1'?\n"
        "train.yaml:7: freeze[2]: no module or parameter has such a name\n"
        "  found:    'heat'\n"
        "  did you mean 'head'?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MESSAGES)
def test_a_wrong_section_says_what_is_wrong(case):
    section, message = MESSAGES[case]
    assert told(section) == message


@pytest.mark.parametrize("section", [{}, "", 3, True, [None], [[]], {"select": None}, {"select": {}}, [{}]])
def test_a_section_that_selects_nothing_is_refused(section):
    assert "train.yaml:7: freeze" in told(section)


def test_modules_without_parameters_may_be_held():
    plan = plan_of({"type": "Dropout"})
    assert plan.state(0, 0) == (frozenset(), {"trunk.2"})


PLACES = ("stem", "trunk", "trunk.0", "trunk.1", "head.bias", "rnn")
ENDS = st.none() | st.builds(lambda unit, at: {unit: at}, st.sampled_from(["epoch", "step"]), st.integers(1, 6))
RULES = st.lists(
    st.builds(
        lambda select, mode, until: {"select": select, "mode": mode, "until": until},
        st.sampled_from(PLACES), st.sampled_from(["eval", "train"]), ENDS,
    ),
    max_size=5,
)  # fmt: skip
POSITION = st.tuples(st.integers(0, 7), st.integers(0, 7))


def naive(rules, names, position, eval_only=False):
    """The names under a rule's that hasn't ended, asked one by one."""
    found = set()
    for rule in rules:
        unit, end = next(iter((rule["until"] or {"epoch": 10**9}).items()))
        ended = dict(zip(("epoch", "step"), position, strict=True))[unit] >= end
        if not ended and not (eval_only and rule["mode"] == "train"):
            found |= {name for name in names if name == rule["select"] or name.startswith(rule["select"] + ".")}
    return found


@given(RULES, st.lists(POSITION, min_size=1, max_size=4))
def test_the_state_is_that_of_a_naive_reading_however_one_came_there(rules, positions):
    model = Net()
    plan = plan_of(rules, model)
    for position in positions:
        plan.apply(model, *position)
    frozen, in_eval = naive(rules, ALL, positions[-1]), naive(rules, dict(model.named_modules()), positions[-1], True)
    assert plan.state(*positions[-1]) == (frozen, in_eval - {"rnn"})
    assert {name for name, parameter in model.named_parameters() if not parameter.requires_grad} == frozen | {"scale"}
    assert {name for name, module in model.named_modules() if not module.training} == in_eval - {"rnn"}
    assert set(plan.ever_trainable) == ALL - naive(rules, ALL, (10**8, 10**8))


@given(RULES, st.none() | st.integers(1, 5))
def test_phases_count_the_whole_model_and_only_ever_train_more(rules, steps_per_epoch):
    phases = plan_of(rules).phases(steps_per_epoch)
    assert {phase.trainable + phase.frozen for phase in phases} == {228}
    if steps_per_epoch is not None:
        trainable = [phase.trainable for phase in phases]
        assert trainable == sorted(trainable)
