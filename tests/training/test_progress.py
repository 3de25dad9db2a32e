import re

from rich.console import Console
from training_helpers import CHECKPOINTS, TRAINER, mlp, train

from builder.training.progress import ProgressBar

BAR = {"bar": {"type": "ProgressBar"}, "last": CHECKPOINTS["last"]}


def test_without_a_terminal_each_epoch_gives_one_line_on_standard_error(tmp_path, capfd):
    result = train(mlp(), tmp_path, config={"callbacks": BAR}, quiet=False)
    output = capfd.readouterr()
    first, second = output.err.splitlines()
    number = r"[\d.e-]+"
    names = ["train/accuracy", "train/loss", "val/accuracy", "val/loss"]
    assert re.fullmatch("epoch 1/2  " + "  ".join(f"{name} {number}" for name in names) + r"  [\d.]+ s", first)
    assert second.startswith(f"epoch 2/2  train/accuracy {result.metrics['train/accuracy']:.4g}")
    assert output.out == ""


def test_quiet_says_nothing(tmp_path, capfd):
    train(mlp(), tmp_path, config={"callbacks": BAR}, quiet=True)
    train(mlp(), tmp_path, config={"callbacks": BAR, "trainer": {**TRAINER, "enable_progress_bar": False}}, quiet=False)
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar_with_the_time_left_and_metrics(tmp_path, monkeypatch):
    import io

    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=160)
    monkeypatch.setattr("builder.training.progress.Console", lambda **kwargs: terminal)
    train(mlp(), tmp_path, config={"callbacks": BAR}, quiet=False)
    text = screen.getvalue()
    assert "epoch 2/2" in text and "100%" in text and "eta" in text and "val/loss" in text


def test_the_bar_moves_by_time_and_not_by_step(monkeypatch):
    import types

    bar, moves, now = ProgressBar(refresh=1.0), [], [0.0]
    bar._bar = types.SimpleNamespace(update=lambda task, completed, refresh: moves.append(completed))
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for now[0] in (0.0, 0.5, 1.2, 1.3, 2.1, 2.3, 3.5):
        bar.on_train_batch_end(None)
    assert moves == [1, 3, 6, 7]
    bar.on_validation_batch_end()
    now[0] = 5.0
    bar.on_validation_batch_end()
    assert moves == [1, 3, 6, 7, 7]


def test_the_bar_has_no_thread_of_its_own(tmp_path, monkeypatch):
    """It would draw while steps are taken, ten times a second whatever there is to show."""
    import io
    import threading

    terminal = Console(file=io.StringIO(), force_terminal=True, width=160)
    monkeypatch.setattr("builder.training.progress.Console", lambda **kwargs: terminal)
    model, threads = mlp(), []
    model.register_forward_pre_hook(lambda *_: threads.append(threading.active_count()))
    before = threading.active_count()
    train(model, tmp_path, config={"callbacks": BAR}, quiet=False)
    assert set(threads) == {before}


def test_an_exception_gives_the_terminal_back(tmp_path, monkeypatch):
    import io

    import pytest
    import torch

    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr("builder.training.progress.Console", lambda **kwargs: terminal)
    model = mlp()
    model.register_forward_pre_hook(lambda *_: 1 / 0 if torch.is_grad_enabled() else None)
    with pytest.raises(ZeroDivisionError):
        train(model, tmp_path, config={"callbacks": BAR}, quiet=False)
    assert terminal._live_stack == []
