import pytest

from builder.plans import length


@pytest.mark.parametrize(
    ("trainer", "known"),
    [
        ({"max_epochs": 3}, {"steps_per_epoch": 20, "total_steps": 60, "max_epochs": 3}),
        ({}, {"steps_per_epoch": 20, "total_steps": 20000, "max_epochs": 1000}),
        ({"max_epochs": -1}, {"steps_per_epoch": 20}),
        ({"max_epochs": 3, "max_steps": 100000}, {"steps_per_epoch": 20, "total_steps": 60, "max_epochs": 3}),
        ({"max_epochs": 3, "max_steps": 25}, {"steps_per_epoch": 20, "total_steps": 25, "max_epochs": 2}),
        ({"max_steps": 25}, {"steps_per_epoch": 20, "total_steps": 25, "max_epochs": 2}),
        ({"max_epochs": 3, "limit_train_batches": 2}, {"steps_per_epoch": 2, "total_steps": 6, "max_epochs": 3}),
        ({"max_epochs": 3, "limit_train_batches": 0.5}, {"steps_per_epoch": 10, "total_steps": 30, "max_epochs": 3}),
        ({"max_epochs": 3, "overfit_batches": 1}, {"steps_per_epoch": 1, "total_steps": 3, "max_epochs": 3}),
        ({"max_epochs": 3, "accumulate_grad_batches": 3}, {"steps_per_epoch": 7, "total_steps": 21, "max_epochs": 3}),
        ({"max_epochs": 9, "fast_dev_run": True}, {"steps_per_epoch": 1, "total_steps": 1, "max_epochs": 1}),
        ({"max_epochs": 9, "fast_dev_run": 3}, {"steps_per_epoch": 3, "total_steps": 3, "max_epochs": 1}),
    ],
)
def test_how_long_training_lasts_follows_from_the_trainer_s_arguments(trainer, known):
    assert length(trainer, 20) == known
