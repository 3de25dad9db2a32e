"""A forward that fails at run time shows its line of the YAML file."""

import linecache
import traceback

import pytest
import torch
from lang_helpers import CALLABLES, FUNCTIONS, scope

from builder.errors import Origin
from builder.lang.forward import parse_expression, parse_forward

YAML = """\
layers: {}
# größer
forward: |
    y = x + 1
    if y.ndim == 2:
        z = (y +
             relu(y @ y))
        return z
    return y
"""


def shown(function, *arguments):
    with pytest.raises(RuntimeError) as caught:
        function(*arguments)
    return "".join(traceback.format_exception(caught.value))


def bound(text, origin, path=("model", "forward")):
    return parse_forward(text, scope(), origin=origin, path=path).bind(FUNCTIONS, "Net")


def text_of(yaml):
    return "".join(line[4:] for line in yaml.splitlines(keepends=True)[3:])


def test_the_traceback_names_file_line_and_place_in_the_line(tmp_path):
    file = tmp_path / "net.yaml"
    file.write_text(YAML)
    function = bound(text_of(YAML), Origin(str(file), 3, 1, text_line=4, text_indent=4))
    report = shown(function, None, torch.ones(2, 3))
    assert f'File "{file}", line 7, in forward\n    relu(y @ y))\n         ~~^~~\n' in report
    assert function.__code__.co_firstlineno == 4


def test_columns_count_characters_also_beyond_ascii(tmp_path):
    file = tmp_path / "net.yaml"
    function = bound("return cat([x], 'ä', x @ x)", Origin(str(file), 1, 1, text_line=2, text_indent=2))
    file.write_text("forward: |\n  return cat([x], 'ä', x @ x)\n")
    assert "    return cat([x], 'ä', x @ x)\n                         ~~^~~\n" in shown(
        function, None, torch.ones(2, 3)
    )


def test_a_text_on_the_line_of_its_key(tmp_path):
    file = tmp_path / "net.yaml"
    file.write_text("a: 1\nforward: return x @ x\n")
    function = bound("return x @ x", Origin(str(file), 2, 1, text_line=2, text_indent=9))
    assert f'{file}", line 2, in forward\n    forward: return x @ x\n                    ~~^~~\n' in shown(function, None, torch.ones(2, 3))  # fmt: skip


def test_an_overrides_text_is_shown_too():
    origin = Origin(override="model.forward='return x @ x'")
    first, second = bound("return x @ x", origin), bound("y = 2\nreturn y * x @ x", origin)
    assert "<override model.forward " in first.__code__.co_filename != second.__code__.co_filename
    linecache.checkcache()
    assert "line 1, in forward\n    return x @ x\n" in shown(first, None, torch.ones(2, 3))
    assert "line 2, in forward\n    return y * x @ x\n" in shown(second, None, torch.ones(2, 3))


def test_files_that_cant_be_read_are_shown_from_the_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = bound("return x @ x", Origin("gone/net.yaml", 2, 1, text_line=3, text_indent=2))
    two = bound("y = x\nreturn y @ y", Origin("gone/net.yaml", 7, 1, text_line=8, text_indent=2))
    linecache.checkcache()
    assert 'gone/net.yaml", line 3, in forward\n    return x @ x\n' in shown(one, None, torch.ones(2, 3))
    assert 'gone/net.yaml", line 9, in forward\n    return y @ y\n' in shown(two, None, torch.ones(2, 3))


def test_an_expressions_traceback_names_its_line(tmp_path):
    file = tmp_path / "task.yaml"
    file.write_text("loss: output @ target\n")
    origin = Origin(str(file), 1, 1, text_line=1, text_indent=6)
    loss = parse_expression("output @ target", ["output", "target"], CALLABLES, origin=origin, path=("task", "loss"))
    values = dict.fromkeys(("output", "target"), torch.ones(2, 3))
    assert f'{file}", line 1, in expression\n    loss: output @ target\n' in shown(loss.bind(FUNCTIONS), values)
