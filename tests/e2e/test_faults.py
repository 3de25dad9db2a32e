"""What is wrong is told in whole, without a stack trace, with the right exit code, and leaves no run behind."""

import json
import os

import pytest

from builder.runs.status import status
from command_line import SMALL, run

MLP = """\
args: {hidden: 32}
inputs: [x]
layers:
  flatten: Flatten
  fc: {type: Linear, out_features: =hidden}
  out: {type: Linear, out_features: 10}
"""

# name → files, the words after `builder train`, and the whole message. All are wrong configs: exit code 2, no run.
CONFIGS = {
    "bad YAML": (
        {"configs/model/mine.yaml": "layers:\n  fc: {type: Linear, out_features: 10\n  act: ReLU\n"},
        ["model=mine"],
        "error: configs/model/mine.yaml:3: the '{' opened on line 2 isn't closed, or a ',' is missing\n"
        "  found:    'act: ReLU'\n",
    ),
    "a tab": (
        {"configs/model/mine.yaml": "layers:\n\tfc: ReLU\n"},
        ["model=mine"],
        "error: configs/model/mine.yaml:2: a tab indents this line\n"
        "  found:    'fc: ReLU'\n"
        "  hint:     indent with spaces\n",
    ),
    "a duplicate key": (
        {"configs/model/mine.yaml": MLP + "  fc: ReLU\n"},
        ["model=mine"],
        "error: configs/model/mine.yaml:7: layers.fc: duplicate key\n  hint:     it stands on line 5 already\n",
    ),
    "an argument of the model of the wrong type": (
        {"configs/model/mine.yaml": MLP},
        ["model=mine", "model.args.hidden=wide"],
        "error: configs/model/mine.yaml:5: model.layers.fc.out_features: layer Linear can't take this value for "
        "'out_features'\n  found:    'wide'\n  from:     model.args.hidden: override 'model.args.hidden=wide'\n"
        "  expected: int\n",
    ),
    "an unknown choice of a group": (
        {},
        ["optimizer=adamv"],
        "error: override 'optimizer=adamv': optimizer: no such choice\n"
        "  found:    'adamv'\n"
        "  expected: one of adam, adamw, adamw_no_decay, muon, sgd\n"
        "  did you mean 'adam' or 'adamw'?\n",
    ),
    "an unknown group": (
        {},
        ["optimiser=adam"],
        "error: override 'optimiser=adam': optimiser: unknown key\n  did you mean 'optimizer'?\n",
    ),
    "an unknown key": (
        {},
        ["trainer.max_epoch=3"],
        "error: override 'trainer.max_epoch=3': trainer.max_epoch: unknown key\n"
        "  did you mean 'max_epochs' or 'min_epochs' or 'max_steps'?\n",
    ),
    "an unknown key in a file": (
        {"configs/optimizer/mine.yaml": "type: SGD\nlr: 0.1\nmomentun: 0.9\n"},
        ["optimizer=mine"],
        "error: configs/optimizer/mine.yaml:3: optimizer.momentun: optimizer SGD has no argument 'momentun'\n"
        "  expected: lr, momentum, dampening, weight_decay, nesterov, maximize, foreach, differentiable, fused, groups, no_decay, layer_decay\n"
        "  did you mean 'momentum'?\n",
    ),
    "a wrong type": (
        {},
        ["trainer.max_epochs=many"],
        "error: override 'trainer.max_epochs=many': trainer.max_epochs: wrong value\n"
        "  found:    'many'\n"
        "  expected: -1 or a whole number from 0 on, or null\n",
    ),
    "an unknown layer": (
        {"configs/model/mine.yaml": MLP.replace("fc: {type: Linear", "fc: {type: Linera")},
        ["model=mine"],
        "error: configs/model/mine.yaml:5: model.layers.fc.type: unknown layer type 'Linera'\n"
        "  did you mean 'Linear' or 'Bilinear'?\n"
        "  hint:     `builder registry layer` lists the layers\n",
    ),
    "an unknown argument of a constructor": (
        {"configs/model/mine.yaml": MLP.replace("out_features: =hidden", "out_features: =hidden, biass: false")},
        ["model=mine"],
        "error: configs/model/mine.yaml:5: model.layers.fc.biass: layer Linear has no argument 'biass'\n"
        "  expected: in_features, out_features, bias, device, dtype\n"
        "  did you mean 'bias'?\n",
    ),
    "a missing argument of a constructor": (
        {"configs/model/mine.yaml": MLP.replace(", out_features: =hidden", "")},
        ["model=mine"],
        "error: configs/model/mine.yaml:5: model.layers.fc: layer Linear needs the argument 'out_features'\n"
        "  expected: int\n",
    ),
    "a wrong shape": (
        {"configs/model/mine.yaml": MLP.replace("out: {type: Linear", "out: {type: Linear, in_features: 64")},
        ["model=mine"],
        "error: configs/model/mine.yaml:6: model.layers.out: shapes don't fit in Linear 'out'\n"
        "  found:    an input of shape [2, 16], after Linear 'fc' (out_features=16), which gave [2, 16]\n"
        "  expected: in_features=64, as it says; in_features=16 would fit\n",
    ),
    "an output that doesn't fit the task": (
        {"configs/model/mine.yaml": MLP + "forward: |\n  return {'logits': out(fc(flatten(x)))}\n"},
        ["model=mine"],
        "error: configs/task/classification.yaml:1: task.loss: TypeError: cross_entropy_loss(): argument 'input' "
        "(position 1) must be Tensor, not dict\n"
        "  found:    output.logits [2, 10] float32, target [2] int64, x [2, 1, 8, 8] float32\n",
    ),
    "a metric that doesn't fit": (
        {},
        ["task.metrics.accuracy.num_classes=4"],
        "error: configs/task/classification.yaml:4: task.metrics.accuracy: ValueError: If `preds` have one dimension more "
        "than `target`, `preds.shape[1]` should be equal to number of classes.\n"
        "  found:    input 1 [2, 10] float32, input 2 [2] int64\n",
    ),
    "a loss that isn't a number": (
        {},
        ["task.loss=output"],
        "error: override 'task.loss=output': task.loss: the loss has to be a tensor without dimensions; it is of shape "
        "[2, 10]\n",
    ),
    "a scheduler's formula that can't be worked out": (
        {},
        ["scheduler=cosine", "trainer.max_epochs=-1"],
        "error: configs/scheduler/cosine.yaml:3: scheduler.T_max: unknown name 'total_steps'\n"
        "  found:    '=total_steps'\n",
    ),
    "a device that isn't there": (
        {},
        ["trainer.devices=none"],
        "error: override 'trainer.devices=none': trainer.devices: Lightning refuses the trainer: `devices` selected "
        "with `CPUAccelerator` should be an int > 0.\n",
    ),
    "all faults at once": (
        {"configs/model/mine.yaml": MLP.replace("fc: {type: Linear", "fc: {type: Linera").replace("10", "ten")},
        ["model=mine"],
        "error: configs/model/mine.yaml:5: model.layers.fc.type: unknown layer type 'Linera'\n"
        "  did you mean 'Linear' or 'Bilinear'?\n"
        "  hint:     `builder registry layer` lists the layers\n"
        "error: configs/model/mine.yaml:6: model.layers.out.out_features: layer Linear can't take this value for "
        "'out_features'\n"
        "  found:    'ten'\n"
        "  expected: int\n"
        "2 errors\n",
    ),
    "a missing config folder": (
        {"conf/train.yaml": "seed: 1\n"},
        ["-cd", "confs"],
        "error: no such config folder\n  found:    'confs'\n  did you mean 'conf'?\n",
    ),
    "a missing file of layers": (
        {"layers.py": ""},
        ["--import", "layer.py"],
        "error: --import layer.py: there is no file 'layer.py' in {folder}\n  did you mean 'layers.py'?\n",
    ),
    "a missing environment variable": (
        {},
        ["output_dir=${oc.env:NO_SUCH_FOLDER}"],
        "error: override 'output_dir=${oc.env:NO_SUCH_FOLDER}': output_dir: the environment variable NO_SUCH_FOLDER "
        "isn't set\n"
        "  found:    '${oc.env:NO_SUCH_FOLDER}'\n"
        "  hint:     set it, or write ${oc.env:NO_SUCH_FOLDER,default}\n",
    ),
    # No shipped data set reads a file, so this is a user's.
    "a missing data file": (
        {
            "configs/data/mine.yaml": "type: Mine\npath: data/absent.csv\nbatch_size: 4\n",
            "mine.py": "import builder\n\n@builder.register.dataset\ndef Mine(path: str):\n    '''Reads.'''\n    open(path)\n",
        },
        ["data=mine", "--import", "mine.py"],
        "error: configs/data/mine.yaml:2: data.path: the data can't be read: No such file or directory: data/absent.csv\n",
    ),
}


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("case", CONFIGS)
def test_a_wrong_config_is_told_and_leaves_no_run(case, tmp_path):
    files, words, message = CONFIGS[case]
    write(tmp_path, files)
    ran = run(tmp_path, "train", *SMALL, *words)
    assert ran.err == message.replace("{folder}", str(tmp_path))
    assert (ran.code, ran.out) == (2, "")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("case", CONFIGS)
