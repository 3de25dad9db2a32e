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
}


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


@pytest.mark.parametrize("name", schedulers.names())
def test_every_registered_scheduler_gives_the_rates_that_it_gives_alone(name):
    arguments = ARGUMENTS[name]
    monitor = {"monitor": "val/loss"} if name == "ReduceLROnPlateau" else {}
    ours, theirs = optimizer(), optimizer()
    schedule = build_scheduler(ours, {"type": name, "interval": "step", **monitor, **arguments}, Origins())
    alone = getattr(lr_scheduler, name)(theirs, **arguments)
    assert type(schedule.scheduler) is type(alone)
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
