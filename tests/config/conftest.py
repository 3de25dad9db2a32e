"""Config folders of the tests' own, with nothing of the shipped ones in sight."""

from pathlib import Path

import pytest

from builder.config import folders

FILES = {
    "train.yaml": """\
defaults:
  - model: mlp
  - data: digits
  - task: classification
  - optimizer: adamw
  - scheduler: none
  - trainer: auto
  - callbacks: default
  - logger: default
  - _self_
  - optional experiment: null

name: null
seed: 0
output_dir: outputs
""",
    "model/mlp.yaml": """\
args: {hidden: 64, classes: =data.num_classes}
inputs: {x: [B, F]}
layers:
  fc1: {type: Linear, out_features: =hidden}
  act: ReLU
  fc2:
    type: Linear
    out_features: =classes
forward: |  # plain Python
  x = act(fc1(x))

  return fc2(x)
""",
    "model/cnn.yaml": "layers: [{type: Conv2d, out_channels: 8, kernel_size: 3}, ReLU]\n",
    "data/digits.yaml": "type: SklearnDataset\nname: digits\nbatch_size: 64\n",
    "data/wine.yaml": "type: SklearnDataset\nname: wine\nbatch_size: 16\n",
    "task/classification.yaml": """\
loss: cross_entropy(output, target)
metrics:
  accuracy: {type: MulticlassAccuracy, num_classes: =data.num_classes}
monitor: val/accuracy
mode: max
""",
    "optimizer/adamw.yaml": "type: AdamW\nlr: 1e-3\n",
    "optimizer/sgd.yaml": "type: SGD\nlr: 0.1\nmomentum: 0.9\n",
    "scheduler/none.yaml": "# @package _global_\nscheduler: null\n",
    "scheduler/cosine.yaml": "type: CosineAnnealingLR\nT_max: ${trainer.max_epochs}\n",
    "trainer/auto.yaml": "accelerator: auto\nmax_epochs: 20\n",
    "callbacks/default.yaml": """\
checkpoint:
  type: ModelCheckpoint
  monitor: ${task.monitor}
  mode: ${task.mode}
progress: {type: ProgressBar}
""",
    "logger/default.yaml": "csv: {type: CSVLogger}\n",
    "experiment/wine_sgd.yaml": """\
# @package _global_
defaults:
  - override /data: wine
  - override /optimizer: sgd

model:
  args: {hidden: 16}
trainer: {max_epochs: 5}
""",
}


@pytest.fixture
def write(tmp_path):
    """Write a file below `configs/` of the current folder."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def configs(tmp_path, monkeypatch, write):
    """A current folder with small configs of every group; no shipped ones."""
    for name, text in FILES.items():
        write(name, text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "shipped_configs", lambda: tmp_path / "shipped")
    return tmp_path / "configs"
