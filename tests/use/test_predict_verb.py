"""`builder predict` as a user types it: formats, streams, bad rows, and what is refused."""

import csv
import io
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import builder
from builder.use import records as records_module
from command_line import ROOT, run

polars = pytest.importorskip("polars")


@pytest.fixture
def predict(runs, monkeypatch):
    def predict(name, *words, stdin=None):
        if stdin is not None:
            fake = SimpleNamespace(stdin=SimpleNamespace(buffer=io.BytesIO(stdin)), maxsize=sys.maxsize)
            monkeypatch.setattr(records_module, "sys", fake)
        return run(runs.folder, "predict", str(runs[name]), *words)

    return predict


@pytest.fixture(scope="module")
def expected(runs):
    return [row["prediction"] for row in builder.load(runs["fruit"]).predict(str(runs.folder / "fruit.csv"))]


def test_every_format_holds_the_same_in_the_order_of_the_input(runs, predict, expected):
    for suffix in ("csv", "tsv", "jsonl", "parquet", "npz"):
        ran = predict("fruit", "-i", "fruit.csv", "-o", f"out.{suffix}", "--proba", "--batch-size", "7")
        assert (ran.code, ran.out) == (0, "") and ran.err == f"150 predicted to out.{suffix}\n"
    folder = runs.folder
    rows = list(csv.DictReader((folder / "out.csv").read_text().splitlines()))
    assert list(rows[0]) == ["line", "prediction", "p_apple", "p_banana", "p_cherry"]
    assert [row["prediction"] for row in rows] == expected and [int(row["line"]) for row in rows] == list(range(2, 152))
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    table = polars.read_parquet(folder / "out.parquet")
    arrays = np.load(folder / "out.npz")
    tabbed = list(csv.DictReader((folder / "out.tsv").read_text().splitlines(), delimiter="\t"))
    for name in ("prediction", "p_apple"):
        for other in ([line[name] for line in lines], table[name].to_list(), arrays[name].tolist()):
            assert [str(value) for value in other] == [row[name] for row in rows] == [row[name] for row in tabbed]


def test_the_input_may_be_any_format_and_standard_input(runs, predict, expected):
    frame = polars.read_csv(runs.folder / "fruit.csv").drop("fruit")
    frame.write_parquet(runs.folder / "in.parquet")
    frame.write_ndjson(runs.folder / "in.jsonl")
    ran = predict("fruit", "-i", "in.parquet", "-q")
    assert [line.split(",")[1] for line in ran.out.splitlines()[1:]] == expected and ran.out.startswith("row,")
    ran = predict("fruit", "-i", "in.jsonl", "-o", "-", "--output-format", "jsonl", "-q")
    assert [json.loads(line)["prediction"] for line in ran.out.splitlines()] == expected
    for words, text in (((), "fruit.csv"), (("--input-format", "jsonl"), "in.jsonl")):
        ran = predict("fruit", "-i", "-", "-q", *words, stdin=(runs.folder / text).read_bytes())
        assert [line.split(",")[1] for line in ran.out.splitlines()[1:]] == expected


BAD = b"weight,red,shape,fruit\n100,1,round,a\nheavy,1,round,b\n7\n\n90,\xff,round,c\n80,2,square,d\n"


def test_bad_rows_are_named_counted_and_left_out(runs, predict):
    (runs.folder / "bad.csv").write_bytes(BAD)
    ran = predict("fruit", "-i", "bad.csv", "--keep", "fruit")
    assert ran.code == 0 and [line.split(",")[:2] for line in ran.out.splitlines()] == [
        ["line", "fruit"],
        ["2", "a"],
        ["7", "d"],
    ]
    assert ran.err.splitlines() == [
        "line 3: the column 'weight' holds 'heavy', which is no number", "line 4: it has 1 field, the header 4",
        "line 6: it isn't UTF-8 text",
        "note: the model wasn't trained on 1 of the texts in the column 'shape': 'square'", "2 predicted, 3 left out",
    ]  # fmt: skip
    (runs.folder / "kept.csv").write_text("as it was")
    ran = predict("fruit", "-i", "bad.csv", "-o", "kept.csv", "--strict")
    assert (
        ran.code == 1
        and ran.err == "error: line 3 can't be used: the column 'weight' holds 'heavy', which is no number\n"
    )
    assert (runs.folder / "kept.csv").read_text() == "as it was" and not list(runs.folder.glob(".kept*"))
    ran = predict("fruit", "-i", "-", "--input-format", "jsonl", stdin=b'{"weight": 1}\n[1]\n{"weight": }\n')
    assert ran.code == 2 and "there is no column 'red'" in ran.err
    first = b'{"weight": 1, "red": null, "shape": "x"}\n'
    ran = predict("fruit", "-i", "-", "--input-format", "jsonl", stdin=first + b'{"weight": 1}\n[1]\n{"weight": }\n')
    assert ran.code == 0 and "1 predicted, 3 left out" in ran.err and "line 3: it is a JSON array, no object" in ran.err
    ran = predict("fruit", "-i", "-", stdin=b"weight,red,shape\nno,1,a\n")
    assert ran.code == 1 and "0 predicted, 1 left out" in ran.err


