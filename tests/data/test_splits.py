import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.data.facts import ArgumentError
from builder.data.splits import split_indices, split_ranges

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


@given(st.integers(20, 400), st.integers(0, 10), st.integers(1, 6))
def test_each_index_is_in_exactly_one_split(count, seed, classes):
    labels = np.random.default_rng(seed).integers(0, classes, count)
    for given_classes in (None, labels):
        split = split_indices(count, {"train": 0.6, "val": 0.2, "test": 0.2}, seed, given_classes)
        assert np.array_equal(np.sort(np.concatenate(list(split.values()))), np.arange(count))


def test_each_class_is_divided_by_the_same_fractions():
    classes = np.repeat([0, 1, 2], [100, 40, 1000])
    split = split_indices(1140, FRACTIONS, 0, classes)
    counts = {name: np.bincount(classes[indices]).tolist() for name, indices in split.items()}
    assert counts == {"train": [70, 28, 700], "val": [15, 6, 150], "test": [15, 6, 150]}


def test_the_split_is_a_pure_function_of_the_seed():
    first, second, other = (split_indices(100, FRACTIONS, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["test"], other["test"])


def test_the_split_of_a_seed_stays_what_it_is():
    assert split_indices(20, {"train": 0.5, "test": 0.5}, 42)["test"].tolist() == [1, 2, 3, 7, 11, 12, 14, 15, 16, 18]


def test_a_split_that_is_not_asked_for_is_left_out():
    assert set(split_indices(10, {"train": 0.8, "test": 0.2}, 0)) == {"train", "test"}
    assert split_ranges(10, {"train": 1.0}) == {"train": range(0, 10)}


def test_ranges_follow_each_other_without_gap():
    assert split_ranges(103, FRACTIONS) == {"train": range(0, 72), "val": range(72, 88), "test": range(88, 103)}


@pytest.mark.parametrize(
    "fractions",
    [
        {"train": 0.7},
        {"train": 0.7, "valid": 0.3},
        {"train": 1.2, "val": -0.2},
        {"val": 1.0},
        {"train": "most", "val": 0.1},
    ],
)
def test_fractions_that_are_none_are_refused(fractions):
    with pytest.raises(ArgumentError, match="the split can't be made") as caught:
        split_indices(100, fractions, 0)
    assert caught.value.argument == "split" and caught.value.found == fractions


def test_an_empty_split_is_refused():
    with pytest.raises(ArgumentError, match="the test split is empty: 3 samples are too few"):
        split_indices(3, FRACTIONS, 0)
