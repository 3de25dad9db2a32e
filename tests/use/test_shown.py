"""Samples with predictions for a run's report: what is shown of pictures, rows and texts, and that it stays small."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from builder.use.shown import COUNT, SIDE, png
from command_line import run

SHORT = ("trainer=cpu", "trainer.max_epochs=1", "callbacks.progress=null")


def predictions(folder, *words):
    ran = run(folder, "train", "--quiet", *SHORT, *words)
    assert ran.code == 0 and "note:" not in ran.err, ran.err
    return ran.run, json.loads((ran.run / "predictions.json").read_text())


def test_pictures_are_shown_with_the_names_of_their_classes(tmp_path):
    folder, found = predictions(tmp_path, "model=cnn", "model.args.channels=4", "model.args.depth=1")
    assert found["note"] == f"{COUNT} of 269 samples of the test set" and len(found["samples"]) == COUNT
    for sample in found["samples"]:
        picture = Image.open(io.BytesIO(base64.b64decode(sample["image"].partition(",")[2])))
        assert picture.size == (8, 8) and picture.getextrema() == (0, 255)
        assert sample["right"] == (sample["target"] == sample["prediction"]) and sample["target"] in "0123456789"
    assert "data:image/png;base64," in (folder / "report.html").read_text()


def test_rows_are_shown_with_their_columns_and_numbers_in_their_own_unit(tmp_path):
    _, found = predictions(tmp_path, "experiment=diabetes_mlp", "trainer.max_epochs=1")
    sample = found["samples"][0]
    assert {"age", "bmi", "target", "prediction"} <= set(sample) and len(sample) <= 10
    targets = [each["target"] for each in found["samples"]]
    assert all(value == round(value) for value in targets) and 25 <= min(targets) < max(targets) <= 346


def test_without_a_report_none_are_written(tmp_path):
    ran = run(tmp_path, "train", "--quiet", "model=mlp", *SHORT, "report=false")
    assert ran.code == 0 and not (ran.run / "predictions.json").exists()


@pytest.mark.parametrize(("shape", "size", "mode"), [((1, 9, 5), (5, 9), "L"), ((3, 300, 200), (64, SIDE), "RGB")])
def test_a_picture_is_a_png_that_others_read(shape, size, mode):
    picture = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 7 - 3
    read = Image.open(io.BytesIO(png(picture)))
    assert (read.size, read.mode) == (size, mode)
    if mode == "L":
        expected = ((picture - picture.min()) / (picture.max() - picture.min()) * 255).round()[0]
        assert np.array_equal(np.asarray(read), expected.numpy())
