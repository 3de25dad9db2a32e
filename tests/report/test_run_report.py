"""The page of a run: what it says, that it draws, that nothing in a run can run in it, and that it fetches nothing."""

import json
import re

import pytest

from browser import needs_browser, opened, screenshot
from builder.errors import RunError
from builder.report import page as page_module
from builder.report.charts import Chart, label, line
from builder.report.markup import Markup, join, tag, text
from builder.report.page import Page
from builder.report.run import run_page, write_report
from builder.report.tables import MOST_ROWS, table, value
from made_runs import CONFIG, make_run

EVIL = '</script></title><script>document.documentElement.dataset.ran=1</script><img src=x onerror="document.documentElement.dataset.ran=1">\'"&'
CURVES = "epoch,step,train/loss_step,train/loss,val/loss,lr/a,lr/b,time/step\n" + "".join(
    f"{step // 10},{step},{2 - step / 50},{'' if step % 10 != 9 else 2 - step / 50},{'' if step % 10 != 9 else 1 / (step + 1)},0.1,{0.01 * step},0.5\n"
    for step in range(40)
)


def full(root, hostile=""):
    """A run whose folder holds all that a report can show; `hostile` is put wherever a text may stand."""
    config = CONFIG.format(name="exp", seed=3, lr=0.1) + f"description: {json.dumps('a note ' + hostile)}\n"
    curves = CURVES.replace("val/loss", json.dumps("val/lo" + hostile).replace('\\"', '""')) if hostile else CURVES
    run = make_run(
        root, config=config, csv=curves, reason="it stopped " + hostile, command=["builder", "train", hostile]
    )
    (run / "overrides.txt").write_text(f"optimizer.lr=0.1\n{hostile}\n")
    (run / "origins.json").write_text(
        json.dumps({"optimizer.lr": "override 'optimizer.lr=0.1'" + hostile, "seed": "default"})
    )
    module = {"path": "fc", "type": "Linear" + hostile, "inputs": [["B", "4"]], "outputs": [["B", "8"]], "parameters": 1234567,
              "trainable": 40, "flops": 64, "calls": 1, "notes": ["is tied " + hostile]}  # fmt: skip
    model = {
        "sizes": {"B": 4},
        "parameters": 1234567,
        "trainable": 40,
        "flops": 64,
        "memory": {"total": 2048},
        "modules": [module],
    }
    (run / "reports").mkdir()
    (run / "reports" / "model.json").write_text(json.dumps(model))
    (run / "reports" / "model.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="50" height="20"><script>1</script><desc>{text(hostile)}</desc></svg>'
    )
    group = {
        "name": "head" + hostile,
        "type": "AdamW",
        "tensors": 2,
        "parameters": 40,
        "hyperparameters": {"lr": 0.1, "fused": None},
        "holds": ["fc"],
    }
    (run / "reports" / "groups.json").write_text(json.dumps({"groups": [group], "untrained": 0}))
    (run / "reports" / "init.json").write_text(
        json.dumps({"parameters": [{"parameter": "fc.weight" + hostile, "shape": [8, 4], "mean": 0.25}]})
    )
    (run / "reports" / "load.json").write_text(json.dumps({"sources": [{"path": "run:other@best", "share": 0.5}]}))
    (run / "reports" / "freeze.json").write_text(json.dumps({"rules": [{"select": "trunk", "until": None}]}))
    (run / "data.json").write_text(
        json.dumps({"facts": {"class_names": ["cat" + hostile, "dog"]}, "fingerprint": {"train": "abc"}})
    )
    (run / "environment.json").write_text(json.dumps({"host": "h" + hostile, "packages": {"torch": "2.99"}}))
    (run / "git.patch").write_text(f"+changed {hostile}")
    (run / "attempts").mkdir()
    change = {"key": "optimizer.lr", "then": 0.1, "now": "0.2" + hostile}
    for number, attempt in enumerate(
        [{"started": "2026-01-02T03:04:05+00:00"}, {"step": 17, "changes": [change], "before": {"state": "killed"}}], 1
    ):
        (run / "attempts" / f"00{number}.json").write_text(json.dumps(attempt))
    (run / "model.py").write_text(f"class Net: ...  # {hostile}")
    (run / "manifest.json").write_text(
        json.dumps({"files": {"config.yaml" + hostile: {"sha256": "00ff", "bytes": 12}}})
    )
    sample = {
        "image": "data:image/png;base64,iVBORw0KGgo=",
        "target": "cat" + hostile,
        "prediction": "dog",
        "right": False,
    }
    (run / "predictions.json").write_text(json.dumps({"note": "the first few " + hostile, "samples": [sample]}))
    return run


