import pytest
from torch import nn

from builder.config.folders import shipped_configs
from builder.config.origin import Origins
from builder.config.yaml_file import read_yaml
from builder.optim.optimizer import build_optimizer
from builder.optim.scheduler import build_scheduler

STEPS = {"total_steps": 100, "steps_per_epoch": 10, "max_epochs": 10}
TASK = {"${task.monitor}": "val/loss", "${task.mode}": "min"}


def shipped(group):
    return sorted((shipped_configs() / group).glob("*.yaml"))


@pytest.mark.parametrize("path", shipped("optimizer"), ids=lambda path: path.stem)
def test_every_shipped_optimizer_can_be_built(path):
    section = read_yaml(path).value
    optimizer = build_optimizer(nn.Linear(2, 2), section, Origins())
    assert optimizer.param_groups[-1]["type"] == section["type"]


@pytest.mark.parametrize("path", [p for p in shipped("scheduler") if p.stem != "none"], ids=lambda path: path.stem)
def test_every_shipped_scheduler_can_be_built(path):
    section = {key: TASK.get(value, value) for key, value in read_yaml(path).value.items()}
    optimizer = build_optimizer(nn.Linear(2, 2), {"type": "SGD", "lr": 0.1}, Origins())
    schedule = build_scheduler(optimizer, section, Origins(), steps=STEPS, metrics=["val/loss"])
    assert type(schedule.scheduler).__name__ == section["type"]
