import pytest
import torch
from training_helpers import shipped

from builder.config.origin import Origins
from builder.data.load import load
from builder.training.phase import Phase
from builder.training.task import read_task

CASES = {
    "classification": ("digits", "x", lambda batch, facts: torch.randn(len(batch["x"]), facts["num_classes"])),
    "regression": ("diabetes", "x", lambda batch, facts: torch.randn(len(batch["x"]), 1)),
    "language_model": ("topics", "ids", lambda batch, facts: torch.randn(*batch["ids"].shape, facts["vocab_size"])),
}


@pytest.mark.parametrize("name", CASES)
def test_a_shipped_task_gives_a_loss_and_its_metrics_for_any_output_of_that_shape(name):
    data_name, model_input, make_output = CASES[name]
    data = load(shipped("data", data_name), 0, Origins())
    task = read_task(shipped("task", name), data.facts, {model_input: True}, Origins())
    batch = next(iter(data.loader("val")))
    output = make_output(batch, data.facts.values).requires_grad_()
    values = task.names(batch, output)
    loss = task.loss.function(values)
    loss.backward()
    assert output.grad.abs().sum() > 0
    phase = Phase("val", task)
    phase.add(loss, values, len(batch["target"]))
    metrics = phase.compute()
    assert list(metrics) == ["val/loss", *(f"val/{key}" for key in task.metrics)] and task.monitor in metrics
    if name == "language_model":
        torch.testing.assert_close(metrics["val/perplexity"], metrics["val/loss"].exp())
