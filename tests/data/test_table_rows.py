"""Rows that come one by one are encoded as a table that is read whole."""

import csv
import json

import numpy as np
import pytest
import torch

from builder.data.facts import Refusal
from builder.data.table import apply_table, table
from builder.data.table_rows import RowEncoder

polars = pytest.importorskip("polars")


def write(path, rng, count=120):
    towns, days = ["Oslo", "Rome", "Bonn"], ["2024-01-31", "1969-12-01", "2001-09-09"]
    frame = polars.DataFrame({
        "area": [None if rng.random() < 0.1 else round(float(rng.normal(100, 30)), 3) for _ in range(count)],
        "rooms": rng.integers(1, 6, count).tolist(),
        "day": [days[rng.integers(3)] for _ in range(count)],
        "lift": [["true", "false"][rng.integers(2)] for _ in range(count)],
        "town": [None if rng.random() < 0.1 else towns[rng.integers(3)] for _ in range(count)],
        "code": rng.integers(1, 4, count).tolist(),
        "price": rng.normal(0, 1, count).tolist(),
    })  # fmt: skip
    frame.write_csv(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("rows"), np.random.default_rng(0)
    return write(folder / "train.csv", rng), write(folder / "new.csv", rng)


@pytest.mark.parametrize(
    "options", [{}, {"missing": "flag"}, {"encode": "onehot"}, {"standardise": False, "missing": "zero"}]
)
def test_rows_of_texts_and_of_values_are_as_the_file_read_whole(files, options):
    state = table(str(files[0]), "price", columns={"code": "category"}, seed=0, **options).state
    state = json.loads(json.dumps(state))
    whole, encoder = apply_table(state, str(files[1])), RowEncoder(state)
    texts = list(csv.DictReader(files[1].read_text().splitlines()))
    values = polars.read_csv(files[1], try_parse_dates=True).to_dicts()
    for rows in (texts, values):
        encoded = encoder.encode(rows)
        assert not encoded.bad and encoded.good == list(range(len(rows)))
        for name in ("x", "categories"):
            assert torch.equal(encoded.tensors[name], whole[name])
    assert not encoder.unseen()


def test_bad_rows_are_told_of_one_by_one_and_the_others_stay_in_order(files):
    state = table(str(files[0]), "price", missing="drop", seed=0).state
    encoder, good = (
        RowEncoder(state),
        {"area": "1", "rooms": "2", "day": "2020-01-01", "lift": "true", "town": "Paris", "code": 1},
    )
    bad = [
        {**good, "area": "1_0"},
        {**good, "rooms": "inf"},
        {**good, "area": ""},
        {key: value for key, value in good.items() if key != "town"},
    ]
    found = encoder.encode([good, *bad, {**good, "rooms": 3}])
    assert found.good == [0, 5] and found.tensors["x"].shape == (2, 5)
    assert found.bad == {
        1: "the column 'area' holds '1_0', which is no number", 2: "the column 'rooms' isn't finite",
        3: "the column 'area' lacks a value, and nothing stands for it", 4: "it has no 'town'",
    }  # fmt: skip
    assert encoder.unseen() == {"town": ["Paris"]}


def test_columns_that_are_missing_are_refused_together_with_near_names(files):
    with pytest.raises(Refusal) as told:
        RowEncoder(table(str(files[0]), "price", seed=0).state).check(["aera", "rooms", "day", "lift", "code"])
    assert [(str(error), error.nearest) for error in told.value.errors] == [
        ("there is no column 'area'", ("aera",)), ("there is no column 'town'", ()),
    ]  # fmt: skip


def test_a_target_that_was_not_scaled_is_left_as_it_is(files):
    state = table(str(files[0]), "price", standardise_target=False, seed=0).state
    assert (state["target"]["mean"], state["target"]["std"]) == (0.0, 1.0)
    prices = polars.read_csv(files[1])["price"].to_numpy().astype(np.float32)
    assert apply_table(state, str(files[1]))["target"].tolist() == prices.tolist()
