"""Every registered component is reachable from the command line and from a config, and says what it is.

That each registry holds all that its namespace has is shown beside the catalog's tests.
"""

import json

import pytest
import yaml

from builder.config.folders import shipped_configs
from builder.registry import registries
from command_line import run

SHOWN = {"layer": 100, "function": 300, "initialiser": 10, "loss": 15, "metric": 100, "optimizer": 10, "scheduler": 10,
         "dataset": 2, "transform": 5, "callback": 10, "logger": 5, "hook": 1, "executor": 5}  # fmt: skip
"""The least number of entries of each kind: a catalog that loses them is noticed."""


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("listed")
    return {kind: run(folder, "registry", kind, "--json") for kind in registries}


def test_the_kinds_are_these():
    assert list(registries) == list(SHOWN)


@pytest.mark.parametrize("kind", SHOWN)
def test_every_component_is_listed_with_its_purpose(kind, listed):
    assert listed[kind].code == 0
    entries = json.loads(listed[kind].out)
    names = {entry["name"] for entry in entries} if isinstance(entries, list) else set(entries)
    assert names >= {name for name in registries[kind].names() if "Tested" not in name}
    assert len(names) >= SHOWN[kind]


@pytest.mark.parametrize("kind", SHOWN)
def test_one_of_each_kind_is_told_about_in_full(kind, tmp_path):
    name = registries[kind].names()[0]
    ran = run(tmp_path, "registry", kind, name)
    assert ran.code == 0 and ran.out.startswith(name) and kind in ran.out.splitlines()[1]


def test_every_data_set_has_a_config():
    used = {yaml.safe_load(path.read_text())["type"] for path in (shipped_configs() / "data").glob("*.yaml")}
    assert used == {name for name in registries["dataset"].names() if "Tested" not in name}


def test_every_own_callback_and_logger_is_used_by_a_config():
    own = {
        name
        for kind in ("callback", "logger")
        for name in registries[kind].names()
        if registries[kind].get(name).__module__.startswith("builder.")
    }
    used = {
        part["type"]
        for group in ("callbacks", "logger")
        for path in (shipped_configs() / group).glob("*.yaml")
        for part in yaml.safe_load(path.read_text()).values()
    }
    assert own <= used