def test_columns_are_refused_by_name_and_others_are_noted(runs, predict):
    (runs.folder / "odd.csv").write_text("wieght,red,shap\n1,2,long\n")
    ran = predict("fruit", "-i", "odd.csv", "-o", "out_odd.csv")
    assert ran.code == 2 and not (runs.folder / "out_odd.csv").exists()
    assert "there is no column 'weight'; did you mean 'wieght'?" in ran.err and "did you mean 'shap'?" in ran.err
    (runs.folder / "more.csv").write_text("weight,red,shape,id\n1,2,long,7\n")
    ran = predict("fruit", "-i", "more.csv")
    assert ran.code == 0 and "note: the model takes no column 'id'" in ran.err
    assert predict("fruit", "-i", "more.csv", "--strict").code == 1
    assert "has no column 'idd' to keep; did you mean 'id'?" in predict("fruit", "-i", "more.csv", "--keep", "idd").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-i", "friut.csv"), "there is no file friut.csv; did you mean 'fruit.csv'"),
        (("-i", "fruit.csv", "-o", "out.xlsx"), "the format of out.xlsx isn't known by its name"),
        (("-i", "fruit.csv", "--output-format", "json"), "no such format; there are csv, tsv, jsonl, parquet, npz; did you mean jsonl?"),
        (("-i", "fruit.csv", "--checkpoint", "bset"), "did you mean @best"),
        (("-i", "fruit.csv", "--weights", "emma"), "unknown weights 'emma'; there are tested, ema, raw"),
        (("-i", "fruit.csv", "--device", "cuda:77"), "no device cuda:77 here"),
        (("-i", "pics"), "there are no .npy files here"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(predict, words, said):
    ran = predict("fruit", *words)
    assert ran.code == 2 and said in ran.err and "Traceback" not in ran.err


def test_pictures_are_named_by_their_files(runs, predict):
    shutil.copytree(runs.folder / "pics", runs.folder / "shown")  # the run itself may still have to be trained on those
    (runs.folder / "shown/light/zz.png").write_bytes(b"no picture")
    ran = predict("pics", "-i", "shown", "--batch-size", "5")
    assert ran.code == 0 and ran.err == "file light/zz.png: it is no picture\n24 predicted, 1 left out\n"
    files = [line.split(",")[0] for line in ran.out.splitlines()]
    assert files[0] == "file" and files[1:] == sorted(files[1:]) and "dark/00.png" in files


def test_arrays_that_are_not_finite_are_bad_rows(runs, predict):
    arrays = dict(np.load(runs.folder / "arrays.npz"))
    arrays["x"][3, 1] = np.nan
    np.savez(runs.folder / "holes.npz", **arrays)
    ran = predict("arrays", "-i", "holes.npz", "-o", "answers.npz", "--batch-size", "16")
    assert ran.code == 0 and ran.err.startswith("row 4: it isn't finite\n")
    answers = np.load(runs.folder / "answers.npz")
    assert answers["row"].tolist() == [row for row in range(1, 61) if row != 4]
    np.save(runs.folder / "x.npy", np.load(runs.folder / "arrays.npz")["x"])
    ran = predict("arrays", "-i", "x.npy", "-q")
    assert [line.split(",")[1] for line in ran.out.splitlines()[1:]][4:] == answers["prediction"].tolist()[3:]


def test_predictions_that_are_arrays_go_into_files_that_hold_them(runs, predict):
    np.savez(runs.folder / "images.npz", x=np.zeros((2, 8, 8)))
    ran = predict("rebuilt", "-i", "images.npz", "-o", "rebuilt.npz", "-q")
    assert ran.code == 0 and np.load(runs.folder / "rebuilt.npz")["prediction"].shape == (2, 1, 8, 8)
    ran = predict("rebuilt", "-i", "images.npz")
    assert ran.code == 2 and "is an array [1, 8, 8] for each sample: write to .npz, .jsonl or .parquet" in ran.err


def test_text_and_tags(runs, predict):
    (runs.folder / "prompts.txt").write_text("import\nwhat is \N{SNOWMAN}\n")
    ran = predict("topics", "-i", "prompts.txt", "--tokens", "5", "--keep", "text", "--output-format", "jsonl")
    (line,) = map(json.loads, ran.out.splitlines())
    assert (
        line["text"] == "import"
        and len(line["prediction"]) == 5
        and "line 2: the model wasn't trained on this character" in ran.err
    )
    drawn = [predict("topics", "-i", "prompts.txt", "--seed", seed, "-q").out for seed in ("1", "1", "2")]
    assert drawn[0] == drawn[1] != drawn[2]
    (runs.folder / "sentences.txt").write_text("Anna sees Paris\n")
    assert len(predict("tags", "-i", "sentences.txt").out.splitlines()[1].split(",")[1].split()) == 3


def test_a_reader_that_goes_away_is_no_error(runs):
    code = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); from builder.cli.main import main; sys.exit(main())"
    words = ["predict", str(runs["fruit"]), "-i", "fruit.csv", "--batch-size", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=runs.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    told = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=200) in (0, 1) and "Traceback" not in told and "Error" not in told
