"""docs/data.md: its examples run, and it tells of all there is."""

import inspect
import re

import pytest
import torch
import yaml

from builder import registry
from builder.config.folders import shipped_configs
from builder.config.origin import Origins
from builder.data.load import RESERVED, load
from builder.data.transforms import transforms
from made_files import sections

DOCS = shipped_configs().parent / "docs" / "data.md"
TEXT = DOCS.read_text(encoding="utf-8")
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.S)]
PART_OF = {"Topics": "Text"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    sections(folder)
    return folder


@pytest.mark.parametrize("section", EXAMPLES, ids=lambda section: section["type"])
def test_every_example_loads(section, folder, monkeypatch):
    monkeypatch.chdir(folder)
    data = load({**section, "batch_size": 4}, 0, Origins())
    assert data.facts.tensors.keys() == next(iter(data.loader("train"))).keys()
    assert data.facts.tensors.keys() == next(iter(data.loader("val"))).keys()


def test_the_data_set_of_ones_own_loads(monkeypatch):
    registry.datasets.names()
    monkeypatch.setattr(registry.datasets, "_entries", dict(registry.datasets._entries))
    exec(re.search(r"```python\n(.*?)```", TEXT, re.S)[1], {"torch": torch})
    data = load({"type": "Squares", "batch_size": 4, "num_workers": 0}, 0, Origins())
    assert data.facts.values["num_train"] == 70 and next(iter(data.loader("val")))["x"].shape == (4, 1)


def test_every_data_set_has_an_example():
    ours = {name for name in registry.datasets if registry.datasets.get(name).__module__.startswith("builder.")}
    assert ours - PART_OF.keys() == {section["type"] for section in EXAMPLES}
    assert all(f"`type: {name}`" in TEXT for name in PART_OF)


def test_every_transform_is_in_the_table():
    table = TEXT.split("## Transforms", 1)[1]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.M)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(transforms)


def test_every_key_of_the_section_is_told_of():
    assert [key for key in RESERVED if not re.search(rf"\b{key}\b", TEXT)] == []


def test_every_fact_is_listed(folder, monkeypatch):
    monkeypatch.chdir(folder)
    listed = set(re.findall(r"`(\w+)`", TEXT.split("## Facts", 1)[1].split("## Transforms", 1)[0]))
    given = set()
    for section in EXAMPLES:
        given |= load({**section, "batch_size": 4}, 0, Origins()).facts.values.keys()
    given |= load({"type": "SklearnDataset", "name": "diabetes", "batch_size": 4}, 0, Origins()).facts.values.keys()
    assert given == listed


def test_every_shipped_config_of_the_room_has_only_keys_that_its_type_takes():
    for path in sorted((shipped_configs() / "data").glob("*.yaml")):
        section = yaml.safe_load(path.read_text())
        section.pop("fits", None)  # what composing takes out
        takes = {*inspect.signature(registry.datasets.get(section["type"])).parameters, *RESERVED}
        assert set(section) <= takes, path