SECTIONS = ["Summary", "Attempts", "Curves", "Learning rates", "Predictions", "Model", "Config", "Initial weights", "Loaded weights", "Frozen",
            "Parameter groups", "Data", "Also logged", "Environment", "Files"]  # fmt: skip


@needs_browser
def test_a_report_shows_all_that_the_folder_tells(tmp_path):
    path = write_report(full(tmp_path))
    page = opened(path)
    assert page.console == []
    assert re.findall(r"<h2>(.*?)</h2>", page.dom) == SECTIONS
    assert 'data-drawn="3"' in page.dom
    assert page.drawn() == 3
    assert "data-trouble" not in page.dom
    for said in ("it stopped", "a note", "optimizer.lr: 0.1 → 0.2", "killed", "attempt 2", "default", "1,234,567", "2.00 KiB", "fc.weight", "run:other@best", "trunk",
                 "cat", "2.99", "+changed", "class Net", "00ff", "the first few", "best val/loss, in epoch 4", "0.025",
                 "train, each step", "validation"):  # fmt: skip
        assert said in page.text, said


@needs_browser
def test_nothing_that_a_run_holds_runs_in_its_report(tmp_path):
    path = write_report(full(tmp_path, EVIL))
    page = opened(path)
    assert page.console == []
    assert 'data-drawn="4"' in page.dom
    assert "data-ran" not in page.dom
    assert page.dom.count("<script") == 3  # the figures, our script, plotly's, and none besides: the packed one is gone
    assert page.text.count("onerror") > 15


def test_a_report_names_no_address_and_forbids_to_fetch(tmp_path):
    made = run_page(full(tmp_path)).html()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', made)[1]
    assert policy.startswith("default-src &#x27;none&#x27;; script-src &#x27;sha256-")
    assert "unsafe" not in policy.replace("style-src &#x27;unsafe-inline&#x27;", "")
    assert set(re.findall(r'(?:src|href)="(\w+:|#|//)', made)) == {"#", "data:"}
    assert not re.search(r"<(link|iframe|object|embed|form|base)\b", made)
    assert 1_000_000 < len(made) < 2_500_000


def test_a_page_without_charts_is_small():
    page = Page("t")
    page.section("a", "b")
    page.section("nothing")
    assert len(page.html()) < 15_000
    assert page.html().count("<h2>") == 1


@needs_browser
def test_a_report_is_light_or_dark_as_the_reader_likes(tmp_path):
    path = write_report(full(tmp_path))
    light, dark = screenshot(path, tmp_path / "l.png"), screenshot(path, tmp_path / "d.png", dark=True)
    assert (min(light.getpixel((3, 400))), max(dark.getpixel((3, 400)))) == (0xF7, 0x1B)
    drawn = {light.getpixel((x, y)) for x in range(0, 1200, 2) for y in range(0, 1400, 2)}
    assert (0x2F, 0x6F, 0xDB) in drawn  # the line of training


@needs_browser
def test_a_browser_that_cannot_unpack_shows_the_values_instead(tmp_path):
    run = full(tmp_path)
    made = run_page(run).html()
    path = tmp_path / "broken.html"
    path.write_text(made.replace('id="plotly">', 'id="plotly">AAAA'))
    page = opened(path)
    assert "data-drawn" not in page.dom
    assert 'data-trouble="' in page.dom
    assert re.search(r'<p id="trouble" class="note">The charts need scripts', page.dom) or re.search(
        r'id="trouble"[^>]*class="note"', page.dom
    )
    assert len(re.findall(r"<details open(?:=\"\")?><summary>values", page.dom)) == 3


