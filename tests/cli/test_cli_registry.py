import json
import re

import pytest

from builder.cli.main import main
from builder.registry import initialisers, registries


def told(capsys, *words):
    code = main(list(words))
    written = capsys.readouterr()
    return code, written.out, written.err


def test_a_kind_lists_each_name_with_its_call_and_purpose_on_one_line(capsys):
    code, out, _ = told(capsys, "registry", "initialiser")
    assert code == 0
    lines = out.splitlines()
    assert [line.partition("(")[0] for line in lines] == initialisers.names()
    assert "trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None)  Fill the input Tensor with" in out


def test_on_a_terminal_nothing_is_wider_than_it(capsys, monkeypatch):
    monkeypatch.setattr("builder.cli.output.is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    for words in (["optimizer"], ["loss"], ["layer", "Conv2d"]):
        code, out, _ = told(capsys, "registry", *words)
        table = out.split("\n\nApplies")[0]
        lines = [line for line in table.splitlines() if not re.search(r"\.py:\d+$", line)]  # a path stays whole
        assert code == 0 and max(map(len, lines)) <= 80


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_is_for_terminals_without_no_color(capsys, monkeypatch, no_color, coloured):
    monkeypatch.setattr("builder.cli.output.is_terminal", lambda stream: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    assert ("\x1b[" in told(capsys, "registry", "initialiser")[1]) is coloured


def test_output_that_is_piped_has_no_colour(capsys):
    assert "\x1b[" not in told(capsys, "registry", "initialiser")[1]


def test_a_name_is_shown_whole(capsys):
    code, out, _ = told(capsys, "registry", "layer", "Conv2d")
    assert code == 0
    head, table, doc = out.split("\n\n", 2)
    assert head.splitlines()[0].startswith("Conv2d(in_channels, out_channels, kernel_size, stride=1")
    assert head.splitlines()[1] == "layer, torch.nn.modules.conv.Conv2d"
    assert "torch/nn/modules/conv.py:" in head.splitlines()[2].replace("\\", "/")
    assert [line.split() for line in table.splitlines()][:4] == [
        ["in_channels", "int", "required"],
        ["out_channels", "int", "required"],
        ["kernel_size", "int", "or", "list", "of", "2", "int", "required"],
        ["stride", "int", "or", "list", "of", "2", "int", "1"],
    ]
    assert doc.startswith("Applies a 2D convolution")


def test_a_constant_is_shown(capsys):
    assert told(capsys, "registry", "function", "float32") == (0, "float32\nfunction, torch.float32\n", "")


def test_names_and_entries_come_as_json(capsys):
    rows = json.loads(told(capsys, "registry", "scheduler", "--json")[1])
    assert next(row for row in rows if row["name"] == "StepLR") == {
        "name": "StepLR", "signature": "(optimizer, step_size, gamma=0.1, last_epoch=-1)",
        "doc": "Decays the learning rate of each parameter group by gamma every step_size epochs.",
    }  # fmt: skip
    entry = json.loads(told(capsys, "registry", "--json", "loss", "MSELoss")[1])
    assert (entry["kind"], entry["object"]) == ("loss", "torch.nn.modules.loss.MSELoss")
    assert entry["arguments"][-1] == {"name": "reduction", "accepts": "str", "default": "'mean'"}


def test_kinds_are_listed_with_counts(capsys):
    code, out, _ = told(capsys, "registry")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        [kind, str(len(registry))] for kind, registry in registries.items()
    ]
    assert json.loads(told(capsys, "registry", "--json")[1])["layer"] == len(registries["layer"])


def test_every_kind_says_what_it_is_for():
    from builder.cli.registry import USES

    assert set(USES) == set(registries)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["layr"], "error: unknown kind 'layr'; did you mean 'layer'?\n"),
        (["losses"], "error: unknown kind 'losses'; did you mean 'loss'?\n"),
        (["loss", "MSELos"], "error: unknown loss 'MSELos'; did you mean 'MSELoss' or 'BCELoss'?\n"),
    ],
)
def test_an_unknown_kind_or_name_is_told_with_the_nearest(capsys, words, text):
    assert told(capsys, "registry", *words) == (2, "", text)


def test_a_users_layer_is_listed_with_its_file(capsys, tmp_path, monkeypatch):
    file = tmp_path / "my_cli_layers.py"
    file.write_text(
        "from torch import nn\nfrom builder import register\n\n\n@register.layer\nclass Gate(nn.Module):\n"
        '    """Multiplies by a gate."""\n\n    def __init__(self, width: int, bias: bool = True) -> None:\n'
        "        super().__init__()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    try:
        code, out, _ = told(capsys, "registry", "--import", "my_cli_layers", "layer", "Gate")
        assert code == 0
        assert out == (
            f"Gate(width, bias=True)\nlayer, my_cli_layers.Gate\n{file}:5\n\n"
            "  width  int   required\n  bias   bool  True\n\nMultiplies by a gate.\n"
        )
    finally:
        registries["layer"]._entries.pop("Gate", None)
        __import__("sys").modules.pop("my_cli_layers", None)
