"""Schedules that can't run through a training are refused before it, at the argument that brings it about."""

import pytest
import torch
from optim_helpers import vit
from torch import nn

from builder.config.origin import Origins
from builder.errors import ConfigError, Origin
from builder.optim.optimizer import build_optimizer
from builder.optim.scheduler import build_scheduler

STEPS = {"total_steps": 20, "steps_per_epoch": 5, "max_epochs": 4}


def optimizer(model=None, **section):
    section = {"type": "SGD", "lr": 0.2, "momentum": 0.9, **section}
    return build_optimizer(model or nn.Linear(2, 2), section, Origins())


def schedule(section, given=None, steps=STEPS):
    known = {("scheduler",): Origin("train.yaml", 3)}
    known |= {("scheduler", key): Origin(override=f"scheduler.{key}={section[key]}") for key in section}
    return build_scheduler(given or optimizer(), {"interval": "step", **section}, Origins(known), steps=steps)


def refusal(section, given=None, steps=STEPS):
    with pytest.raises(ConfigError) as caught:
        schedule(section, given, steps)
    return str(caught.value)


def test_what_fails_in_training_is_told_at_its_argument():
    assert refusal({"type": "StepLR", "step_size": 0}) == (
        "override 'scheduler.step_size=0': scheduler.step_size: StepLR fails after step 0: "
        "ZeroDivisionError: integer modulo by zero\n"
        "  found:    0"
    )
    assert refusal({"type": "CosineAnnealingLR", "T_max": 0}).startswith(
        "override 'scheduler.T_max=0': scheduler.T_max: CosineAnnealingLR fails after step 0: ZeroDivisionError"
    )


def test_a_negative_rate_is_told_at_its_argument():
    assert refusal({"type": "ExponentialLR", "gamma": -1}) == (
        "override 'scheduler.gamma=-1': scheduler.gamma: "
        "ExponentialLR gives the group 'default' the learning rate -0.2 at step 1\n"
        "  found:    -1\n"
        "  expected: learning rates from 0 on"
    )
    assert "the learning rate inf at step 1" in refusal({"type": "ExponentialLR", "gamma": float("inf")})
    assert "scheduler.eta_min: CosineAnnealingLR gives" in refusal({"type": "CosineAnnealingLR", "eta_min": -1})


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"type": "WarmupCosine", "warmup": -1}, "warmup: scheduler 'WarmupCosine' can't be made: warmup is -1"),
        ({"type": "WarmupCosine", "warmup": 20}, "warmup: scheduler 'WarmupCosine' can't be made: a warm-up of 20"),
        ({"type": "WarmupCosine", "min_ratio": -1}, "min_ratio: scheduler 'WarmupCosine' can't be made: min_ratio is"),
        ({"type": "WarmupStableDecay", "decay": -1}, "decay: scheduler 'WarmupStableDecay' can't be made: decay is"),
        ({"type": "OneCycleLR", "pct_start": -1}, "pct_start: scheduler 'OneCycleLR' can't be made: Expected float"),
        ({"type": "CyclicLR", "base_lr": 0.1, "max_lr": 1, "step_size_up": 0}, "step_size_up: scheduler 'CyclicLR'"),
        ({"type": "WarmupCosine", "warmup": -1, "min_ratio": -1}, "min_ratio: scheduler 'WarmupCosine'"),
    ],
)
def test_an_argument_that_is_refused_is_told_where_it_was_written(section, said):
    key = said.partition(":")[0]
    assert refusal(section).startswith(f"override 'scheduler.{key}={section[key]}': scheduler.{said}")
    assert refusal(section).endswith(f"\n  found:    {section[key]}")


def test_a_fault_that_no_argument_alone_brings_about_is_told_at_the_section():
    text = refusal({"type": "CosineAnnealingLR", "T_max": 0, "eta_min": -1})
    assert text.startswith("train.yaml:3: scheduler: CosineAnnealingLR fails after step 0: ZeroDivisionError")


def test_a_plateau_does_not_turn_rates_round():
    with pytest.raises(ConfigError) as caught:
        schedule({"type": "ReduceLROnPlateau", "monitor": "val/loss", "factor": -0.5, "patience": 50})
    assert str(caught.value) == (
        "override 'scheduler.factor=-0.5': scheduler.factor: "
        "ReduceLROnPlateau multiplies learning rates by a negative factor\n"
        "  found:    -0.5"
    )


def test_only_rates_that_are_stepped_with_are_judged():
    schedule({"type": "LambdaLR", "lr_lambda": "=1 - step / 19"})
    assert "the learning rate -0.01111 at step 19" in refusal({"type": "LambdaLR", "lr_lambda": "=1 - step / 18"})
    assert "scheduler.lr_lambda: division by zero" in refusal({"type": "LambdaLR", "lr_lambda": "=1 / (20 - step)"})


def test_long_schedules_are_looked_at_to_their_end():
    steps = {**STEPS, "total_steps": 100_000}
    schedule({"type": "LambdaLR", "lr_lambda": "=1 - step / total_steps"}, steps=steps)
    section = {"type": "LambdaLR", "lr_lambda": "=1 - step / 50000"}
    assert "scheduler.lr_lambda: LambdaLR gives the group 'default' the learning rate -" in refusal(
        section, steps=steps
    )


