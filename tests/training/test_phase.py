from types import SimpleNamespace

import pytest
import torch
import torchmetrics
from torch import nn

from builder.training import phase as module
from builder.training.phase import Phase


def task(**metrics):
    def entry(make, *names):
        return SimpleNamespace(make=make, of=tuple((lambda values, name=name: values[name]) for name in names))

    made = {key: entry(*value) for key, value in metrics.items()}
    return SimpleNamespace(metrics=made, loss=SimpleNamespace(terms=()))


def batches(sizes=(4, 4, 3), classes=5):
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        yield torch.randn(size, classes, generator=generator), torch.randint(0, classes, (size,), generator=generator)


def fill(phase, data):
    for output, target in data:
        loss = nn.functional.cross_entropy(output, target)
        phase.add(loss, {"output": output, "target": target}, len(target))


def test_the_loss_is_the_mean_over_samples_not_batches():
    phase = Phase("train", task())
    fill(phase, batches())
    output, target = (torch.cat(column) for column in zip(*batches(), strict=True))
    torch.testing.assert_close(phase.compute()["train/loss"], nn.functional.cross_entropy(output, target))


@pytest.mark.parametrize("pending", [0, 1 << 18])
@pytest.mark.parametrize("fold", [2, 256])
def test_metrics_are_those_of_updates_batch_by_batch(monkeypatch, pending, fold):
    monkeypatch.setattr(module, "PENDING", pending)
    monkeypatch.setattr(module, "FOLD", fold)
    make = {
        "accuracy": lambda: torchmetrics.classification.MulticlassAccuracy(5),
        "auroc": lambda: torchmetrics.classification.MulticlassAUROC(5),
    }
    phase = Phase("val", task(**{key: (value, "output", "target") for key, value in make.items()}))
    for _ in range(2):  # the second epoch begins anew
        fill(phase, batches())
        values = phase.compute()
        phase.reset()
        for key, value in make.items():
            metric = value()
            for output, target in batches():
                metric.update(output, target)
            torch.testing.assert_close(values[f"val/{key}"], metric.compute())


def test_an_update_costs_the_metric_nothing_until_the_end():
    phase = Phase(
        "train", task(accuracy=(lambda: torchmetrics.classification.MulticlassAccuracy(5), "output", "target"))
    )
    fill(phase, batches(sizes=(4,) * 20))
    assert phase.metrics["accuracy"].update_count == 0
    phase.compute()
    assert phase.metrics["accuracy"].update_count == 1


def test_metrics_that_count_updates_get_each_batch_alone():
    phase = Phase(
        "train",
        task(
            mean=(lambda: torchmetrics.MeanMetric(), "output"),
            running=(lambda: torchmetrics.wrappers.Running(torchmetrics.SumMetric(), window=2), "target"),
        ),
    )
    fill(phase, batches())
    values = phase.compute()
    assert phase.metrics["mean"].update_count == 3
    assert values["train/running"] == sum(target.sum() for _, target in list(batches())[-2:])


def test_batches_of_unlike_shapes_are_not_joined():
    phase = Phase("val", task(perplexity=(lambda: torchmetrics.text.Perplexity(), "output", "target")))
    generator = torch.Generator().manual_seed(0)
    metric = torchmetrics.text.Perplexity()
    for length in (3, 5):
        output, target = (
            torch.randn(2, length, 7, generator=generator),
            torch.randint(0, 7, (2, length), generator=generator),
        )
        phase.add(torch.zeros(()), {"output": output, "target": target}, 2)
        metric.update(output, target)
    torch.testing.assert_close(phase.compute()["val/perplexity"], metric.compute())


def test_a_metric_of_several_values_gives_a_name_for_each():
    phase = Phase(
        "test",
        task(accuracy=(lambda: torchmetrics.classification.MulticlassAccuracy(5, average=None), "output", "target")),
    )
    fill(phase, batches())
    assert list(phase.compute()) == ["test/loss", *(f"test/accuracy/{index}" for index in range(5))]


def test_nothing_gathered_gives_nothing():
    assert Phase("val", task()).compute() == {}


def test_what_is_gathered_holds_no_graph():
    phase = Phase("train", task(accuracy=(lambda: torchmetrics.MeanMetric(), "output")))
    output = torch.randn(3, 2, requires_grad=True)
    phase.add(output.sum(), {"output": output}, 3)
    assert not phase._means["loss"]._losses[0].requires_grad and not phase._pending["accuracy"][0][0].requires_grad