@pytest.mark.parametrize("state", ["running", "failed", "interrupted"])
def test_a_run_without_results_has_a_report(tmp_path, state):
    made = run_page(
        make_run(tmp_path, state=state, loss=None, epoch=None, step=None, seconds=None, reason="why")
    ).html()
    assert f'class="badge {"killed" if state == "none" else state}"' in made
    assert re.findall(r"<h2>(.*?)</h2>", made) == ["Summary", "Config"]


def test_damaged_files_are_left_out_and_what_is_no_run_is_refused(tmp_path):
    run = full(tmp_path)
    for name in (
        "environment.json",
        "reports/groups.json",
        "predictions.json",
        "data.json",
        "attempts/002.json",
        "origins.json",
        "manifest.json",
    ):
        (run / name).write_text('{"half": [')
    (run / "metrics.csv").write_bytes(b"epoch,step,val/loss\n0,1,\xff\n\x00")
    (run / "config.yaml").write_text("a: [")
    made = run_page(run).html()
    assert "a: [" in made
    assert re.findall(r"<h2>(.*?)</h2>", made)[:3] == ["Summary", "Attempts", "Model"]
    (tmp_path / "none").mkdir()
    with pytest.raises(RunError, match="is not a run folder"):
        write_report(tmp_path / "none")
    with pytest.raises(RunError, match="cannot write"):
        write_report(run, tmp_path / "exp" / "2026-01-02_03-04-05_ab12cd34" / "config.yaml" / "x.html")


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        ([], []),
        ({"samples": []}, []),
        ({"samples": [{"image": "javascript:alert(1)", "target": 1}]}, ["target: <span>1</span>"]),
        ({"samples": [{"image": "data:text/html;base64,AAAA"}]}, []),
        ({"samples": [{"text": "a b", "prediction": "c", "right": True}, "no sample"]}, ["a b", "prediction"]),
    ],
)
def test_predictions_show_pictures_that_are_png_and_nothing_else(tmp_path, found, shown):
    run = make_run(tmp_path)
    (run / "predictions.json").write_text(json.dumps(found))
    made = run_page(run).html()
    assert ("Predictions</h2>" in made) == bool(isinstance(found, dict) and found["samples"])
    assert all(each in made for each in shown)
    assert not any(word in made for word in ("javascript:alert", "data:text/html"))


def test_markup_escapes_all_but_markup():
    assert (
        tag("a", "<b>", tag("i", "x"), None, 3, href='"&', hidden=True, open=False)
        == '<a href="&quot;&amp;" hidden>&lt;b&gt;<i>x</i>3</a>'
    )
    assert tag("img", src="x") == '<img src="x">'
    assert text("a\x00\x1b[1m\u202e\u2003é\n") == "a\ufffd\ufffd[1m\ufffd\u2003é\n"
    assert isinstance(join(["<"]), Markup)
    assert join(["<"]) == "&lt;"
    assert label("<b>&lt;") == "&lt;b&gt;&amp;lt;"


def test_tables_are_cut_and_say_so():
    made = table(["a"], [[index] for index in range(MOST_ROWS + 5)])
    assert made.count("<tr>") == MOST_ROWS + 1
    assert "and 5 more" in made
    assert "deep" not in value({"a": {"b": [{"c": {"d": {"e": {"f": "x"}}}}]}})


def test_a_line_has_gaps_where_there_is_no_number():
    assert line("a", [1, 2, 3], [1.0, float("nan"), float("-inf")], colour="#000")["y"] == [1.0, None, None]


def test_figures_cannot_end_their_element():
    page = Page("t")
    page.section("c", page.charts([Chart("x", [{"name": "</script><script>"}])]))
    figures = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page.html())[1]
    assert json.loads(figures)[0]["data"][0]["name"] == "</script><script>"


def test_plotly_is_packed_once():
    assert page_module._plotly() is page_module._plotly()