def test_without_a_known_length_a_schedule_that_ends_is_not_judged_by_what_may_never_come():
    schedule({"type": "LambdaLR", "lr_lambda": "=1 - step / 18"}, steps={})
    schedule({"type": "OneCycleLR", "total_steps": 18}, steps={})
    assert "ZeroDivisionError" in refusal({"type": "StepLR", "step_size": 0}, steps={})


def test_a_cycle_that_is_over_before_the_training_is_refused():
    assert refusal({"type": "OneCycleLR", "total_steps": 7}) == (
        "override 'scheduler.total_steps=7': scheduler.total_steps: "
        "OneCycleLR is over after 7 steps, but there will be 20\n"
        "  found:    7"
    )


def test_schedulers_within_are_tried_for_their_part():
    parts = [{"type": "LinearLR"}, {"type": "ExponentialLR", "gamma": -1}]
    text = refusal({"type": "SequentialLR", "milestones": [5], "schedulers": parts})
    assert "scheduler.schedulers[1].gamma: ExponentialLR gives the group 'default' the learning rate -0.2" in text
    parts = [{"type": "LambdaLR", "lr_lambda": "=1 - step / 5"}, {"type": "ConstantLR"}]
    schedule({"type": "SequentialLR", "milestones": [5], "schedulers": parts})


def test_milestones_must_rise():
    part = {"type": "CosineAnnealingLR"}
    section = {"type": "SequentialLR", "schedulers": [part, part, part]}
    for milestones in ([10, 5], [0, 5], [5, 5]):
        assert refusal(section | {"milestones": milestones}) == (
            f"override 'scheduler.milestones={milestones}': scheduler.milestones: milestones must rise\n"
            f"  found:    {milestones}\n"
            "  expected: steps from 1 on, each later than the one before"
        )
    assert refusal(section | {"milestones": [5]}).endswith(
        "the number of milestones is 1, that of schedulers 3\n"
        "  found:    [5]\n"
        "  expected: 2: where one scheduler ends and the next begins"
    )


def test_a_part_that_is_never_reached_is_noted():
    part = {"type": "CosineAnnealingLR"}
    section = {"type": "SequentialLR", "schedulers": [part, part], "milestones": [30]}
    (note,) = schedule(section).notes
    assert note.message == "what comes from milestone 30 on is never reached: it steps 20 times"
    assert schedule(section | {"milestones": [10]}).notes == ()


def test_a_trial_leaves_the_optimiser_as_it_was():
    def state(given):
        return [{key: value for key, value in group.items() if key != "params"} for group in given.param_groups]

    given, alone = optimizer(), optimizer()
    refusal({"type": "OneCycleLR", "pct_start": -1}, given)
    refusal({"type": "ExponentialLR", "gamma": -1}, given)
    assert state(given) == state(alone)
    scheduler = schedule({"type": "OneCycleLR"}, given).scheduler
    theirs = torch.optim.lr_scheduler.OneCycleLR(alone, max_lr=0.2, total_steps=20)
    assert scheduler.last_epoch == theirs.last_epoch == 0
    assert scheduler.get_last_lr() == theirs.get_last_lr()


def test_the_name_of_a_group_stands_for_its_parts():
    groups = [{"name": "head", "select": "head"}]
    given = optimizer(vit(), weight_decay=0.1, no_decay={"ndim": 1}, layer_decay=0.5, groups=groups)
    rates = {"head": 1.0, "default": 0.5, "default/layer_0": 0.1, "default/layer_4/no_decay": 0.2}
    schedule({"type": "OneCycleLR", "max_lr": rates}, given)
    assert {group["name"]: group["max_lr"] for group in given.param_groups} == {
        "head/layer_4": 1.0, "head/layer_4/no_decay": 1.0,
        "default/layer_0": 0.1, "default/layer_0/no_decay": 0.1,
        "default/layer_1": 0.5, "default/layer_1/no_decay": 0.5, "default/layer_2": 0.5,
        "default/layer_2/no_decay": 0.5, "default/layer_3": 0.5, "default/layer_3/no_decay": 0.5,
        "default/layer_4/no_decay": 0.2,
    }  # fmt: skip


def test_a_part_without_a_value_is_named():
    given = optimizer(vit(), weight_decay=0.1, no_decay={"ndim": 1})
    text = refusal({"type": "OneCycleLR", "max_lr": {"default/no_decay": 0.5}}, given)
    assert "scheduler.max_lr: 'max_lr' has no value for 'default'\n  expected: a value for each group" in text


def test_groups_that_were_merged_go_by_any_name_that_all_agree_on():
    given = optimizer(vit(), groups=[{"select": "head", "lr": 1}, {"select": "norm", "lr": 1}])
    for rates in ({"head": 1, "norm": 1, "default": 2}, {"head + norm": 1, "default": 2}):
        schedule({"type": "OneCycleLR", "max_lr": rates}, given)
        assert [group["max_lr"] for group in given.param_groups] == [1, 2]
    text = refusal({"type": "OneCycleLR", "max_lr": {"head": 1, "norm": 2, "default": 2}}, given)
    assert "'max_lr' has no value for 'head + norm'" in text
