"""Losses of several terms, and tensors that a task makes of the batch: what they are, and what is refused."""

import textwrap

import pytest
import torch
from torch import nn

from builder.config.origin import Origins
from builder.data.facts import Facts, TensorFact
from builder.errors import ConfigError, Origin
from builder.training.made import shapes_of
from builder.training.phase import Phase
from builder.training.task import read_task

FACTS = Facts(
    {"num_classes": 3, "class_weights": [0.5, 1.0, 2.0], "num_train": 9, "num_val": 3, "num_test": 0},
    {"x": TensorFact((4,), "float32"), "value": TensorFact((), "float32"), "target": TensorFact((), "int64")},
)
BATCH = {"x": torch.randn(6, 4), "value": torch.randn(6), "target": torch.tensor([0, 1, 2, 0, 1, 2])}
OUTPUT = {"classes": torch.randn(6, 3), "value": torch.randn(6)}
LOSS = {
    "classes": {"type": "CrossEntropyLoss", "weight": "=data.class_weights", "of": ["output.classes", "target"]},
    "value": {"loss": "mse_loss(output.value, value)", "weight": "=1 / data.num_classes"},
    "size": {"loss": {"type": "L1Loss", "of": ["output.value", "zeros_like(value)"]}, "weight": 0},
}


def read(section, **kwargs):
    origins = Origins({("task",): Origin("task.yaml", 1), ("task", "loss"): Origin("task.yaml", 2)})
    kwargs = {"outputs": ["classes", "value"], **kwargs}
    return read_task(section, FACTS, {"x": True}, origins, **kwargs)


def refusal(section, **kwargs):
    with pytest.raises(ConfigError) as caught:
        read(section, **kwargs)
    return str(caught.value)


def lines(text):
    return textwrap.dedent(text).strip("\n")


def test_a_loss_is_the_weighted_sum_of_its_terms():
    task = read({"loss": LOSS})
    assert task.loss.terms == ("classes", "value", "size")
    values = task.names(dict(BATCH), OUTPUT)
    alone = nn.CrossEntropyLoss(weight=torch.tensor(FACTS.values["class_weights"]))
    classes, value = alone(OUTPUT["classes"], BATCH["target"]), nn.functional.mse_loss(OUTPUT["value"], BATCH["value"])
    torch.testing.assert_close(task.loss.function(values), classes + value / 3)
    torch.testing.assert_close(
        dict(values.terms), {"classes": classes, "value": value, "size": OUTPUT["value"].abs().mean()}
    )
    assert [type(module) for module in task.loss.module] == [nn.CrossEntropyLoss, nn.L1Loss]


def test_each_term_is_a_metric_of_its_own_and_may_be_watched():
    task = read({"loss": LOSS, "monitor": "val/loss_value"})
    assert task.metric_names() == [
        f"{phase}/{name}" for phase in ("train", "val") for name in ("loss", "loss_classes", "loss_value", "loss_size")
    ]
    assert (task.monitor, task.mode) == ("val/loss_value", "min")


def test_the_terms_of_an_epoch_are_means_over_samples():
    task = read({"loss": LOSS})
    phase = Phase("val", task)
    for rows in (slice(0, 4), slice(4, 6)):
        values = task.names({k: v[rows] for k, v in BATCH.items()}, {k: v[rows] for k, v in OUTPUT.items()})
        phase.add(task.loss.function(values), values, len(values["x"]))
    found = phase.compute()
    assert list(found) == ["val/loss", "val/loss_classes", "val/loss_value", "val/loss_size"]
    torch.testing.assert_close(found["val/loss_value"], nn.functional.mse_loss(OUTPUT["value"], BATCH["value"]))
    torch.testing.assert_close(found["val/loss"], found["val/loss_classes"] + found["val/loss_value"] / 3)
    phase.reset()
    assert phase.compute() == {}


def test_gradients_flow_through_every_term():
    task = read({"loss": LOSS})
    output = {name: value.clone().requires_grad_() for name, value in OUTPUT.items()}
    task.loss.function(task.names(dict(BATCH), output)).backward()
    assert all(value.grad.abs().sum() > 0 for value in output.values())


