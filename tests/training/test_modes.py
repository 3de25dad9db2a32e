"""Dropout and BatchNorm are in the right mode in every phase."""

import pytest
import torch
from training_helpers import TRAINER, mlp, train, wine


def watch(model):
    """Notes for every call of a Dropout or BatchNorm: whether gradients are on, its mode, and whether it did anything."""
    calls = []

    def note(module, inputs, output):
        calls.append((torch.is_grad_enabled(), module.training, torch.equal(inputs[0], output)))

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.BatchNorm1d):
            module.register_forward_hook(note)
    return calls


@pytest.mark.parametrize("mode", [True, False])
def test_training_trains_and_evaluation_evaluates_whatever_mode_the_model_came_in(tmp_path, mode):
    model = mlp().train(mode)
    calls = watch(model)
    train(model, tmp_path)
    batches = {"train": 4, "val": 1, "test": 1}
    sanity, epochs = 1, 2
    expected = 2 * (epochs * (batches["train"] + batches["val"]) + sanity + batches["test"])
    assert len(calls) == expected
    assert all(gradients == training for gradients, training, _ in calls)
    assert [gradients for gradients, *_ in calls[2::2]].count(True) == epochs * batches["train"]


def test_modes_are_right_after_a_validation_within_the_epoch(tmp_path):
    model = mlp()
    calls = watch(model)
    train(model, tmp_path, config={"trainer": {**TRAINER, "val_check_interval": 0.5}})
    assert [gradients for gradients, *_ in calls][2::2].count(False) >= 4
    assert all(gradients == training for gradients, training, _ in calls)


def test_dropout_drops_in_training_only(tmp_path):
    model = mlp(dropout=0.5)
    calls = []
    model[3].register_forward_hook(
        lambda module, inputs, output: calls.append((torch.is_grad_enabled(), torch.equal(inputs[0], output)))
    )
    train(model, tmp_path)
    assert all(unchanged == (not training) for training, unchanged in calls)


def test_statistics_of_batch_norm_move_in_training_only(tmp_path):
    model, seen = mlp(), []
    model.register_forward_pre_hook(
        lambda *_: seen.append((torch.is_grad_enabled(), int(model[1].num_batches_tracked)))
    )
    train(model, tmp_path)
    steps = sum(training for training, _ in seen)
    assert int(model[1].num_batches_tracked) == steps == 8
    counts = [sum(training for training, _ in seen[:index]) for index in range(len(seen))]
    assert [tracked for _, tracked in seen] == counts


def test_modes_are_right_in_training_again_after_a_test(tmp_path):
    model = mlp()
    train(model, tmp_path, data=wine())
    calls = watch(model)
    train(model, tmp_path, data=wine())
    assert all(gradients == training for gradients, training, _ in calls)
