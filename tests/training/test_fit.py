import csv
import math
import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from training_helpers import CHECKPOINTS, TASK, TRAINER, mlp, sgd, train, wine

from builder.errors import ConfigError
from builder.seeding import reseed_step

ALL = {"callbacks": CHECKPOINTS, "logger": {"csv": {"type": "CSVLogger"}, "tensorboard": {"type": "TensorBoardLogger"}}}


def same(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_training_gives_the_bits_of_a_hand_written_loop(tmp_path):
    data, ours, theirs = wine(), mlp(), mlp()
    result = train(ours, tmp_path, data=data, seed=5)

    loader, optimizer, losses = data.loader("train"), sgd(theirs), []
    for epoch in range(2):
        loader.set_epoch(epoch)
        losses = []
        for number, batch in enumerate(loader):
            reseed_step(5, "train", epoch, number)
            loss = nn.functional.cross_entropy(theirs(batch["x"]), batch["target"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append((loss.item(), len(batch["target"])))
    assert same(ours, theirs)
    mean = sum(loss * size for loss, size in losses) / sum(size for _, size in losses)
    assert result.metrics["train/loss"] == pytest.approx(mean, rel=1e-6)
    theirs.eval()
    test = data.splits["test"]
    with torch.no_grad():
        output = theirs(test["x"])
    accuracy = (output.argmax(1) == test["target"]).float().mean()
    assert result.metrics["test/accuracy"] == pytest.approx(float(accuracy))
    assert result.metrics["test/loss"] == pytest.approx(float(nn.functional.cross_entropy(output, test["target"])))


def test_same_seed_same_bits_whatever_the_generators_were(tmp_path):
    models, results = [], []
    for run, state in enumerate((11, 22)):
        torch.manual_seed(state)
        model = mlp(dropout=0.5)
        torch.manual_seed(state)
        results.append(train(model, tmp_path / str(run), seed=3, config=ALL))
        models.append(model)
    assert same(*models) and dict(results[0].metrics) == dict(results[1].metrics)
    first, second = ((tmp_path / run / "metrics.csv").read_bytes() for run in "01")
    assert first == second
    other = mlp(dropout=0.5)
    train(other, tmp_path / "other", seed=4)
    assert not same(models[0], other)


def test_how_often_validation_runs_changes_no_bit_of_the_weights(tmp_path):
    often, seldom = mlp(), mlp()
    train(often, tmp_path)
    train(seldom, tmp_path, config={"trainer": {**TRAINER, "check_val_every_n_epoch": 2}})
    assert same(often, seldom)


def test_the_run_folder_holds_the_logs_and_checkpoints_and_nothing_else(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    result = train(mlp(), tmp_path, config=ALL)
    files = sorted(str(path.relative_to(tmp_path)).split(".out.")[0] for path in tmp_path.rglob("*") if path.is_file())
    logs = ["events", "metrics.csv", "metrics.jsonl"]
    assert files == ["checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", *logs]
    assert (result.best_checkpoint, result.last_checkpoint) == (
        tmp_path / "checkpoints/best.ckpt",
        tmp_path / "checkpoints/last.ckpt",
    )


def test_a_run_without_callbacks_and_loggers_leaves_its_log_only(tmp_path):
    result = train(mlp(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert result.best_checkpoint is None and "test/loss" in result.metrics


def test_the_result_says_what_was_reached_and_metrics_csv_says_the_same(tmp_path):
    positions = []
    result = train(mlp(), tmp_path, config=ALL, on_position=lambda epoch, step: positions.append((epoch, step)))
    assert (result.state, result.epoch, result.step, result.reason) == ("finished", 2, 8, None)
    assert positions == [(2, 8)] and result.seconds > 0
    names = [f"{phase}/{name}" for phase in ("train", "val", "test") for name in ("loss", "accuracy")]
    assert sorted(result.metrics) == sorted(names)
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "step", *names]
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", "3"), ("1", "7"), ("2", "8")]
    for name in names:
        last = rows[2 if name.startswith("test") else 1]
        assert float(last[name]) == result.metrics[name]


def test_tensorboard_holds_the_same_values(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(mlp(), tmp_path, config=ALL)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("val/loss")] == [3, 7]
    assert events.Scalars("test/accuracy")[0].value == pytest.approx(result.metrics["test/accuracy"])


def test_the_last_checkpoint_is_the_last_and_the_best_the_best(tmp_path):
    config = {"trainer": {**TRAINER, "max_epochs": 4}, **ALL}
    model = mlp()

    def falling(optimizer, steps):
        # learns for two epochs, then throws the weights off, so that the best isn't the last
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0 if epoch < 2 else 1e4)
        return SimpleNamespace(scheduler=scheduler, interval="epoch", frequency=1, monitor=None)

    result = train(model, tmp_path, config=config, scheduler=falling)
    best, last = (torch.load(path, weights_only=True) for path in (result.best_checkpoint, result.last_checkpoint))
    assert last["epoch"] == 3 and last["global_step"] == 16
    assert best["epoch"] < 3
    weights = {name.removeprefix("model."): value for name, value in best["state_dict"].items()}
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    with open(tmp_path / "metrics.csv") as file:
        accuracy = [float(row["val/accuracy"]) for row in csv.DictReader(file) if row["val/accuracy"]]
    assert accuracy.index(max(accuracy)) == best["epoch"]


def test_a_checkpoint_is_read_back_with_weights_only_whatever_scheduler_it_holds(tmp_path):
    def steps(optimizer, numbers):
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1])
        return SimpleNamespace(scheduler=scheduler, interval="step", frequency=1, monitor=None)

    result = train(mlp(), tmp_path, config=ALL, scheduler=steps)
    state = torch.load(result.last_checkpoint, weights_only=True)
    assert state["lr_schedulers"][0]["last_epoch"] == 8


def test_schedulers_get_the_numbers_of_steps_and_are_stepped(tmp_path):
    seen = {}

    def schedule(optimizer, steps):
        seen.update(steps, optimizer=optimizer)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.5, total_iters=steps["total_steps"])
        return SimpleNamespace(scheduler=scheduler, interval="step", frequency=1, monitor=None)

    train(mlp(), tmp_path, scheduler=schedule)
    assert (seen["total_steps"], seen["steps_per_epoch"], seen["max_epochs"]) == (8, 4, 2)
    assert seen["optimizer"].param_groups[0]["lr"] == pytest.approx(0.05)


def test_a_plateau_watches_its_metric(tmp_path):
    def plateau(optimizer, steps):
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=1e9)
        return SimpleNamespace(scheduler=scheduler, interval="epoch", frequency=1, monitor="val/loss")

    rates = []
    config = {"trainer": {**TRAINER, "max_epochs": 3}}
    train(mlp(), tmp_path, config=config, scheduler=lambda o, s: rates.append(o) or plateau(o, s))
    assert rates[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.1**3)