def test_what_is_wrong_with_terms_is_told_at_once():
    section = {
        "loss": {
            "classes": "cross_entropy(output.clases, target)",
            "value": {"loss": "mse_loss(output.value, valu)", "weight": "heavy"},
            "size": {"los": "output.value.mean()", "weight": True},
            "2d": "output.value.mean()",
            "rest": {"type": "L1Los", "of": ["output.value", "value"]},
        },
        "metrics": {"loss_value": "MeanAbsoluteError"},
    }
    assert refusal(section) == lines("""
        task.yaml:2: task.loss.classes: the model's output has no 'clases'
          found:    'cross_entropy(output.clases, target)'
          expected: classes, value
          did you mean 'classes'?
        task.yaml:2: task.loss.value.weight: no weight of a loss
          found:    'heavy'
          expected: a finite number
        task.yaml:2: task.loss.value.loss: unknown name 'valu'
          found:    'mse_loss(output.value, valu)'
          expected: one of output, prediction, x, value, target, or a function
          did you mean 'value'?
        task.yaml:2: task.loss.size.los: unknown key 'los'
          expected: a loss and its weight, or a registered loss with its type
          did you mean 'loss'?
        task.yaml:2: task.loss.size.weight: no weight of a loss
          found:    True
          expected: a finite number
        task.yaml:2: task.loss.size.loss: a task needs a loss
          expected: an expression, e.g. cross_entropy(output, target)
        task.yaml:2: task.loss.2d: no name of a term of the loss
          found:    '2d'
          expected: letters, digits and _
        task.yaml:2: task.loss.rest.type: unknown loss 'L1Los'
          did you mean 'L1Loss' or 'NLLLoss'?
        task.yaml:1: task.metrics.loss_value: a metric can't be called 'loss_value': a term of the loss is reported so
        """)


def test_a_term_that_is_no_number_is_told_at_its_place():
    task = read({"loss": {"value": "output.value - value"}})
    with pytest.raises(Exception, match=r"task.loss.value: the loss has to be a tensor without dimensions"):
        task.loss.function(task.names(dict(BATCH), OUTPUT))


def test_tensors_are_made_in_order_and_are_inputs_and_names():
    section = {
        "tensors": {"half": "x / 2", "twice": "half * 4"},
        "inputs": {"x": "twice"},
        "loss": "mse_loss(output, half)",
    }
    task = read(section, outputs=[])
    batch = dict(BATCH)
    (given,) = task.arguments(batch)
    torch.testing.assert_close(given, BATCH["x"] * 2)
    assert torch.equal(
        task.loss.function(task.names(batch, given)), nn.functional.mse_loss(BATCH["x"] * 2, BATCH["x"] / 2)
    )


def test_what_is_wrong_with_tensors_is_told_with_the_names_there_are():
    section = {"tensors": {"half": "y / 2", "x": "x + 1", "output": "x", "3d": "x"}, "loss": "mse_loss(output, half)"}
    assert refusal(section, outputs=[]) == lines("""
        task.yaml:1: task.tensors.half: unknown name 'y'
          found:    'y / 2'
          expected: one of x, value, target, or a function
        task.yaml:1: task.tensors.x: a batch already has a tensor 'x'
        task.yaml:1: task.tensors.output: a tensor can't be called 'output': that is what the model gives
        task.yaml:1: task.tensors.3d: no name of a tensor: letters, digits and _ make one
        """)


def test_the_shapes_of_made_tensors_are_known_before_there_is_a_model():
    section = {"pair": "stack([x, x.flip(0)], 1)", "label": "target == target.flip(0)", "wrong": "x @ value @ x"}
    assert shapes_of(section, FACTS.tensors, 2, Origins()) == {"pair": ((2, 2, 4), "float32"), "label": ((2,), "bool")}
    assert shapes_of(None, FACTS.tensors, 2, Origins()) == {}


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("cross_entropy(output.clases, target)", "the model's output has no 'clases'"),
        ('cross_entropy(output["clases"], target)', "the model's output has no 'clases'"),
        ("cross_entropy(output.classes, targets)", "unknown name 'targets'"),
    ],
)
def test_an_output_or_batch_key_that_is_not_there_is_refused_with_the_nearest(loss, message):
    text = refusal({"loss": loss})
    assert message in text and "did you mean" in text


def test_a_key_of_an_output_that_is_one_tensor_is_refused():
    text = refusal({"loss": "cross_entropy(output.logits, target)"}, outputs=[])
    assert "task.loss" in text and "logits" in text
