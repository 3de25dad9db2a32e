from pathlib import Path

import pytest
import yaml

from builder.check import check
from builder.cli.main import main
from builder.config.compose import compose
from builder.config.saved import saved_yaml
from builder.errors import ConfigError
from builder.settle import settle

MODEL = """\
args: {width: 8}
inputs: {x: [B, F]}
blocks:
  Wide: {args: {width: required, act: 1}, layers: {fc: {type: Linear, out_features: =width}}}
parameters:
  scale: {shape: [1], init: {type: normal_, mean: 1.0, std: 0.1}}
layers:
  first: {type: Linear, out_features: =width, bias: false}
  act: {type: LeakyReLU, negative_slope: 0.1, args: {inplace: true}}
  stack: {type: Sequential, repeat: 2, layer: {type: Wide, width: 4, act: 2}, unused: false}
  coder:
    type: TransformerEncoder
    num_layers: 1
    encoder_layer: {type: TransformerEncoderLayer, d_model: 8, nhead: 2, norm_first: true}
forward: return coder(stack(act(first(x)))) * scale
"""


@pytest.fixture
def configs(tmp_path, monkeypatch):
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "mine.yaml").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "configs"


def dropped(*overrides):
    return [str(item) for item in settle(compose(overrides))[1]]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("optimizer.type=SGD", ["optimizer.betas dropped: SGD takes no 'betas' (configs/optimizer/adamw.yaml:3)",
                                "optimizer.eps dropped: SGD takes no 'eps' (configs/optimizer/adamw.yaml:4)"]),
        ("optimizer.type=Adam", []),
        ("optimizer.type=Adma", []),
        ("optimizer={type: SGD, eps: 1}", ["optimizer.betas dropped: SGD takes no 'betas' (configs/optimizer/adamw.yaml:3)"]),
        ("scheduler=plateau scheduler.type=StepLR scheduler.step_size=3", [
            f"scheduler.{key} dropped: StepLR takes no '{key}' (configs/scheduler/plateau.yaml:{line})"
            for line, key in enumerate(["monitor", "mode", "factor", "patience", "min_lr"], start=3)]),
        ("scheduler=cosine scheduler.type=ReduceLROnPlateau scheduler.monitor=val/loss", [
            "scheduler.T_max dropped: ReduceLROnPlateau takes no 'T_max' (configs/scheduler/cosine.yaml:3)",
            "scheduler.eta_min dropped: ReduceLROnPlateau takes no 'eta_min' (configs/scheduler/cosine.yaml:4)"]),
        ("task.metrics.accuracy.type=MeanMetric", [
            "task.metrics.accuracy.num_classes dropped: MeanMetric takes no 'num_classes' (configs/task/classification.yaml:4)",
            "task.metrics.accuracy.average dropped: MeanMetric takes no 'average' (configs/task/classification.yaml:4)"]),
        ("callbacks.best.type=EarlyStopping", [
            "callbacks.best.filename dropped: EarlyStopping takes no 'filename' (configs/callbacks/default.yaml:3)"]),
        ("data.type=Topics", ["data.name dropped: Topics takes no 'name' (configs/data/digits.yaml:2)"]),
        ("model=mine model.layers.first.type=ReLU", [
            "model.layers.first.out_features dropped: ReLU takes no 'out_features' (configs/model/mine.yaml:8)",
            "model.layers.first.bias dropped: ReLU takes no 'bias' (configs/model/mine.yaml:8)"]),
        ("model=mine model.layers.act.type=GELU", [
            "model.layers.act.negative_slope dropped: GELU takes no 'negative_slope' (configs/model/mine.yaml:9)",
            "model.layers.act.args.inplace dropped: GELU takes no 'inplace' (configs/model/mine.yaml:9)"]),
        ("model=mine model.layers.act.type=ELU", ["model.layers.act.negative_slope dropped: ELU takes no 'negative_slope' (configs/model/mine.yaml:9)"]),
        ("model=mine model.layers.stack.layer.type=MLP", [
            "model.layers.stack.layer.width dropped: MLP takes no 'width' (configs/model/mine.yaml:10)",
            "model.layers.stack.layer.act dropped: MLP takes no 'act' (configs/model/mine.yaml:10)"]),
        ("model=mine model.layers.first.type=Wide", [
            "model.layers.first.out_features dropped: Wide takes no 'out_features' (configs/model/mine.yaml:8)",
            "model.layers.first.bias dropped: Wide takes no 'bias' (configs/model/mine.yaml:8)"]),
        ("model=mine model.layers.stack.type=ReLU", [
            "model.layers.stack.repeat dropped: ReLU takes no 'repeat' (configs/model/mine.yaml:10)",
            "model.layers.stack.layer dropped: ReLU takes no 'layer' (configs/model/mine.yaml:10)"]),
        ("model=mine model.layers.stack.type=ModuleList", []),
        ("model=mine model.layers.first.type=Sequential +model.layers.first.layers=[ReLU]", [
            "model.layers.first.out_features dropped: Sequential takes no 'out_features' (configs/model/mine.yaml:8)",
            "model.layers.first.bias dropped: Sequential takes no 'bias' (configs/model/mine.yaml:8)"]),
        ("model=mine model.layers.coder.encoder_layer.type=TransformerDecoderLayer", []),
        ("model=mine model.layers.coder.encoder_layer.type=ReLU", [
            f"model.layers.coder.encoder_layer.{key} dropped: ReLU takes no '{key}' (configs/model/mine.yaml:14)"
            for key in ("d_model", "nhead", "norm_first")]),
        ("model=mine model.parameters.scale.init.type=uniform_", [
            "model.parameters.scale.init.mean dropped: uniform_ takes no 'mean' (configs/model/mine.yaml:6)",
            "model.parameters.scale.init.std dropped: uniform_ takes no 'std' (configs/model/mine.yaml:6)"]),
    ],
)  # fmt: skip
def test_what_the_new_type_doesnt_take_is_dropped_and_said(configs, overrides, said):
    given = [overrides] if "{" in overrides else overrides.split()
    assert dropped(*given) == said
    composed = settle(compose(given))[0]
    for path in (line.split(" ")[0] for line in said):
        node = composed.values
        for key in path.split(".")[:-1]:
            node = node[key]
        assert path.rpartition(".")[2] not in node
    assert settle(composed)[1] == ()