def test_early_stopping_watches_what_the_task_watches(tmp_path):
    config = {
        "trainer": {**TRAINER, "max_epochs": 50},
        "callbacks": {"stop": {"type": "EarlyStopping", "patience": 1, "min_delta": 10.0}},
    }
    assert train(mlp(), tmp_path, config=config).epoch == 2


class Breaks(nn.Module):
    """Raises at one of its calls with gradients."""

    def __init__(self, error, at):
        super().__init__()
        self.layer, self.error, self.calls, self.at = nn.Linear(13, 3), error, 0, at

    def forward(self, x):
        self.calls += torch.is_grad_enabled()
        if self.calls == self.at:
            raise self.error
        return self.layer(x)


def test_ctrl_c_gives_an_interrupted_result_and_leaves_ctrl_c_as_it_was(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    result = train(Breaks(KeyboardInterrupt(), 7), tmp_path, config=ALL)
    assert (result.state, result.reason, result.epoch, result.step) == ("interrupted", "Ctrl-C", 1, 6)
    assert "train/loss" in result.metrics and "test/loss" not in result.metrics
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_exception_of_a_layer_passes_through_and_the_position_is_known(tmp_path):
    error, positions = RuntimeError("shapes don't fit"), []
    with pytest.raises(RuntimeError) as caught:
        train(Breaks(error, 7), tmp_path, config=ALL, on_position=lambda *position: positions.append(position))
    assert caught.value is error and positions == [(1, 6)]


def test_a_system_exit_of_a_layer_is_not_taken_for_ctrl_c(tmp_path):
    with pytest.raises(SystemExit):
        train(Breaks(SystemExit(3), 2), tmp_path)


def test_what_lightning_refuses_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="Lightning refuses the trainer: .*invalid accelerator name"):
        train(mlp(), tmp_path, config={"trainer": {"accelerator": "cpuu"}})
    with pytest.raises(ConfigError, match="Lightning refuses to train: You requested to check 0.001"):
        train(mlp(), tmp_path, config={"trainer": {**TRAINER, "limit_val_batches": 0.001}})


