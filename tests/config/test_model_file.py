"""A model's file under overrides."""

from pathlib import Path

import pytest

from builder.config.model_file import ModelFile, read_model_file
from builder.errors import ConfigError

TEXT = """\
args: {width: 4, wider: "${args.width}"}
inputs: {x: [B, 3]}
layers: [{type: Linear, out_features: =width}]
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.yaml").write_text(TEXT)
    return Path("model.yaml")


def test_overrides_change_what_the_file_holds_and_are_its_origins(file):
    values, origins = read_model_file(ModelFile(file, ["args.width=8", "inputs.x=[B,5]", "+layers.0.bias=false"]))
    assert values["args"] == {"width": 8, "wider": 8}
    assert values["inputs"] == {"x": ["B", 5]}
    assert values["layers"] == [{"type": "Linear", "out_features": "=width", "bias": False}]
    assert str(origins.of(("args", "width"))) == "override 'args.width=8'"
    assert str(origins.of(("args", "wider"))) == "model.yaml:1"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "args.widht=8",
            "override 'args.widht=8': args.widht: unknown key\n  did you mean 'width' or 'wider'?\n"
            "  hint:     write '+args.widht=8' to add it",
        ),
        (
            "model/block=mlp",
            "override 'model/block=mlp': a model file has no config groups\n  hint:     for example args.width=8",
        ),
        ("args.width", "override 'args.width': not an override\n  expected: key=value, group=choice, +key=value, ++key=value or ~key"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_refused(file, override, told):
    with pytest.raises(ConfigError) as caught:
        read_model_file(ModelFile(file, [override]))
    assert str(caught.value) == told


def test_a_missing_file_is_told():
    with pytest.raises(ConfigError, match="nowhere.yaml: can't be read: No such file or directory"):
        read_model_file(ModelFile(Path("nowhere.yaml")))
