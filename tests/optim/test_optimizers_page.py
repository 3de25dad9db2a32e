"""What docs/optimizers.md shows is what happens."""

import re
from pathlib import Path

import pytest
import yaml
from optim_helpers import build, vit

import builder
from builder.config.origin import Origins
from builder.optim.report import group_report
from builder.optim.scheduler import build_scheduler

PAGE = (Path(builder.__file__).parents[1] / "docs" / "optimizers.md").read_text()
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: " ".join(example))
def test_every_example_can_be_built(example):
    optimizer = build(vit(), **example.get("optimizer", {"type": "SGD", "lr": 0.1}))
    steps = {"total_steps": 100, "steps_per_epoch": 10, "max_epochs": 10}
    build_scheduler(optimizer, example.get("scheduler"), Origins(), steps=steps)


def test_there_are_examples():
    assert len(EXAMPLES) > 6


def test_the_table_is_that_of_its_example():
    shown = [line.split() for line in PAGE.splitlines() if line.startswith("    ") and "torch's choice" in line]
    model = vit()
    example = next(each["optimizer"] for each in EXAMPLES if "no_decay" in each.get("optimizer", {}))
    given = [line.split() for line in group_report(build(model, **example), model).lines()[1:]]
    assert len(shown) == 5 and [line[:6] for line in shown] == [line[:6] for line in given[:5]]