def test_check_tells_the_same(case, tmp_path):
    files, words, message = CONFIGS[case]
    write(tmp_path, files)
    ran = run(tmp_path, "check", *SMALL, *words)
    assert (ran.code, ran.err) == (2, message.replace("{folder}", str(tmp_path)))


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_stack_trace_too(place, tmp_path):
    debug = (["--debug"], []) if place == "before" else ([], ["--debug"])
    ran = run(tmp_path, *debug[0], "train", "trainer.max_epochs=many", *debug[1])
    message, _, trace = ran.err.partition("Traceback (most recent call last):\n")
    assert ran.code == 2 and message == CONFIGS["a wrong type"][2]
    assert "builder.errors.ConfigError: override 'trainer.max_epochs=many'" in trace


def test_a_run_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "results").write_text("a file\n")
    ran = run(tmp_path, "train", *SMALL, "output_dir=results")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: cannot open a run in results/digits_mlp: Not a directory\n"
    assert (tmp_path / "results").read_text() == "a file\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path):
    (tmp_path / "results").mkdir(mode=0o555)
    ran = run(tmp_path, "train", *SMALL, "output_dir=results")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: cannot open a run in results/digits_mlp: Permission denied\n"
    assert list((tmp_path / "results").iterdir()) == []


LAYERS = '''\
import builder
from torch import nn


@builder.register.layer
class Breaks(nn.Module):
    """Raises when it is called for the third time."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += not x.is_meta
        if self.calls == 3:
            raise ValueError("it was the third time")
        return x
'''
BREAKS = """\
inputs: [x]
layers:
  flatten: Flatten
  fc: {type: Linear, out_features: 32}
  odd: Breaks
  out: {type: Linear, out_features: 10}
forward: |
  h = relu(fc(flatten(x)))
  h = odd(h)
  return out(h)
"""
BROKEN = """\
error: configs/model/mine.yaml:9: model.forward: ValueError: it was the third time
  raised at: {folder}/layers.py:16
  x: [64, 1, 8, 8] float32 on cpu
  h: [64, 32] float32 on cpu
  run:      {run}
"""


