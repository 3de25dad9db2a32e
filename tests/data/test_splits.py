import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.data.facts import ArgumentError, Refusal
from builder.data.splits import split_by, split_indices, split_ranges

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


@settings(deadline=None)
@given(st.integers(12, 200), st.integers(0, 5), st.integers(2, 6), st.booleans(), st.booleans())
def test_over_the_folds_each_sample_that_is_not_test_is_in_val_once(count, seed, num_folds, stratified, grouped):
    draw = np.random.default_rng(seed)
    classes = draw.integers(0, 2, count) if stratified else None
    groups = draw.integers(0, count, count) if grouped else None
    fractions = {"train": 0.6, "val": 0.2, "test": 0.2}
    try:
        folds = [
            split_indices(count, fractions, seed, classes, groups=groups, fold=fold, num_folds=num_folds)
            for fold in range(num_folds)
        ]
    except ArgumentError:
        return  # too few groups for the folds
    tests = [fold["test"].tolist() for fold in folds]
    assert all(test == tests[0] for test in tests)
    if not grouped:
        assert tests[0] == split_indices(count, fractions, seed, classes)["test"].tolist()
    for fold in folds:
        assert np.array_equal(np.sort(np.concatenate(list(fold.values()))), np.arange(count))
    vals = np.concatenate([fold["val"] for fold in folds])
    assert np.array_equal(np.sort(vals), np.setdiff1d(np.arange(count), tests[0]))
    if not grouped:
        sizes = [len(fold["val"]) for fold in folds]
        assert max(sizes) - min(sizes) <= 1


def test_folds_are_stratified():
    classes = np.repeat([0, 1], [90, 30])
    for fold in range(3):
        val = split_indices(120, {"train": 0.9, "val": 0.1}, 0, classes, fold=fold, num_folds=3)["val"]
        assert np.bincount(classes[val]).tolist() == [30, 10]


@given(st.integers(20, 300), st.integers(0, 10), st.integers(10, 40))
def test_no_group_lies_in_two_splits(count, seed, num_groups):
    groups = np.random.default_rng(seed).integers(0, num_groups, count)
    try:
        split = split_indices(count, FRACTIONS, seed, groups=groups)
    except ArgumentError:
        return  # too few groups for three splits
    of_split = [set(groups[indices]) for indices in split.values()]
    assert sum(map(len, of_split)) == len(set.union(*of_split)) == len(set(groups))
    assert np.array_equal(np.sort(np.concatenate(list(split.values()))), np.arange(count))


def test_groups_meet_the_fractions_as_nearly_as_they_can():
    split = split_indices(1000, FRACTIONS, 3, groups=np.arange(1000) // 5)
    assert {name: len(indices) for name, indices in split.items()} == {"train": 700, "val": 150, "test": 150}


@pytest.mark.parametrize(
    ("fold", "num_folds", "told"),
    [
        (5, 5, ["there is no such fold"]), (0, None, ["folds need a number of them"]),
        (None, 3, ["there is no such fold"]), (-1, 1, ["folds need a number of them", "there is no such fold"]),
    ],
)  # fmt: skip
def test_folds_that_there_are_not_are_refused(fold, num_folds, told):
    with pytest.raises(Refusal) as caught:
        split_indices(100, FRACTIONS, 0, fold=fold, num_folds=num_folds)
    assert [str(error) for error in caught.value.errors] == told


def test_a_column_says_the_split():
    split = split_by(["train", "test", "train"], "part")
    assert {name: indices.tolist() for name, indices in split.items()} == {"train": [0, 2], "test": [1]}
    with pytest.raises(ArgumentError, match="leaves the train split empty"):
        split_by(["val"], "part")


def test_another_name_for_a_split_is_told_with_the_right_one():
    with pytest.raises(ArgumentError) as caught:
        split_indices(100, {"train": 0.8, "validation": 0.2}, 0)
    assert caught.value.nearest == ("val",)
