"""The page of a sweep, opened in a browser as a reader would; and what else reads its study."""

import math
import re

import optuna
import pytest

from browser import needs_browser, opened, screenshot
from builder.cli.sweep_shown import Shown
from builder.errors import Origin
from builder.sweep.book import Book
from builder.sweep.driver import Judged
from builder.sweep.objectives import Objective
from builder.sweep.report import sweep_page
from builder.sweep.results import best_rows
from builder.sweep.search import Search
from builder.sweep.space import Axis, Choices, Numbers

AXES = [
    Axis("optimizer.lr", Numbers(1e-4, 1e-1, log=True), "", Origin()),
    Axis("model", Choices(("mlp", "<b>cnn</b>"), ("mlp", "'<b>cnn</b>'")), "", Origin()),
]


def made(folder, modes, trials=12, why="why"):
    """A study whose values are a function of what was drawn; every fifth trial is pruned, the last one failed."""
    book = Book.create(f"sqlite:///{folder}/study.db", "s", modes, {"words": ["x"]})
    book.fill(AXES, trials, grid=False)
    while (number := book.claim(abandoned=False)) is not None:
        point = book.choose(number, AXES, Search("random"), 0)
        value = abs(math.log10(float(point["optimizer.lr"])) + 2) + 0.1 * (point["model"] == "mlp")
        for epoch in range(3 if len(modes) == 1 else 0):
            book.report(number, epoch, value + 1 / (epoch + 1))
        state = "failed" if number == trials - 1 else "pruned" if number % 5 == 4 else "complete"
        values = [value, 1 / (value + 1)][: len(modes)] if state == "complete" else None
        book.settle(
            number, state, values, {"seconds": 1.5, "runs": [f"outputs/run{number}"], "reason": f"{why} {number}"}
        )
    return book


def page_of(folder, modes):
    book = made(folder, modes)
    rows = book.rows()
    objectives = [Objective(f"val/{name}", mode) for name, mode in zip(("loss", "accuracy"), modes, strict=False)]
    sweep_page(folder, book.study, objectives, "val/loss", rows, best_rows(rows, modes)).write(folder / "report.html")
    return folder / "report.html"


@needs_browser
@pytest.mark.parametrize("modes", [["min"], ["min", "max"]], ids=["one objective", "two objectives"])
def test_the_page_draws_all_its_charts_without_a_network_and_without_complaints(modes, tmp_path):
    page = opened(page_of(tmp_path, modes))
    assert page.console == []
    several = len(modes) > 1
    headings = re.findall(r"<h2>(.*?)</h2>", page.dom)
    front = ["Trials that none is better than in all (Pareto front)", "Pareto front"] if several else ["Best trials"]
    assert headings == [
        *front, "History", "Parallel coordinates", "Importance of what was varied", "Slices", "Learning curves",
        "Pruned and failed trials", "All trials",
    ]  # fmt: skip
    assert f'data-drawn="{9 if several else 5}"' in page.dom
    for said in ("12 trials: 9 complete, 2 pruned, 1 failed", "why 4", "why 11", "<b>cnn</b>", "outputs/run11"):
        assert said in page.text, said
    assert "<b>cnn" not in page.dom.split('id="figures"')[0]


@needs_browser
def test_the_page_is_light_and_dark(tmp_path):
    path = page_of(tmp_path, ["min"])
    light, dark = (screenshot(path, tmp_path / f"{name}.png", dark=name == "dark") for name in ("light", "dark"))
    assert light.getpixel((5, 5)) == (0xF7, 0xF8, 0xFA) and dark.getpixel((5, 5)) == (0x12, 0x15, 0x1B)


def test_the_table_of_a_running_sweep_keeps_its_columns_whatever_a_trial_says(tmp_path, monkeypatch, capsys):
    book = made(tmp_path, ["min"], why="it failed " * 30)
    book.fill(AXES, 14, grid=False)
    book.claim(abandoned=False)
    monkeypatch.setattr("builder.cli.sweep_shown.is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "100")
    with Shown(quiet=False) as shown:
        judged = Judged((Objective("val/loss", "min"),), "val/loss", "min")
        shown.watcher().begin(None, judged, book)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].split() == ["trial", "state", "val/loss", "s", "overrides"]
    assert all(len(line) <= 100 for line in lines)
    text = " ".join(lines)
    assert "14 trials: 9 complete, 2 pruned, 1 failed, 1 running, 1 waiting" in text
    best = next(line for line in lines if line.rstrip().endswith("best"))
    assert best.split()[:2] == [str(best_rows(book.rows(), ["min"])[0].number), "complete"]
    assert sum("optimizer.lr=" in line for line in lines) == 12


def test_the_study_is_one_of_optuna_alone(tmp_path):
    """So `optuna-dashboard` and all else that reads studies reads it."""
    made(tmp_path, ["min"])
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db")
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE"] * 4 + ["PRUNED"] + ["COMPLETE"] * 4 + ["PRUNED"] + ["COMPLETE", "FAIL"]
    assert study.direction.name == "MINIMIZE" and study.user_attrs["words"] == ["x"]
    for trial in study.trials:
        assert set(trial.params) == {"optimizer.lr", "model"} and len(trial.intermediate_values) == 3
        assert trial.user_attrs["runs"] == [f"outputs/run{trial.number}"]
        assert 1e-4 <= trial.params["optimizer.lr"] <= 1e-1
    assert study.best_value == min(trial.value for trial in study.trials if trial.state.name == "COMPLETE")
    assert study.best_trial.distributions["optimizer.lr"].log