def test_a_config_without_changed_types_is_left_as_it_is(configs):
    composed = compose(["experiment=digits_mlp", "optimizer=sgd"])
    assert settle(composed) == (composed, ())


def test_what_came_with_the_override_is_checked(configs):
    with pytest.raises(ConfigError) as error:
        check(compose(["optimizer.type=SGD", "+optimizer.betas=[0.9, 0.99]", "logger=null"]))
    assert "optimizer SGD has no argument 'betas'" in str(error.value)
    with pytest.raises(ConfigError) as error:
        check(compose(["model=mine", "model.layers.first={type: ReLU, out_features: 3}", "logger=null"]))
    assert "model.layers.first.out_features: layer ReLU has no argument 'out_features'" in str(error.value)


def test_a_reference_to_what_was_dropped_is_told(configs):
    with pytest.raises(ConfigError) as error:
        settle(compose(["optimizer.type=SGD", "description=${optimizer.eps}"]))
    assert str(error.value) == (
        "override 'description=${optimizer.eps}': description: no such key: optimizer.eps\n  found:    '${optimizer.eps}'"
    )


def test_the_saved_config_composes_to_the_settled_one(configs, tmp_path):
    composed = settle(compose(["optimizer.type=SGD", "scheduler=plateau"]))[0]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(saved_yaml(composed))
    again = compose(config_name="config", config_dir=tmp_path / "run")
    assert again.values == composed.values and again.superseded == ()


def test_check_and_show_say_each_once_on_standard_error(configs, capsys):
    said = (
        "optimizer.betas dropped: SGD takes no 'betas' (configs/optimizer/adamw.yaml:3)\n"
        "optimizer.eps dropped: SGD takes no 'eps' (configs/optimizer/adamw.yaml:4)\n"
    )
    assert main(["check", "optimizer.type=SGD"]) == 0
    assert capsys.readouterr().err == said
    assert main(["show", "config", "optimizer.type=SGD"]) == 0
    printed = capsys.readouterr()
    assert printed.err == said
    assert yaml.safe_load(printed.out)["optimizer"] == {"type": "SGD", "lr": 0.001, "weight_decay": 0.01}


def test_a_run_saves_what_it_was_trained_with(configs, capsys):
    words = ["model=mlp", "data=iris", "optimizer.type=SGD", "trainer.max_epochs=1", "logger=null", "callbacks=null"]
    assert main(["train", "--quiet", *words]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("dropped") == 2
    saved = yaml.safe_load((Path(printed.out.split()[-1]) / "config.yaml").read_text())
    assert saved["optimizer"] == {"type": "SGD", "lr": 0.001, "weight_decay": 0.01}