def only_run(folder):
    (found,) = (path.parent for path in folder.rglob("status.json"))
    return found


def test_an_exception_in_a_users_layer_is_told_with_its_lines_and_shapes(tmp_path):
    write(tmp_path, {"layers.py": LAYERS, "configs/model/mine.yaml": BREAKS})
    ran = run(tmp_path, "train", "--import", "layers.py", "model=mine", "trainer=cpu", "callbacks.progress=null")
    failed = only_run(tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == BROKEN.replace("{folder}", str(tmp_path)).replace("{run}", str(failed.relative_to(tmp_path)))
    found = status(failed)
    assert (found.state, found.epoch, found.step, dict(found.metrics)) == ("failed", 0, 2, {})
    assert found.reason == "configs/model/mine.yaml:9: model.forward: ValueError: it was the third time"
    assert not list(failed.rglob("*.ckpt"))


def test_debug_shows_the_stack_trace_of_a_users_layer_with_the_line_of_the_yaml(tmp_path):
    write(tmp_path, {"layers.py": LAYERS, "configs/model/mine.yaml": BREAKS})
    ran = run(tmp_path, "train", "--debug", "--import", "layers.py", "model=mine", "trainer=cpu")
    assert ran.code == 1
    assert '  File "configs/model/mine.yaml", line 9, in forward\n    h = odd(h)\n' in ran.err
    assert f'  File "{tmp_path}/layers.py", line 16, in forward\n' in ran.err


def test_a_target_without_a_class_is_told_at_the_loss(tmp_path):
    """The first samples fit, a later one doesn't: found in training, and told as what it is."""
    task = {
        "loss": "cross_entropy(output[:, :9], target)", "metrics": {}, "monitor": "val/loss", "mode": "min",
    }  # fmt: skip
    write(tmp_path, {"configs/task/mine.yaml": json.dumps(task)})
    ran = run(tmp_path, "train", *SMALL, "task=mine")
    failed = only_run(tmp_path)
    assert ran.code == 1 and status(failed).state == "failed"
    assert ran.err == (
        "error: configs/task/mine.yaml:1: task.loss: IndexError: Target 9 is out of bounds.\n"
        "  found:    output [64, 10] float32, target [64] int64, x [64, 1, 8, 8] float32\n"
        f"  run:      {failed.relative_to(tmp_path)}\n"
    )