def test_all_faults_of_the_three_sections_are_told_at_once(tmp_path):
    config = {
        "trainer": {"max_epochs": "many", "max_epoch": 3, "callbacks": []},
        "callbacks": {"best": {**CHECKPOINTS["best"], "monitor": "val/acuracy"}, "stop": {"type": "EarlyStoping"}},
        "logger": {"csv": {"type": "CSVLoger"}},
    }
    with pytest.raises(ConfigError) as caught:
        train(mlp(), tmp_path, config=config)
    messages = [fault.message for fault in caught.value.faults]
    assert messages == [
        "trainer Trainer can't take this value for 'max_epochs'",
        "trainer Trainer has no argument 'max_epoch'",
        "trainer Trainer is given its 'callbacks' by the builder",
        "there will be no metric 'val/acuracy'",
        "unknown callback 'EarlyStoping'",
        "unknown logger 'CSVLoger'",
    ]


@pytest.mark.parametrize(
    "trainer",
    [
        {"fast_dev_run": True},
        {"overfit_batches": 1},
        {"accumulate_grad_batches": 2},
        {"limit_val_batches": 0},
        {"gradient_clip_val": 0.5},
        {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
        {"precision": "bf16-mixed"},
    ],
)
def test_lightnings_own_switches_work(tmp_path, trainer):
    result = train(
        mlp(), tmp_path, config={"trainer": {**TRAINER, **trainer}, "callbacks": {"last": CHECKPOINTS["last"]}}
    )
    assert result.state == "finished" and math.isfinite(result.metrics["train/loss"])


def test_overfitting_a_batch_sees_the_same_batch_each_epoch(tmp_path):
    model, seen = mlp(), set()
    model.register_forward_hook(
        lambda _, inputs, output: seen.add(inputs[0].sum().item()) if output.requires_grad else None
    )
    train(model, tmp_path, config={"trainer": {**TRAINER, "max_epochs": 4, "overfit_batches": 1}})
    assert len(seen) == 1


def test_data_without_val_and_test_splits_trains(tmp_path):
    task = {**TASK, "monitor": "train/loss"}
    result = train(
        mlp(), tmp_path, data=wine(split={"train": 1.0}), task=task, config={"callbacks": {"last": CHECKPOINTS["last"]}}
    )
    assert sorted(result.metrics) == ["train/accuracy", "train/loss"] and result.last_checkpoint.exists()


def test_nothing_is_said_on_the_way(tmp_path, capfd, caplog):
    train(mlp(), tmp_path, config=ALL)
    output = capfd.readouterr()
    assert (output.out, output.err, caplog.text) == ("", "", "")


def test_a_loss_that_is_no_number_is_told(tmp_path):
    from builder.errors import RunError

    with pytest.raises(RunError, match=r"the loss has to be a tensor without dimensions; it is of shape \[26, 3\]"):
        train(mlp(), tmp_path, task={"loss": "output", "monitor": "val/loss"})


def test_steps_are_logged_every_so_many(tmp_path):
    train(mlp(), tmp_path, config={"trainer": {**TRAINER, "log_every_n_steps": 3}, "logger": ALL["logger"]})
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["train/loss_step"]] == ["2", "6"]
