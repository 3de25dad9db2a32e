import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.cli.main import main
from builder.cli.show import leaves, yaml_lines
from builder.config.yaml_file import parse_yaml

FORWARD = "y = relu(conv(x))\n\nif training:\n  y = drop(y)\nreturn y\n"
CONFIG = {
    "model": {
        "args": {"width": 64, "rate": 1e-05, "classes": "=data.num_classes"},
        "inputs": {"x": ["B", 3, "H"]},
        "layers": [{"type": "Conv2d", "kernel_size": [3, 3]}, "ReLU"],
        "forward": FORWARD,
    },
    "scheduler": None,
    "empty": {},
    "yes": "no",
}
YAML = """\
model:
  args:
    width: 64
    rate: 1.0e-05
    classes: =data.num_classes
  inputs:
    x: [B, 3, H]
  layers:
    - type: Conv2d
      kernel_size: [3, 3]
    - ReLU
  forward: |
    y = relu(conv(x))

    if training:
      y = drop(y)
    return y
scheduler: null
empty: {}
'yes': 'no'
"""


def text(value):
    return "".join(f"{line}\n" for _, line in yaml_lines(value))


def test_a_config_is_written_as_people_write_yaml():
    assert text({"a": ["0'", "it's"]}) == "a: ['0''', 'it''s']\n"
    assert text(CONFIG) == YAML
    assert yaml.safe_load(YAML) == CONFIG


keys = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=5).filter(lambda key: key != "<<")
scalars = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12) | st.sampled_from(
    ["a\nb", "a\n", "\n", "a\n\n", " a\nb", "- a", "a: b", "#", "|", "1e3", "null", "a\tb\nc", "=x"]
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(keys, values, min_size=1, max_size=4))
def test_what_is_written_reads_back_the_same(config):
    assert parse_yaml(text(config), "config").value == config


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(keys, values, min_size=1, max_size=4))
def test_every_value_has_one_line_with_its_path(config):
    paths = [path for path, _ in yaml_lines(config) if path is not None]
    assert len(paths) == len(set(paths))
    written = {path[:depth] for path in paths for depth in range(len(path) + 1)}
    nested = {path for path, _ in leaves(config)}
    assert all(any(path[:depth] in written for depth in range(len(path), 0, -1)) for path in nested)


@dataclass
class Origins:
    def of(self, path):
        return f"configs/train.yaml:{len(path)}"


@dataclass
class Composed:
    values: dict
    origins: Origins
    superseded: tuple = ()
    open: tuple = ()


@pytest.fixture
def composed(monkeypatch, tmp_path):
    import sys
    from types import ModuleType

    composer = ModuleType("builder.config.compose")
    composer.compose = lambda *args, **more: Composed(CONFIG, Origins())
    monkeypatch.setitem(sys.modules, "builder.config.compose", composer)
    monkeypatch.chdir(tmp_path)


def test_show_config_prints_yaml(composed, capsys):
    assert main(["show", "config"]) == 0
    assert capsys.readouterr().out == YAML


def test_show_config_origins_aligns_the_origin_of_each_key(composed, capsys):
    assert main(["show", "config", "--origins"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[:3] == [
        "model:                          # configs/train.yaml:1",
        "  args:                         # configs/train.yaml:2",
        "    width: 64                   # configs/train.yaml:3",
    ]
    assert {line.index("#") for line in lines if "#" in line} == {32}
    assert yaml.safe_load(out) == CONFIG


def test_show_config_prints_json(composed, capsys):
    assert main(["show", "config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == CONFIG
    assert main(["show", "config", "--json", "--origins"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert both["config"] == CONFIG
    assert both["origins"]["model.layers[0].kernel_size[1]"] == "configs/train.yaml:5"


def test_the_shipped_config_is_shown_with_overrides(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["show", "config", "optimizer.lr=0.125", "trainer.max_epochs=2"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert (values["optimizer"]["lr"], values["trainer"]["max_epochs"]) == (0.125, 2)


def test_the_shipped_config_is_shown_with_origins(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["show", "config", "--origins", "optimizer.lr=0.125"]) == 0
    out = capsys.readouterr().out
    assert "  lr: 0.125" in out and "# override 'optimizer.lr=0.125'" in out
    assert "# configs/train.yaml" in out


def test_a_configs_folder_in_the_current_directory_is_used(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("configs/optimizer").mkdir(parents=True)
    Path("configs/optimizer/mine.yaml").write_text("type: SGD\nlr: 0.5\n")
    assert main(["show", "config", "optimizer=mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["optimizer"] == {"type": "SGD", "lr": 0.5}


def test_an_unknown_key_is_refused_with_the_nearest(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["show", "config", "trainer.max_epoch=1"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "max_epoch" in told and "'max_epochs'" in told
