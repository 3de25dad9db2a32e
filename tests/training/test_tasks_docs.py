"""docs/tasks.md: its examples run, and it tells of all there is."""

import re

import pytest
import torch
import yaml
from training_helpers import shipped

import builder
from builder.config.folders import shipped_configs
from builder.config.origin import Origins
from builder.config.yaml_file import parse_yaml, read_yaml
from builder.data.load import load
from builder.training.callbacks import make_callback, read_callbacks
from builder.training.made import shapes_of
from builder.training.phase import Phase
from builder.training.task import KEYS, read_task

TEXT = (shipped_configs().parent / "docs" / "tasks.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
TASKS = [block for block in BLOCKS if "\ntask:" in block]


def names(group):
    return {path.stem for path in (shipped_configs() / group).glob("*.yaml")}


def run_once(section, model, data):
    """The task's loss and metrics of the first batch, for the model."""
    data = load(shipped("data", data), 0, Origins())
    made = shapes_of(section.get("tensors"), data.facts.tensors, 2, Origins())
    shapes = {key: (2, *fact.shape) for key, fact in data.facts.tensors.items()} | {k: v[0] for k, v in made.items()}
    path = shipped_configs() / "model" / f"{model}.yaml"
    inputs = list(read_yaml(path).value["inputs"])
    network = builder.build(
        path, data=data.facts.values,
        inputs={name: shapes[section.get("inputs", {}).get(name, name)] for name in inputs},
    )  # fmt: skip
    task = read_task(section, data.facts, dict.fromkeys(inputs, True), Origins())
    batch = next(iter(data.loader("train")))
    values = task.names(batch, network(*task.arguments(batch)))
    loss = task.loss.function(values)
    phase = Phase("val", task)
    phase.add(loss, values, len(batch["target"]))
    return loss, phase.compute()


@pytest.mark.parametrize("block", TASKS, ids=lambda block: block.split("\n")[0])
def test_every_task_of_the_page_has_a_loss_and_metrics(block):
    model, data = re.match(r"# model=(\w+) data=(\w+)\n", block).groups()
    section = parse_yaml(block, "tasks.md").value["task"]
    loss, values = run_once(section, model, data)
    loss.backward()
    assert {f"val/{name}" for name in section.get("metrics", {})} <= set(values)
    assert all(torch.isfinite(value) for value in values.values())


def test_there_are_examples():
    assert len(TASKS) == 7


def test_the_callbacks_of_the_page_can_be_made(tmp_path):
    sections = [yaml.safe_load(block)["callbacks"] for block in BLOCKS if block not in TASKS]
    for section in sections:
        components, faults = read_callbacks(section, ["val/loss"], Origins())
        assert faults == [] and len(components) == len(section)
        for component in components:
            make_callback(component, tmp_path, "val/loss", "min")
    assert sections


def test_every_shipped_task_and_callback_is_in_a_table():
    rows = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.M))
    assert rows == names("task") | names("callbacks")


def test_every_key_of_the_section_is_told_of():
    assert [key for key in KEYS if not re.search(rf"`{key}`|^  {key}:", TEXT, re.M)] == []
