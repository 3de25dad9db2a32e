import re
import xml.etree.ElementTree

import pytest
from PIL import Image

from browser import needs_browser, opened
from builder.errors import UsageError
from builder.report.comparison import comparison_page, write_comparison
from builder.runs.compare import compare
from command_line import run
from made_runs import make_run

TABLE = "epoch,step,train/loss,train/loss_step,val/loss,val/acc\n0,9,1.5,1,0.5,0.1\n1,19,1.25,1,0.4,0.2\n"


@pytest.fixture
def runs(tmp_path):
    outputs = tmp_path / "outputs"
    first = make_run(outputs, lr=0.1, csv=TABLE)
    return [first, make_run(outputs, run="2026-01-02_03-04-06_bb000000", lr=0.5, csv=TABLE.replace("0.4", "0.3"))]


@needs_browser
def test_the_page_overlays_the_curves_and_says_what_differs(tmp_path, runs):
    ran = run(tmp_path, "runs", "compare", "ab12cd34", "bb000000", "-o", "c.html")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "c.html"), ran.err
    page = opened(tmp_path / "c.html")
    assert page.console == []
    assert 'data-drawn="2"' in page.dom
    assert re.findall(r"<h2>(.*?)</h2>", page.dom) == ["Runs", "Curves", "Metrics", "Config"]
    for said in ("ab12cd34, validation", "bb000000, train", "optimizer.lr", "best val/loss", "0.3 (epoch 2)"):
        assert said in page.text, said


def test_pictures_are_pictures(tmp_path, runs):
    found = compare(runs)
    write_comparison(found, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**24)}
    assert {(0x2F, 0x6F, 0xDB), (0xE8, 0x71, 0x0A)} <= colours
    write_comparison(found, tmp_path / "c.svg")
    assert xml.etree.ElementTree.parse(tmp_path / "c.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_runs_without_curves_have_a_page_and_no_picture(tmp_path):
    found = compare([make_run(tmp_path), make_run(tmp_path, "other")])
    assert "The configs mean the same." in comparison_page(found).html()
    with pytest.raises(UsageError, match="there is nothing to draw"):
        write_comparison(found, tmp_path / "c.png")


def test_a_training_leaves_its_report_unless_it_is_told_not_to(tmp_path):
    words = ("model=mlp", "model.args.hidden=8", "trainer=cpu", "trainer.max_epochs=1")
    with_page, without = run(tmp_path, "train", *words), run(tmp_path, "train", *words, "report=false")
    assert (with_page.code, without.code) == (0, 0), with_page.err + without.err
    made = (with_page.run / "report.html").read_text()
    for said in (
        "Learning rates</h2>",
        "configs/train.yaml:",
        "override &#x27;model.args.hidden=8&#x27;",
        "(the model)",
        "finished",
    ):
        assert said in made, said
    assert not (without.run / "report.html").exists()
    ran = run(tmp_path, "runs", "report", without.run.name)
    assert (ran.code, ran.out) == (0, f"{without.run.relative_to(tmp_path)}/report.html\n"), ran.err
    assert (without.run / "report.html").is_file()
    assert (
        run(tmp_path, "runs", "compare", with_page.run.name, without.run.name, "--json").out.count('"config": {}') == 1
    )


def test_a_failed_training_leaves_a_report_and_a_report_that_fails_leaves_the_training(tmp_path, monkeypatch):
    words = ("model=mlp", "model.args.hidden=8", "trainer=cpu", "trainer.max_epochs=1")
    ran = run(tmp_path, "train", *words, "optimizer.lr=1e30", "+trainer.detect_anomaly=true")
    (made,) = (tmp_path / "outputs").glob("*/*/report.html")
    assert ran.code == 1
    assert 'class="badge failed"' in made.read_text()

    def broken(run):
        raise KeyError("oh\nno")

    monkeypatch.setattr("builder.run_files.write_report", broken)
    ran = run(tmp_path, "train", *words)
    assert ran.code == 0
    assert "note: no report.html was written: KeyError" in ran.err
