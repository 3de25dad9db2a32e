import pytest
from torch import nn
from torch.optim import SGD, lr_scheduler

from builder.config.origin import Origins
from builder.errors import ConfigError, Origin
from builder.optim.scheduler import build_scheduler
from builder.registry import schedulers

ORIGINS = Origins({("scheduler",): Origin("train.yaml", 3)})

ARGUMENTS = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [2, 4]},
    "ConstantLR": {},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 5},
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "PolynomialLR": {},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 8},
    "ReduceLROnPlateau": {"patience": 0},
    "LambdaLR": {"lr_lambda": "=0.9 ** step"},
    "MultiplicativeLR": {"lr_lambda": "=0.9 if step < 3 else 0.5"},
    "WarmupCosine": {"total_steps": 6, "warmup": 2},
    "WarmupLinear": {"total_steps": 6, "warmup": 2},
    "WarmupStableDecay": {"total_steps": 6, "warmup": 2, "decay": 2},
}
NESTED = [{"type": "LinearLR", "start_factor": 0.5, "total_iters": 3}, {"type": "ExponentialLR", "gamma": 0.5}]
FUNCTIONS = {"LambdaLR": lambda step: 0.9**step, "MultiplicativeLR": lambda step: 0.9 if step < 3 else 0.5}


def optimizer():
    return SGD(nn.Linear(2, 2).parameters(), lr=0.1, momentum=0.9)


def refusal(section, **kwargs):
    with pytest.raises(ConfigError) as caught:
        build_scheduler(optimizer(), section, ORIGINS, **kwargs)
    return str(caught.value)


def curve(optimizer, scheduler):
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(1.0) if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else scheduler.step()
    return rates


def by_hand(name, optimizer):
    """The scheduler as one would make it in Python."""
    target = schedulers.get(name)
    if name in ("SequentialLR", "ChainedScheduler"):
        parts = [getattr(lr_scheduler, part["type"])(optimizer, **without_type(part)) for part in NESTED]
        return target(optimizer, parts, milestones=[3]) if name == "SequentialLR" else target(parts, optimizer)
    if name in FUNCTIONS:
        return target(optimizer, FUNCTIONS[name])
    return target(optimizer, **ARGUMENTS[name])


def without_type(section):
    return {key: value for key, value in section.items() if key != "type"}


def arguments(name):
    if name == "SequentialLR":
        return {"schedulers": NESTED, "milestones": [3]}
    return {"schedulers": NESTED} if name == "ChainedScheduler" else ARGUMENTS[name]


@pytest.mark.parametrize("name", [name for name in schedulers.names() if "Tested" not in name])
def test_every_registered_scheduler_gives_the_rates_that_it_gives_alone(name):
    monitor = {"monitor": "val/loss"} if name == "ReduceLROnPlateau" else {}
    ours, theirs = optimizer(), optimizer()
    schedule = build_scheduler(ours, {"type": name, "interval": "step", **monitor, **arguments(name)}, Origins())
    alone = by_hand(name, theirs)
    assert isinstance(schedule.scheduler, type(alone))
    assert curve(ours, schedule.scheduler) == curve(theirs, alone)
    assert (schedule.interval, schedule.frequency, schedule.monitor) == ("step", 1, monitor.get("monitor"))


def test_no_section_gives_no_scheduler():
    assert build_scheduler(optimizer(), None, Origins()) is None


def test_formulas_use_the_numbers_of_steps():
    section = {"type": "CosineAnnealingLR", "T_max": "=total_steps - steps_per_epoch"}
    schedule = build_scheduler(optimizer(), section, Origins(), steps={"total_steps": 100, "steps_per_epoch": 10})
    assert schedule.scheduler.T_max == 90 and schedule.interval == "epoch"


def test_a_formula_over_steps_that_are_not_known_is_refused():
    assert "total_steps" in refusal({"type": "CosineAnnealingLR", "T_max": "=total_steps"})


def test_all_faults_are_told_at_once():
    text = refusal({"type": "StepLR", "interval": "batch", "frequency": 0, "step_sise": 1})
    assert text == (
        "train.yaml:3: scheduler.step_sise: scheduler StepLR has no argument 'step_sise'\n"
        "  expected: step_size, gamma, last_epoch\n"
        "  did you mean 'step_size'?\n"
        "train.yaml:3: scheduler: scheduler StepLR needs the argument 'step_size'\n"
        "  expected: int\n"
        "train.yaml:3: scheduler.interval: unknown interval\n"
        "  found:    'batch'\n"
        "  expected: epoch | step\n"
        "train.yaml:3: scheduler.frequency: frequency can't be used\n"
        "  found:    0\n"
        "  expected: a whole number from 1"
    )


def test_a_plateau_needs_a_metric_that_will_exist():
    plateau = {"type": "ReduceLROnPlateau"}
    assert "ReduceLROnPlateau needs a metric to watch" in refusal(plateau)
    text = refusal({**plateau, "monitor": "val/los"}, metrics=["train/loss", "val/loss"])
    assert text == (
        "train.yaml:3: scheduler.monitor: there will be no metric 'val/los'\n"
        "  expected: train/loss | val/loss\n"
        "  did you mean 'val/loss'?"
    )


def test_a_metric_that_would_not_be_watched_is_refused():
    assert "StepLR watches no metric" in refusal({"type": "StepLR", "step_size": 1, "monitor": "val/loss"})
