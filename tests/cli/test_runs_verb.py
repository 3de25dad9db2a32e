"""`builder runs` as a user types it."""

import csv
import io
import json

import pytest

from command_line import run
from made_runs import make_run


@pytest.fixture
def folder(tmp_path):
    make_run(
        tmp_path / "outputs",
        "one",
        "2026-01-01_00-00-00_aaaaaaaa",
        lr=0.1,
        loss=0.5,
        csv="epoch,step,val/loss\n0,1,0.5\n",
    )
    make_run(tmp_path / "outputs", "one", "2026-01-03_00-00-00_bbbbbbbb", lr=0.001, loss=0.25)
    make_run(
        tmp_path / "outputs",
        "two",
        "2026-01-02_00-00-00_cccccccc",
        loss=None,
        state="failed",
        reason="\x1b[31mit broke",
    )
    return tmp_path


def test_runs_alone_lists_newest_first(folder):
    for words in (["runs"], ["runs", "list"], ["runs", "list", "outputs"]):
        ran = run(folder, *words)
        assert ran.code == 0, ran.err
        head, *rows = ran.out.splitlines()
        assert head.split() == ["run", "state", "started", "epochs", "time", "val/loss", "test/loss"]
        assert [row.split()[0][-8:] for row in rows] == ["bbbbbbbb", "cccccccc", "aaaaaaaa"]
        assert rows[0].split()[-2:] == ["0.25", "0.275"]


def test_options_go_without_the_verb_list(folder):
    ran = run(
        folder,
        "runs",
        "--sort",
        "optimizer.lr",
        "--columns",
        "optimizer.lr,reason",
        "--where",
        "optimizer.lr<=0.1",
        "-n",
        "2",
    )
    assert ran.code == 0, ran.err
    assert [row.split() for row in ran.out.splitlines()] == [
        ["run", "optimizer.lr", "reason"],
        ["one/2026-01-03_00-00-00_bbbbbbbb", "0.001"],
        ["two/2026-01-02_00-00-00_cccccccc", "0.1", "\\x1b[31mit", "broke"],
    ]


def test_json_and_csv_hold_all(folder):
    listed = json.loads(run(folder, "runs", "--json").out)
    assert [one["metrics"].get("val/loss") for one in listed] == [0.25, None, 0.5]
    table = list(csv.DictReader(io.StringIO(run(folder, "runs", "--csv").out)))
    assert [row["val/loss"] for row in table] == ["0.25", "", "0.5"]
    named = list(csv.DictReader(io.StringIO(run(folder, "runs", "--csv", "--columns", "seed,optimizer.lr").out)))
    assert named[0] == {"folder": "outputs/one/2026-01-03_00-00-00_bbbbbbbb", "seed": "0", "optimizer.lr": "0.001"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--where", "optimizer.lr=1"], "write '=='"),
        (["--columns", "optimizer.rl"], "--columns: no run has 'optimizer.rl'; did you mean 'optimizer.lr'"),
        (["--csv", "--json"], "--csv or --json, not both"),
        (["list", "tow"], "did you mean 'two'?"),
        (["lst"], "No such command 'lst'"),
        (["compare", "aaaaaaaa"], "name two runs or more"),
        (
            ["compare", "aaaaaaaa", "bbbbbbbb", "-o", "x.pdf"],
            "x.pdf: what is written has to end in .html or .png or .svg",
        ),
        (["report", "aaaaaaaa", "-o", "x.pdf"], "x.pdf: what is written has to end in .html"),
        (["rm", "aaaaaaaa"], "nobody is there to be asked; --yes deletes without asking"),
        (["rm", "outputs", "--yes"], "outputs is not a run folder"),
        (["rm", "dddddddd", "--yes"], "no run 'dddddddd' in outputs"),
    ],
)
def test_wrong_usage_is_told_with_exit_code_2(folder, words, said):
    ran = run(folder, "runs", *words)
    assert (ran.code, ran.out.count("deleted")) == (2, 0)
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_no_runs_and_none_that_fit_are_said(folder, tmp_path):
    assert "no run fits" in run(folder, "runs", "--where", "seed > 5").err
    (tmp_path / "new").mkdir()
    ran = run(tmp_path / "new", "runs")
    assert (ran.code, ran.out, ran.err) == (0, "", "no runs in outputs\n")
    assert json.loads(run(tmp_path / "new", "runs", "--json").out) == []


def test_compare_prints_what_differs(folder):
    ran = run(folder, "runs", "compare", "aaaaaaaa", "bbbbbbbb")
    assert ran.code == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["optimizer.lr", "0.1", "0.001"] in lines
    assert ["val/loss", "0.5", "0.25"] in lines
    assert json.loads(run(folder, "runs", "compare", "aaaaaaaa", "bbbbbbbb", "--json").out)["config"] == {
        "optimizer.lr": [0.1, 0.001]
    }


def test_rm_deletes_what_is_named_and_nothing_else(folder):
    ran = run(folder, "runs", "rm", "aaaaaaaa", "two/2026-01-02_00-00-00_cccccccc", "--yes")
    assert ran.code == 0, ran.err
    assert "deleted 2 runs" in ran.out
    assert [one["run"][-8:] for one in json.loads(run(folder, "runs", "--json").out)] == ["bbbbbbbb"]
