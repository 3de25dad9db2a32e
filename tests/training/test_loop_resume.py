"""Runs under the trimmed loop that are killed and resumed end with the bits of one under Lightning's own loop."""

import pytest

from builder.training import trainer as made_trainer
from builder.training.loop import TrimmedEpochLoop
from torture_runs import Kill, Row

CONFIGS = {
    "as it is": (),
    "accumulation, clipping, schedule": (
        "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.5", "scheduler=warmup_cosine",
    ),
    "validation within": ("trainer.val_check_interval=2",),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_killed_and_resumed_under_the_trimmed_loop_as_never_stopped_under_lightnings(tmp_path, monkeypatch, name):
    trim = made_trainer.trim
    monkeypatch.setattr(made_trainer, "trim", lambda trainer: None)
    row = Row(tmp_path, "row", *CONFIGS[name])

    def trimmed(trainer):
        trim(trainer)
        assert isinstance(trainer.fit_loop.epoch_loop, TrimmedEpochLoop)

    monkeypatch.setattr(made_trainer, "trim", trimmed)
    hooks = [number for number, place in enumerate(row.places[0], 1) if place == "on_train_batch_end last"]
    assert row.killed() is None
    assert row.killed(Kill(hooks[len(hooks) // 2])) is None
    assert row.killed(Kill(hooks[3]), Kill(hooks[len(hooks) // 2])) is None
    assert row.kills == 3
