import pytest
import torch
from training_helpers import TASK, mlp, train, wine

from builder.config.origin import Origins
from builder.errors import ConfigError, Origin, RunError
from builder.training.task import read_task
from builder.training.trainer import read_trainer
from builder.training.try_out import try_out

ORIGINS = Origins({("task", "loss"): Origin("task.yaml", 3), ("task", "metrics", "accuracy"): Origin("task.yaml", 5)})


def task_of(**section):
    return read_task({**TASK, **section}, wine().facts, {"x": True}, ORIGINS)


def batch(size=4):
    return {"x": torch.randn(size, 13), "target": torch.arange(size) % 3}


@pytest.mark.parametrize(
    ("section", "output", "told"),
    [
        ({}, torch.randn(4, 3), None),
        (
            {},
            torch.randn(4, 2),
            "task.yaml:3: task.loss: IndexError: Target 2 is out of bounds.\n"
            "  found:    output [4, 2] float32, target [4] int64, x [4, 13] float32",
        ),
        (
            {},
            {"logits": torch.randn(4, 3), "parts": [torch.zeros(4, dtype=torch.int64)]},
            "task.yaml:3: task.loss: TypeError: cross_entropy_loss(): argument 'input' (position 1) must be Tensor, not dict\n"
            "  found:    output.logits [4, 3] float32, output.parts[0] [4] int64, target [4] int64, x [4, 13] float32",
        ),
        (
            {"prediction": "output.argmax(dim=1)", "metrics": {"auroc": {"type": "MulticlassAUROC", "num_classes": 3}}, "monitor": "val/loss"},
            torch.randn(4, 3),
            "task.metrics.auroc: ValueError: Expected `preds` to have one more dimension than `target` but got 1 and 1\n"
            "  found:    input 1 [4] int64, input 2 [4] int64",
        ),
        (
            {"loss": "output"},
            torch.randn(4, 3),
            "task.yaml:3: task.loss: the loss has to be a tensor without dimensions; it is of shape [4, 3]",
        ),
        ({"loss": "logdet(cholesky(output[:3]))", "metrics": {}, "monitor": "val/loss"}, -torch.eye(4)[:, :3], None),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_task_is_told_with_the_shapes(section, output, told):
    fault = try_out(task_of(**section), batch(), output)
    assert (None if fault is None else str(fault)) == told


def test_in_training_it_is_told_the_same_way(tmp_path):
    data = wine()
    data.splits["train"]["target"][data.splits["train"]["target"] == 2] = 7
    with pytest.raises(
        RunError, match=r"^task\.loss: IndexError: Target 7 is out of bounds\.\n  found:    output \[32, 3\]"
    ):
        train(mlp(), tmp_path, data=data)


def test_a_trainer_that_lightning_refuses_is_told_at_the_argument_that_it_refuses():
    origins = Origins({("trainer", "strategy"): Origin("trainer.yaml", 4), ("trainer",): Origin("trainer.yaml")})
    config = {"trainer": {"accelerator": "cpu", "max_epochs": 1, "strategy": "no-such-strategy"}}
    with pytest.raises(ConfigError) as refused:
        read_trainer(config, task_of(), origins)
    assert str(refused.value).startswith(
        "trainer.yaml:4: trainer.strategy: Lightning refuses the trainer: You selected an invalid"
    )
