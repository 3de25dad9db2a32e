"""`builder show model` and `builder show code`, as they are typed."""

import json
import subprocess
import sys

import pytest
import torch

import builder
from command_line import ROOT, run

MODEL = """\
args: {width: 4, classes: required}
inputs: {x: [B, T, 3]}
layers:
  fc: {type: Linear, out_features: =width}
  act: ReLU
  head: {type: Linear, out_features: =classes}
"""

MLP = """\
layer          type        input         output   parameters   FLOPs  trained
Mlp            Mlp         [B, 1, 8, 8]  [B, 10]       1,482  23.0 k  yes
  flatten      Flatten     [B, 1, 8, 8]  [B, 64]
  body         Sequential  [B, 64]       [B, 16]       1,312  20.5 k  yes
    0          Sequential  [B, 64]       [B, 16]       1,040  16.4 k  yes
      linear   Linear      [B, 64]       [B, 16]       1,040  16.4 k  yes
      act      ReLU        [B, 16]       [B, 16]
      dropout  Dropout     [B, 16]       [B, 16]
    1          Sequential  [B, 16]       [B, 16]         272  4.10 k  yes
      linear   Linear      [B, 16]       [B, 16]         272  4.10 k  yes
      act      ReLU        [B, 16]       [B, 16]
      dropout  Dropout     [B, 16]       [B, 16]
  out          Linear      [B, 16]       [B, 10]         170  2.56 k  yes

parameters   1,482, all trained
FLOPs        23.0 k forward at B=8; a multiply-add counts as 2
memory       about 22.4 KiB to train at B=8:
  weights        5.79 KiB
  gradients      5.79 KiB
  optimiser      5.79 KiB  state of SGD
  activations    5.00 KiB  kept for the backward pass, inputs included
"""

TINY = """\
layer   type    input       output      parameters  FLOPs  trained
Tiny    Tiny    [B, 10, 3]  [B, 10, 2]          26    400  yes
  fc    Linear  [B, 10, 3]  [B, 10, 4]          16    240  yes
  act   ReLU    [B, 10, 4]  [B, 10, 4]
  head  Linear  [B, 10, 4]  [B, 10, 2]          10    160  yes

parameters   26, all trained
FLOPs        400 forward at B=1; a multiply-add counts as 2
memory       about 712 B to train at B=1:
  weights           104 B
  gradients         104 B
  optimiser         224 B  state of AdamW
  activations       280 B  kept for the backward pass, inputs included
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "tiny.yaml").write_text(MODEL)
    return tmp_path


def test_the_model_of_a_config_is_shown_at_its_batch_size(tmp_path):
    ran = run(tmp_path, "show", "model", "model=mlp", "model.args.hidden=16", "data.batch_size=8", "optimizer=sgd")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == MLP


def test_a_language_model_is_shown_with_the_names_of_its_dimensions(tmp_path):
    ran = run(tmp_path, "show", "model", "experiment=topics_gpt", "--json", "--batch", "3")
    shown = json.loads(ran.out)
    assert shown["sizes"] == {"B": 3, "T": 64} and shown["guessed"] == []
    modules = {module["path"]: module for module in shown["modules"]}
    assert modules["blocks.1.attn.qkv"]["outputs"] == [["B", "T", "384"]]
    assert modules["head"]["notes"] == ["weight is tok.weight"]
    assert shown["memory"]["optimizer"] == "AdamW"


def test_a_file_is_shown_under_overrides_of_what_it_holds(file):
    ran = run(file, "show", "model", "tiny.yaml", "args.classes=2", "inputs.x=[B,10,3]")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == TINY


def test_depth_and_batch_change_the_table(file):
    ran = run(file, "show", "model", "--depth", "0", "tiny.yaml", "args.classes=2", "--batch", "5")
    assert ran.out.splitlines()[1].split() == [
        "Tiny",
        "Tiny",
        "[B,",
        "T,",
        "3]",
        "[B,",
        "T,",
        "2]",
        "26",
        "12.8",
        "k",
        "yes",
    ]
    assert "B=5, T=64" in ran.out and "\n  fc" not in ran.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tiny.yaml", "other.yaml"], "error: one model at a time: tiny.yaml and other.yaml are 2\n"),
        (["no.yaml"], "error: no.yaml: can't be read: No such file or directory\n"),
        (["tiny.yaml"], "error: tiny.yaml:1: args.classes: argument 'classes' is required\n"),
        (
            ["tiny.yaml", "args.classes=2", "inputs.x=[4,5,3]", "--batch", "2"],
            "error: --batch says nothing here: no first dimension of the model's inputs is free\n",
        ),
    ],
)
def test_what_is_wrong_is_told(file, words, told):
    ran = run(file, "show", "model", *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(told)


def test_the_code_of_a_file_is_a_module_of_its_own(file):
    ran = run(file, "show", "code", "tiny.yaml", "args.classes=2", "args.width=6")
    assert (ran.code, ran.err) == (0, "")
    names = {}
    exec(compile(ran.out, "tiny.py", "exec"), names)
    torch.manual_seed(0)
    theirs = names["Tiny"]()
    torch.manual_seed(0)
    ours = builder.build(file / "tiny.yaml", classes=2, width=6)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True))


def test_the_code_of_a_config_has_the_facts_of_its_data(tmp_path):
    ran = run(tmp_path, "show", "code", "model=mlp", "data=iris")
    names = {}
    exec(compile(ran.out, "mlp.py", "exec"), names)
    assert names["Mlp"]()(torch.zeros(5, 4)).shape == (5, 3)


def test_nothing_that_is_shown_loads_lightning(file):
    code = (
        "import sys; from builder.cli.main import main; "
        "assert main(['show', 'model', 'model=mlp']) == 0; assert main(['show', 'code', 'model=mlp']) == 0; "
        "assert 'pytorch_lightning' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=file, env={"PYTHONPATH": str(ROOT)}, capture_output=True
    )


BIG = """
import resource, sys
from builder.cli.main import main
words = ["args.width=4096", "args.depth=32", "args.heads=32", "args.vocab=50257", "args.context=2048"]
code = main(["show", "model", sys.argv[1], "--json", "inputs.ids.shape=[B,2048]", *words])
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.slow
def test_seven_billion_parameters_are_shown_in_ten_seconds_and_two_gigabytes(tmp_path):
    from builder.config.folders import shipped_configs

    words = [sys.executable, "-c", BIG, str(shipped_configs() / "model/gpt.yaml")]
    ran = subprocess.run(words, env={"PYTHONPATH": str(ROOT)}, cwd=tmp_path, capture_output=True, text=True, check=True)
    seconds, memory = map(float, ran.stderr.split())
    shown = json.loads(ran.stdout)
    assert shown["parameters"] == 50257 * 4096 + 2048 * 4096 + 32 * (12 * 4096**2 + 13 * 4096) + 2 * 4096
    assert shown["memory"]["optimizer_state"] == pytest.approx(8 * shown["parameters"], rel=1e-6)
    assert seconds < 10 and memory < 2e9
    print(f"{seconds:.1f} s, {memory / 1e6:.0f} MB")
