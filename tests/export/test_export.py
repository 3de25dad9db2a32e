"""Exports of a run, loaded by what they are for: ONNX Runtime, torch.export, PyTorch without this project."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from builder.export.compare import agreement
from builder.export.write import TARGETS
from builder.opened import model_of, reopen
from command_line import run

NET = """
args: {classes: =data.num_classes}
inputs: {x: [B, C, H, W]}
layers:
  conv: {type: Conv2d, out_channels: 4, kernel_size: 3, padding: 1}
  norm: BatchNorm2d
  up: {type: Linear, out_features: 8, bias: false}
  down: {type: Linear, out_features: 4, bias: false}
  same: {type: Linear, in_features: 4, out_features: 8, bias: false}
  fc: {type: Linear, out_features: =classes}
tie: {same.weight: up.weight}
forward: |
  h = relu(norm(conv(x))).mean(dim=[2, 3])
  return fc(same(down(up(h))))
"""
BRANCHING = """
args: {classes: =data.num_classes}
inputs: {x: [B, 1, 8, 8]}
layers:
  fc: {type: Linear, in_features: 64, out_features: =classes}
forward: |
  h = x.flatten(1)
  if h.mean() > 0:
    h = h * 2
  return fc(h)
"""
QUICK = ("--quiet", "data=digits", "trainer=cpu", "trainer.max_epochs=1", "data.batch_size=256")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    (folder / "configs/model").mkdir(parents=True)
    (folder / "configs/model/net.yaml").write_text(NET)
    (folder / "configs/model/branching.yaml").write_text(BRANCHING)
    for model in ("net", "branching"):
        ran = run(folder, "train", *QUICK, f"model={model}", f"name={model}")
        assert ran.code == 0, ran.err
    return folder


@pytest.fixture(scope="module")
def exported(place):
    """Folder and printed JSON of each export of the run."""
    found = {}
    for target in TARGETS:
        ran = run(place, "export", "net/latest", "--to", target, "--json")
        assert (ran.code, ran.err) == (0, ""), ran.err
        found[target] = json.loads(ran.out)
        assert sorted(Path(path).name for path in found[target]["files"]) == sorted(
            path.name for path in (place / found[target]["folder"]).iterdir()
        )
    return found


@pytest.fixture(scope="module")
def rows(place):
    """Other rows than the export was compared on, and what the trained model makes of them."""
    model = model_of(reopen("net/latest", output_dir=place / "outputs"))
    x = torch.rand(7, 1, 10, 6, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return x, model(x)


def test_every_export_agrees_on_rows_of_the_data(exported):
    for target, found in exported.items():
        assert found["agreement"][0]["shapes"] == [[32, 1, 8, 8]]
        exact = target not in ("onnx", "torch-export")
        assert all(one["max_abs_difference"] <= (0 if exact else 1e-5) for one in found["agreement"]), target


def test_onnx_runtime_runs_it_at_any_size(place, exported, rows):
    assert (exported["onnx"]["dynamic"], exported["onnx"]["fixed"]) == (["B", "H", "W"], {"C": 1})
    path = place / exported["onnx"]["folder"] / "model.onnx"
    onnx.checker.check_model(path)
    session = onnxruntime.InferenceSession(str(path))
    assert [(one.name, one.shape) for one in session.get_inputs()] == [("x", ["B", 1, "H", "W"])]
    assert [(one.name, one.shape) for one in session.get_outputs()] == [("output", ["B", 10])]
    x, expected = rows
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), expected)


def test_a_program_runs_at_any_size(place, exported, rows):
    program = torch.export.load(place / exported["torch-export"]["folder"] / "model.pt2")
    torch.testing.assert_close(program.module()(rows[0]), rows[1])


BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "builder":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


@pytest.mark.parametrize("target", TARGETS)
def test_the_readme_says_how_it_is_loaded_without_this_project(target, place, exported, rows, tmp_path):
    folder = place / exported[target]["folder"]
    text = (folder / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    torch.save(rows[0], tmp_path / "x.pt")
    given = "import torch; x = torch.load(sys.argv[1])" + ("; x = x.numpy()" if target == "onnx" else "")
    taken = "torch.from_numpy(outputs[0])" if target == "onnx" else "output.detach()"
    script = f"{BLOCK}\n{given}\n{code}\ntorch.save({taken}, sys.argv[2])\n"
    words = [sys.executable, "-c", script, str(tmp_path / "x.pt"), str(tmp_path / "y.pt")]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), rows[1])
    for part in ("test/accuracy", "num_train: 1258", "| `x` |", "type: AdamW", "largest difference"):
        assert part in text, part


def test_only_the_dimensions_that_are_named_stay_free(place):
    ran = run(place, "export", "net/latest", "--to", "torch-export", "--dynamic", "B", "-o", "only", "--json")
    found = json.loads(ran.out)
    assert (found["dynamic"], found["fixed"]) == (["B"], {"C": 1, "H": 8, "W": 8})
    with pytest.raises(AssertionError):
        torch.export.load(place / "only/model.pt2").module()(torch.rand(4, 1, 10, 10))


def test_a_dimension_that_has_one_size_only_cant_be_asked_for(place):
    ran = run(place, "export", "net/latest", "--to", "torch-export", "--dynamic", "C", "-o", "channels")
    assert ran.code == 1 and "one size only" in ran.err
    assert not (place / "channels").exists()


def test_a_branch_on_values_is_told_with_its_line(place):
    ran = run(place, "export", "branching/latest", "--to", "onnx", "-o", "branch")
    assert ran.code == 1
    assert "depends on values in a tensor" in ran.err and "where(condition, a, b)" in ran.err
    line = next(re.finditer(r"at: .*model\.yaml:(\d+)", ran.err))[1]
    file = next((place / "outputs/branching").iterdir()) / "model.yaml"
    assert "if h.mean() > 0" in file.read_text().splitlines()[int(line) - 1]
    assert not (place / "branch").exists()
    assert run(place, "export", "branching/latest", "--to", "python", "-o", "branch").code == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("net/latest", "--to", "onx"), "no form 'onx': there are onnx, torch-export"),
        (("net/latest", "--to", "onnx", "--dynamic", "Q"), "no input has a dimension 'Q': there are B, C, H, W"),
        (("net/latest", "--to", "python", "--dynamic", "B"), "python has no graph"),
        (("net/latest", "--to", "python", "--opset", "18"), "--opset says nothing here"),
        (("net/latest", "--to", "python", "-o", "configs"), "configs isn't empty"),
        (("nte/latest", "--to", "python"), "no run 'nte/latest'"),
    ],
)
def test_what_the_verb_refuses(words, why, place):
    ran = run(place, "export", *words)
    assert ran.code == 2 and why in ran.err


def test_without_its_packages_it_says_what_to_install(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    ran = run(place, "export", "net/latest", "--to", "onnx", "-o", "absent")
    assert ran.code == 1 and "pip install 'builder[onnx]'" in ran.err
    assert not (place / "absent").exists()


def test_data_that_cant_be_read_any_more_gives_way_to_random_rows(place, monkeypatch):
    import builder.export.subject as module
    from builder.errors import RunError

    def gone(*args, **kwargs):
        raise RunError("the file is gone")

    monkeypatch.setattr(module, "load", gone)
    ran = run(place, "export", "net/latest", "--to", "state-dict", "-o", "random")
    assert ran.code == 0 and "note: compared on random rows, since the data can't be read: the file is gone" in ran.out


def test_an_export_that_gives_something_else_is_refused_and_taken_away(place, monkeypatch):
    from builder.export import graph

    monkeypatch.setattr(graph, "run_onnx", lambda path, given: [torch.zeros(len(given[0]), 10)])
    ran = run(place, "export", "net/latest", "--to", "onnx", "-o", "other")
    assert ran.code == 1 and "gives something else than the model" in ran.err
    assert not (place / "other").exists()


def test_a_difference_is_found_in_any_tensor_of_an_output():
    one = {"a": torch.ones(2), "b": [torch.zeros(3), torch.tensor([1.0, float("nan")])]}
    assert agreement({"a": torch.ones(2)}, [torch.ones(2) + 0.5], [torch.ones(2)]).difference == 0.5
    assert agreement(one, {"a": torch.ones(2), "b": [torch.zeros(3), torch.ones(2)]}, []).difference == float("inf")
    with pytest.raises(ValueError, match="the model gives"):
        agreement(one, torch.ones(2), [])
