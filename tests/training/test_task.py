import textwrap

import pytest
import torch
from torch import nn

from builder.config.origin import Origins
from builder.data.facts import Facts, TensorFact
from builder.errors import ConfigError, Origin
from builder.training.task import read_task

FACTS = Facts(
    {"num_classes": 3, "class_weights": [0.5, 1.0, 2.0], "num_train": 9, "num_val": 3, "num_test": 3},
    {"x": TensorFact((4,), "float32"), "mask": TensorFact((4,), "bool"), "target": TensorFact((), "int64")},
)
ACCURACY = {"type": "MulticlassAccuracy", "num_classes": "=data.num_classes"}
LOSS = "cross_entropy(output, target)"
BATCH = {"x": torch.randn(6, 4), "mask": torch.ones(6, 4, dtype=torch.bool), "target": torch.tensor([0, 1, 2, 0, 1, 2])}


def read(section, inputs=None, facts=FACTS, **kwargs):
    origins = Origins({("task",): Origin("task.yaml", 1), ("task", "loss"): Origin("task.yaml", 2)})
    return read_task(section, facts, inputs or {"x": True}, origins, **kwargs)


def refusal(section, inputs=None, **kwargs):
    with pytest.raises(ConfigError) as caught:
        read(section, inputs, **kwargs)
    return str(caught.value)


def lines(text):
    return textwrap.dedent(text).strip("\n")


def loss_of(task, output):
    return task.loss.function(task.names(BATCH, output))


def test_a_loss_is_an_expression_over_output_and_batch():
    output = torch.randn(6, 3)
    task = read({"loss": "cross_entropy(output, target) + 0.5 * output.square().mean()"})
    expected = nn.functional.cross_entropy(output, BATCH["target"]) + 0.5 * output.square().mean()
    assert torch.equal(loss_of(task, output), expected)


def test_a_loss_may_be_a_registered_one_with_formulas_and_tensors_in_its_arguments():
    output = torch.randn(6, 3)
    section = {"type": "CrossEntropyLoss", "label_smoothing": 0.1, "weight": "=data.class_weights"}
    task = read({"loss": section})
    alone = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 2.0]), label_smoothing=0.1)
    assert torch.equal(loss_of(task, output), alone(output, BATCH["target"]))
    assert isinstance(task.loss.module, nn.CrossEntropyLoss)


def test_a_registered_loss_says_what_it_is_of():
    output = torch.randn(6, 4)
    task = read({"loss": {"type": "MSELoss", "of": ["output * 2", "x"]}})
    assert torch.equal(loss_of(task, output), nn.functional.mse_loss(output * 2, BATCH["x"]))


def test_outputs_by_name():
    output = {"logits": torch.randn(6, 3), "mean": torch.randn(6)}
    section = {
        "loss": "cross_entropy(output.logits, target) + output.mean.square().mean()",
        "prediction": "output.logits",
    }
    task = read(section, outputs=["logits", "mean"])
    expected = nn.functional.cross_entropy(output["logits"], BATCH["target"]) + output["mean"].square().mean()
    assert torch.equal(loss_of(task, output), expected)
    assert task.names(BATCH, output)["prediction"] is output["logits"]
    unknown_yet = read({"loss": "cross_entropy(output.logits, target)", "prediction": "output.logits"})
    assert torch.equal(loss_of(unknown_yet, output), nn.functional.cross_entropy(output["logits"], BATCH["target"]))


def test_an_output_that_is_not_there_is_refused_with_those_that_are():
    assert refusal({"loss": "cross_entropy(output.logit, target)"}, outputs=["logits", "depth"]) == lines("""
        task.yaml:2: task.loss: the model's output has no 'logit'
          found:    'cross_entropy(output.logit, target)'
          expected: logits, depth
          did you mean 'logits'?
        """)


def test_the_prediction_is_what_metrics_see():
    task = read({"loss": LOSS, "prediction": "output.softmax(dim=1)", "metrics": {"accuracy": ACCURACY}})
    output = torch.randn(6, 3)
    assert torch.equal(task.names(BATCH, output)["prediction"], output.softmax(dim=1))
    assert task.metrics["accuracy"].make().num_classes == 3


def test_a_metric_is_made_anew_each_time():
    metric = read({"loss": LOSS, "metrics": {"accuracy": ACCURACY}}).metrics["accuracy"]
    assert metric.make() is not metric.make()


def test_a_name_that_is_nothing_is_refused():
    text = refusal({"loss": "cross_entropy(output, targets)"})
    assert "task.yaml:2: task.loss: unknown name 'targets'" in text and "did you mean 'target'?" in text


def test_the_loss_may_use_the_prediction():
    task = read({"loss": "cross_entropy(prediction, target)", "prediction": "output / 2"})
    output = torch.randn(6, 3)
    assert torch.equal(loss_of(task, output), nn.functional.cross_entropy(output / 2, BATCH["target"]))


