"""What the section `scheduler:` adds to PyTorch's schedulers: warm-ups, formulas, lengths, groups."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler

from builder.config.origin import Origins
from builder.errors import ConfigError, Origin
from builder.optim.optimizer import build_optimizer
from builder.optim.scheduler import build_scheduler
from builder.registry import schedulers
from builder.training.checkpoint import check_plain

ORIGINS = Origins({("scheduler",): Origin("train.yaml", 3), ("scheduler", "lr_lambda"): Origin("train.yaml", 5)})
STEPS = {"total_steps": 20, "steps_per_epoch": 5, "max_epochs": 4}
GROUPS = [{"name": "one", "select": "0", "lr": 0.4}, {"name": "two", "select": "1", "lr": 0.1}]


def optimizer(groups=GROUPS, **section):
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
    return build_optimizer(model, {"type": "SGD", "lr": 0.2, "momentum": 0.9, **section, "groups": groups}, Origins())


def schedule(section, given=None, steps=STEPS):
    given = given or optimizer([])
    return given, build_scheduler(given, section, ORIGINS, steps=steps).scheduler


def refusal(section, given=None, steps=STEPS):
    with pytest.raises(ConfigError) as caught:
        schedule(section, given, steps)
    return str(caught.value)


def curve(given, scheduler, steps=20, key="lr"):
    """The rate of each group at each step."""
    rates = []
    for _ in range(steps):
        rates.append([group[key] for group in given.param_groups])
        given.step()
        scheduler.step()
    return torch.tensor(rates, dtype=torch.float64)


def test_a_warm_up_rises_to_the_full_rate_and_wastes_no_step():
    rates = curve(*schedule({"type": "WarmupCosine", "interval": "step", "warmup": 4}))[:, 0]
    assert rates[:5].tolist() == pytest.approx([0.2 * (step + 1) / 5 for step in range(5)])
    assert rates.argmax() == 4 and all(rates[4:].diff() < 0)


def test_a_warm_up_may_be_a_share():
    for share, count in ((0.2, 4), (0, 0), (0.26, 5), (7, 7), (7.0, 7)):
        _, scheduler = schedule({"type": "WarmupLinear", "interval": "step", "warmup": share})
        assert scheduler.warmup_steps == count


def test_cosine_without_warm_up_is_pytorchs():
    ours = curve(*schedule({"type": "WarmupCosine", "interval": "step", "warmup": 0, "min_ratio": 0.1}))
    theirs = SGD([nn.Parameter(torch.ones(1))], lr=0.2)
    expected = curve(theirs, lr_scheduler.CosineAnnealingLR(theirs, T_max=20, eta_min=0.02))
    assert torch.allclose(ours, expected, rtol=1e-12)


def test_linear_without_warm_up_is_pytorchs():
    ours = curve(*schedule({"type": "WarmupLinear", "interval": "step", "warmup": 0, "min_ratio": 0.1}))
    theirs = SGD([nn.Parameter(torch.ones(1))], lr=0.2)
    expected = curve(theirs, lr_scheduler.LinearLR(theirs, start_factor=1.0, end_factor=0.1, total_iters=20))
    assert torch.allclose(ours, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "at"), [("linear", lambda s: 1 - s), ("cosine", lambda s: (1 + math.cos(math.pi * s)) / 2), ("sqrt", lambda s: 1 - s**0.5)]
)  # fmt: skip
def test_a_stable_schedule_falls_at_the_end_only(shape, at):
    section = {
        "type": "WarmupStableDecay",
        "interval": "step",
        "warmup": 4,
        "decay": 0.25,
        "shape": shape,
        "min_ratio": 0.1,
    }
    rates = curve(*schedule(section), steps=24)[:, 0] / 0.2
    assert rates[4:16].tolist() == [1.0] * 12
    assert rates[15:20].tolist() == pytest.approx([0.1 + 0.9 * at(step / 5) for step in range(5)])
    assert rates[20:].tolist() == pytest.approx([0.1] * 4)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"warmup": 20}, "a warm-up of 20 leaves none of 20 steps for the rest"),
        ({"warmup": 1.5}, "warmup is 1.5, which is neither a share below 1 nor a whole number"),
        ({"warmup": -1}, "warmup is -1, which is neither"),
        ({"min_ratio": 2}, "min_ratio is 2, which is not between 0 and 1"),
        ({"total_steps": 0}, "total_steps is 0, which is less than one"),
        (
            {"type": "WarmupStableDecay", "decay": 18, "warmup": 3},
            "warm-up and decay together are longer than 20 steps",
        ),
        ({"type": "WarmupStableDecay", "shape": "bent"}, "expected: 'linear', 'cosine' or 'sqrt'"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(section, said):
    assert said in refusal({"type": "WarmupCosine", "interval": "step", **section})


RATIO_KEPT = {
    "StepLR": {"step_size": 4},
    "MultiStepLR": {"milestones": [4, 9]},
    "ConstantLR": {},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {},
    "CosineAnnealingWarmRestarts": {"T_0": 7},
    "PolynomialLR": {"total_iters": 30},
    "LambdaLR": {"lr_lambda": "=0.9 ** step"},
    "MultiplicativeLR": {"lr_lambda": "=0.9"},
    "OneCycleLR": {},
    "WarmupCosine": {"min_ratio": 0.1},
    "WarmupLinear": {},
    "WarmupStableDecay": {},
    "SequentialLR": {"schedulers": [{"type": "LinearLR"}, {"type": "CosineAnnealingLR"}], "milestones": [5]},
    "ChainedScheduler": {"schedulers": [{"type": "LinearLR"}, {"type": "ExponentialLR", "gamma": 0.9}]},
}
RATIO_NOT_KEPT = {"CyclicLR": {"base_lr": 0.01, "max_lr": 0.1}, "ReduceLROnPlateau": {}}


def test_of_every_scheduler_it_is_known_whether_groups_keep_their_ratios():
    assert RATIO_KEPT.keys() | RATIO_NOT_KEPT.keys() == {name for name in schedulers.names() if "Tested" not in name}


@pytest.mark.parametrize("name", RATIO_KEPT)
def test_groups_keep_their_ratios(name):
    rates = curve(*schedule({"type": name, "interval": "step", **RATIO_KEPT[name]}, optimizer()), steps=19)
    assert rates[:, 0].unique().numel() > 1
    assert torch.allclose(rates / rates[:, :1], torch.tensor([[1.0, 0.25, 0.5]], dtype=torch.float64))


@pytest.mark.parametrize(
    "section",
    [
        {"type": "CosineAnnealingLR", "eta_min": 0.05},
        {"type": "CosineAnnealingWarmRestarts", "T_0": 7, "eta_min": 0.05},
        {"type": "OneCycleLR", "max_lr": 0.4},
        {"type": "CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3},
    ],
)
def test_an_absolute_rate_brings_groups_together(section):
    """What the documentation says of these arguments."""
    rates = curve(*schedule({"interval": "step", **section}, optimizer()), steps=19)
    assert not torch.allclose(rates / rates[:, :1], torch.tensor([[1.0, 0.25, 0.5]], dtype=torch.float64))


def test_one_cycle_rises_to_the_rate_of_each_group():
    given, scheduler = schedule({"type": "OneCycleLR", "interval": "step"}, optimizer())
    assert curve(given, scheduler, 20).max(0).values.tolist() == pytest.approx([0.4, 0.1, 0.2], rel=0.02)
    assert scheduler.total_steps == 20


def test_values_per_group_are_a_list_or_go_by_name():
    named = {"two": 0.1, "one": 0.4, "default": 0.2}
    for rates in (named, [0.4, 0.1, 0.2]):
        section = {"type": "OneCycleLR", "interval": "step", "max_lr": rates}
        assert [group["max_lr"] for group in schedule(section, optimizer())[0].param_groups] == [0.4, 0.1, 0.2]
    section = {"type": "LambdaLR", "lr_lambda": {"one": "=1", "two": "=0.5 ** epoch", "default": "=0.1 ** epoch"}}
    rates = curve(*schedule(section, optimizer()), steps=3)
    assert rates[2].tolist() == pytest.approx([0.4, 0.1 * 0.25, 0.2 * 0.01])


def test_values_for_other_groups_are_refused():
    assert refusal({"type": "OneCycleLR", "interval": "step", "max_lr": {"one": 0.4, "tow": 0.1}}, optimizer()) == (
        "train.yaml:3: scheduler.max_lr.tow: there is no group 'tow'\n"
        "  expected: one | two | default\n"
        "  did you mean 'two'?\n"
        "train.yaml:3: scheduler.max_lr: 'max_lr' has no value for 'two', 'default'\n"
        "  expected: a value for each group"
    )
    assert "Expected 3 lr_lambdas, but got 2" in refusal({"type": "LambdaLR", "lr_lambda": ["=1", "=1"]}, optimizer())


@pytest.mark.parametrize(
    ("section", "length"),
    [
        ({"type": "WarmupCosine", "interval": "step"}, 20),
        ({"type": "WarmupCosine", "interval": "step", "frequency": 3}, 6),
        ({"type": "WarmupCosine"}, 4),
        ({"type": "WarmupCosine", "interval": "step", "total_steps": 9}, 9),
        ({"type": "WarmupCosine", "interval": "step", "total_steps": "=total_steps - 1"}, 19),
        ({"type": "CosineAnnealingLR", "interval": "step"}, 20),
        ({"type": "CosineAnnealingLR"}, 4),
        ({"type": "OneCycleLR", "interval": "step"}, 20),
        ({"type": "OneCycleLR", "interval": "step", "epochs": 5, "steps_per_epoch": 6}, 30),
    ],
)
def test_the_length_of_a_schedule_follows_from_the_training(section, length):
    _, scheduler = schedule(section)
    assert (scheduler.T_max if hasattr(scheduler, "T_max") else scheduler.total_steps) == length


def test_the_lengths_of_schedules_in_a_row_are_those_between_milestones():
    part = {"type": "CosineAnnealingLR"}
    section = {"type": "SequentialLR", "interval": "step", "schedulers": [part, part, part], "milestones": [3, 8]}
    assert [each.T_max for each in schedule(section)[1]._schedulers] == [3, 5, 12]
    section = {"type": "ChainedScheduler", "interval": "step", "schedulers": [part, {"type": "LinearLR"}]}
    assert schedule(section)[1]._schedulers[0].T_max == 20


def test_a_length_that_is_not_known_is_asked_for():
    assert refusal({"type": "WarmupCosine", "interval": "step"}, steps={}) == (
        "train.yaml:3: scheduler: scheduler WarmupCosine needs the argument 'total_steps'\n"
        "  expected: int\n"
        "  hint:     how many steps there will be isn't known here, so that it can't be filled in"
    )


def test_a_formula_sees_the_numbers_of_steps():
    section = {"type": "LambdaLR", "interval": "step", "lr_lambda": "=1 - step / total_steps"}
    assert curve(*schedule(section))[:, 0].tolist() == pytest.approx([0.2 * (1 - step / 20) for step in range(20)])


def test_a_formula_for_cycles():
    section = {
        "type": "CyclicLR",
        "base_lr": 0.1,
        "max_lr": 0.2,
        "step_size_up": 2,
        "scale_fn": "=1 / (5 ** (x * 0.0001))",
    }
    theirs = SGD([nn.Parameter(torch.ones(1))], lr=0.2, momentum=0.9)
    by_hand = lr_scheduler.CyclicLR(theirs, 0.1, 0.2, 2, scale_fn=lambda x: 1 / (5 ** (x * 0.0001)))
    assert torch.equal(curve(*schedule(section)), curve(theirs, by_hand))


def test_formulas_that_cannot_be_used_are_refused():
    assert refusal({"type": "LambdaLR", "lr_lambda": "=0.9 ** step"}) == (
        "train.yaml:5: scheduler.lr_lambda: unknown name 'step'\n"
        "  found:    '=0.9 ** step'\n"
        "  expected: a formula over epoch, total_steps, steps_per_epoch, max_epochs"
    )
    assert refusal({"type": "LambdaLR", "lr_lambda": "lambda epoch: 1"}) == (
        "train.yaml:5: scheduler.lr_lambda: a formula is needed here\n"
        "  found:    'lambda epoch: 1'\n"
        "  expected: a formula over 'epoch': '=0.95 ** epoch'"
    )
    assert "gives no number for epoch = 0, but 'a'" in refusal({"type": "LambdaLR", "lr_lambda": "='a'"})
    assert "only functions can be called" in refusal({"type": "LambdaLR", "lr_lambda": "=(lambda: 1)()"})


def test_a_formula_that_fails_later_says_where_it_stands():
    given, scheduler = schedule({"type": "LambdaLR", "lr_lambda": "=1 / (3 - epoch)"}, steps={})
    with pytest.raises(ConfigError) as caught:
        curve(given, scheduler, 5)
    assert str(caught.value).startswith("train.yaml:5: scheduler.lr_lambda: division by zero")


def test_a_momentum_that_is_not_there_is_not_cycled():
    given = build_optimizer(nn.Linear(2, 2), {"type": "Adagrad"}, Origins())
    assert refusal({"type": "OneCycleLR", "interval": "step"}, given) == (
        "train.yaml:3: scheduler.cycle_momentum: OneCycleLR cycles the momentum, which Adagrad hasn't got\n"
        "  expected: cycle_momentum: false"
    )
    schedule({"type": "OneCycleLR", "interval": "step", "cycle_momentum": False}, given)
    several = optimizer([{"select": "0", "type": "AdamW"}])
    assert "cycles the momentum, which AdamW and SGD haven't in common" in refusal(
        {"type": "OneCycleLR", "interval": "step"}, several
    )


def test_faults_of_schedulers_within_are_told_where_they_stand():
    within = [{"type": "StepLR", "step_sise": 2, "interval": "step"}, {"type": "LinaerLR"}]
    assert refusal({"type": "SequentialLR", "schedulers": within, "milestones": [2]}) == (
        "train.yaml:3: scheduler.schedulers[0].step_sise: scheduler StepLR has no argument 'step_sise'\n"
        "  expected: step_size, gamma, last_epoch\n"
        "  did you mean 'step_size'?\n"
        "train.yaml:3: scheduler.schedulers[0].interval: scheduler StepLR has no argument 'interval'\n"
        "  expected: step_size, gamma, last_epoch\n"
        "train.yaml:3: scheduler.schedulers[0]: scheduler StepLR needs the argument 'step_size'\n"
        "  expected: int\n"
        "train.yaml:3: scheduler.schedulers[1].type: unknown scheduler 'LinaerLR'\n"
        "  did you mean 'LinearLR'?"
    )
    plateau = [{"type": "ReduceLROnPlateau"}, {"type": "LinearLR"}]
    assert refusal({"type": "ChainedScheduler", "schedulers": plateau}) == (
        "train.yaml:3: scheduler.schedulers[0]: ReduceLROnPlateau can't be one of several: it steps by a metric"
    )
    assert "schedulers are a list" in refusal({"type": "ChainedScheduler", "schedulers": {}})
    assert "needs the argument 'schedulers'" in refusal({"type": "ChainedScheduler"})
    assert "number of milestones" in refusal(
        {"type": "SequentialLR", "schedulers": [{"type": "LinearLR"}], "milestones": [2]}
    )


STATEFUL = {**RATIO_KEPT, "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3}}


@pytest.mark.parametrize("name", STATEFUL)
def test_every_scheduler_is_saved_as_plain_values_and_continues(name):
    section = {"type": name, "interval": "step", **STATEFUL[name]}
    whole = curve(*schedule(section, optimizer()), steps=16)
    given, scheduler = schedule(section, optimizer())
    curve(given, scheduler, 6)
    saved = copy.deepcopy((given.state_dict(), scheduler.state_dict()))
    check_plain(saved[1])
    again, resumed = schedule(section, optimizer())
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert torch.equal(curve(again, resumed, 10), whole[6:])


def test_a_schedule_finds_its_groups_by_name():
    section = {"type": "WarmupCosine", "interval": "step"}
    given, scheduler = schedule(section, optimizer())
    whole = curve(given, scheduler, 5)
    saved = copy.deepcopy((given.state_dict(), scheduler.state_dict()))
    expected = curve(given, scheduler, 5)
    again, resumed = schedule(
        section, optimizer([{"name": "new", "select": "2", "lr": 0.8}, *reversed(GROUPS)], lr=0.3)
    )
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert [group["name"] for group in again.param_groups] == ["new", "two", "one"]
    rates = curve(again, resumed, 5)
    assert torch.equal(rates[1:, 1:], expected[1:, [1, 0]])
    assert torch.allclose(rates[1:, 0], expected[1:, 0] * 2) and whole.shape == (5, 3)


def test_pytorchs_own_state_of_a_scheduler_can_be_loaded():
    theirs = SGD([nn.Parameter(torch.ones(1))], lr=0.2, momentum=0.9)
    stock = lr_scheduler.StepLR(theirs, 2)
    curve(theirs, stock, 3)
    _, scheduler = schedule({"type": "StepLR", "step_size": 2})
    scheduler.load_state_dict(stock.state_dict())
    assert scheduler.last_epoch == 3
