"""A feature extractor takes no gradients, whatever else a config says of its weights."""

import json

import pytest
import torch

import builder
from command_line import run

MODELS = {
    "own": """\
inputs: {x: [B, 1, 8, 8]}
blocks:
  Trunk:
    layers:
      conv: {type: Conv2d, out_channels: 8, kernel_size: 3}
      bn: BatchNorm2d
      flat: Flatten
      hidden: {type: Linear, out_features: 16}
      head: {type: Linear, out_features: 3}
layers:
  body: {type: FeatureExtractor, of: Trunk, until: head}
  fc: {type: Linear, out_features: =data.num_classes}
""",
    "whole model": """\
inputs: {x: [B, 1, 8, 8]}
layers:
  body: {type: FeatureExtractor, of: {type: model/cnn, classes: 10}, until: dropout}
  fc: {type: Linear, out_features: =data.num_classes}
""",
}
SHORT = (
    "model=features",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=3",
    "init=kaiming",
    "init_seed=1",
)


@pytest.fixture(params=MODELS)
def folder(request, tmp_path):
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "features.yaml").write_text(MODELS[request.param])
    return tmp_path


@pytest.mark.parametrize("words", [(), ("freeze=[{select: body, until: {epoch: 1}}]",)])
def test_features_keep_their_weights(folder, words):
    ran = run(folder, "train", *SHORT, *words, "--quiet")
    assert ran.code == 0, ran.err
    weights = torch.load(ran.run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    groups = json.loads((ran.run / "reports/groups.json").read_text())["groups"]
    assert [name for group in groups for name in group["names"]] == ["fc.weight", "fc.bias"]
    begun = {row["parameter"]: row for row in json.loads((ran.run / "reports/init.json").read_text())["parameters"]}
    for name, row in begun.items():
        assert (weights[f"model.{name}"].mean().item() == pytest.approx(row["mean"], abs=1e-9)) == name.startswith(
            "body"
        )
    again = builder.build(ran.run / "model.yaml")
    again.load_state_dict(
        {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
    )
    assert [name for name, parameter in again.named_parameters() if parameter.requires_grad] == ["fc.weight", "fc.bias"]


def test_what_is_told_of_them(folder):
    ran = run(folder, "show", "model", *SHORT, "--json")
    told = json.loads(ran.out)
    fc = next(module for module in told["modules"] if module["path"] == "fc")
    assert told["trainable"] == fc["parameters"]