def test_model_inputs_take_the_tensors_of_their_names_in_the_order_of_forward():
    inputs = {"mask": True, "x": True, "memory": False}
    assert read({"loss": LOSS}, inputs).arguments(BATCH) == [BATCH["mask"], BATCH["x"]]
    inputs = {"x": True, "memory": False, "mask": False}
    assert read({"loss": LOSS}, inputs).arguments(BATCH) == [BATCH["x"], None, BATCH["mask"]]


def test_inputs_can_be_mapped():
    task = read({"loss": LOSS, "inputs": {"image": "x"}}, {"image": True})
    assert task.arguments(BATCH) == [BATCH["x"]]


def test_an_input_without_a_tensor_is_refused_with_the_tensors_there_are():
    assert refusal({"loss": LOSS}, {"image": True}) == lines("""
        task.yaml:1: task.inputs: the model needs 'image', and a batch has no tensor of that name
          expected: one of the batch's tensors: x, mask, target
          hint:     say which tensor it takes: task.inputs.image: x
        """)


def test_a_mapping_of_inputs_that_leads_nowhere_is_refused():
    text = refusal({"loss": LOSS, "inputs": {"x": "maks", "imag": "x"}}, {"x": True})
    assert "task.inputs.imag: the model has no input 'imag'" in text
    assert "task.inputs.x: a batch has no tensor 'maks'" in text and "did you mean 'mask'?" in text


def test_all_faults_are_told_at_once():
    section = {
        "los": "",
        "metrics": {
            "accuracy": {**ACCURACY, "of": "target"},
            "mae": {"type": "MeanAbsoluteErorr"},
            "loss": ACCURACY,
        },
        "monitor": "val/acuracy",
        "mode": "up",
    }
    assert refusal(section) == lines("""
        task.yaml:1: task.los: unknown key 'los'
          did you mean 'loss'?
        task.yaml:2: task.loss: a task needs a loss
          expected: an expression, e.g. cross_entropy(output, target)
        task.yaml:1: task.metrics.accuracy.of: of is no list
          found:    'target'
          expected: a list of expressions, e.g. [output, target]
        task.yaml:1: task.metrics.mae.type: unknown metric 'MeanAbsoluteErorr'
          did you mean 'MeanAbsoluteError' or 'MeanAbsolutePercentageError' or 'MeanSquaredError'?
        task.yaml:1: task.metrics.loss: a metric can't be called 'loss': the loss itself is reported so
        task.yaml:1: task.monitor: there will be no metric 'val/acuracy'
          expected: train/loss | train/accuracy | train/mae | val/loss | val/accuracy | val/mae | test/loss | test/accuracy | test/mae
          did you mean 'val/accuracy' or 'train/accuracy' or 'test/accuracy'?
        task.yaml:1: task.mode: unknown mode
          found:    'up'
          expected: min | max
        """)


def test_a_formula_that_has_no_value_is_refused():
    text = refusal({"loss": LOSS, "metrics": {"accuracy": {**ACCURACY, "num_classes": "=data.num_clases"}}})
    assert text == lines("""
        task.yaml:1: task.metrics.accuracy.num_classes: 'data' has no 'num_clases'
          found:    '=data.num_clases'
        """)


def test_what_a_metric_refuses_is_told_at_its_place():
    section = {"loss": LOSS, "metrics": {"accuracy": {**ACCURACY, "num_classes": 1}}}
    assert "task.metrics.accuracy: metric 'MulticlassAccuracy' can't be made" in refusal(section)


def test_monitor_must_be_a_metric_that_will_exist():
    assert refusal({"loss": LOSS, "metrics": {"accuracy": ACCURACY}, "monitor": "val/acc"}) == lines("""
        task.yaml:1: task.monitor: there will be no metric 'val/acc'
          expected: train/loss | train/accuracy | val/loss | val/accuracy | test/loss | test/accuracy
          did you mean 'val/accuracy'?
        """)
    assert "the test split decides nothing" in refusal({"loss": LOSS, "monitor": "test/loss"})


def test_a_metric_of_val_can_not_be_watched_without_a_val_split():
    facts = Facts({**FACTS.values, "num_val": 0}, FACTS.tensors)
    assert "there will be no metric 'val/loss'" in refusal({"loss": LOSS, "monitor": "val/loss"}, facts=facts)
    task = read({"loss": LOSS}, facts=facts)
    assert task.monitor == "train/loss" and task.metric_names() == ["train/loss", "test/loss"]


def test_mode_follows_the_metric_where_it_is_not_said():
    assert read({"loss": LOSS}).mode == "min"
    assert read({"loss": LOSS, "metrics": {"accuracy": ACCURACY}, "monitor": "val/accuracy"}).mode == "max"
    mae = {"type": "MeanAbsoluteError"}
    assert read({"loss": LOSS, "metrics": {"mae": mae}, "monitor": "val/mae"}).mode == "min"
    assert read({"loss": LOSS, "metrics": {"mae": mae}, "monitor": "val/mae", "mode": "max"}).mode == "max"


def test_reading_a_task_imports_no_lightning():
    import subprocess
    import sys

    code = "import sys, builder.training.task; assert not {'pytorch_lightning', 'lightning_fabric'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
