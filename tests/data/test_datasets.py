import numpy as np
import pytest
import sklearn.datasets
import torch
from sklearn.preprocessing import StandardScaler

from builder.data.datasets import sklearn_dataset
from builder.data.facts import ArgumentError, TensorFact, facts_of
from builder.data.text import topics, topics_text
from builder.registry import datasets


def test_data_sets_are_registered():
    assert {"SklearnDataset", "Topics"} <= set(datasets)


def test_digits_are_images_in_zero_to_one_with_their_facts():
    dataset = sklearn_dataset("digits", seed=0)
    facts = facts_of(dataset)
    x = torch.cat([split["x"] for split in dataset.splits.values()])
    assert x.shape == (1797, 1, 8, 8) and x.dtype == torch.float32 and float(x.min()) == 0 and float(x.max()) == 1
    assert facts.tensors == {"x": TensorFact((1, 8, 8), "float32"), "target": TensorFact((), "int64")}
    assert facts.values["num_classes"] == 10 and facts.values["num_features"] == 64
    assert facts.values["class_names"] == [str(digit) for digit in range(10)]
    assert sum(facts.values[f"num_{split}"] for split in ("train", "val", "test")) == 1797


def test_digits_hold_the_very_pixels_of_scikit_learn():
    dataset = sklearn_dataset("digits", seed=3)
    rows = np.concatenate([split["x"].flatten(1).numpy() * 16 for split in dataset.splits.values()])
    expected = sklearn.datasets.load_digits().data
    assert np.array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)].astype(np.float32))


@pytest.mark.parametrize(("name", "columns", "classes"), [("breast_cancer", 30, 2), ("wine", 13, 3), ("iris", 4, 3)])
def test_tables_are_standardised_by_the_train_split_alone(name, columns, classes):
    dataset = sklearn_dataset(name, seed=1)
    raw = sklearn_dataset(name, standardise=False, seed=1)
    scaler = StandardScaler().fit(raw.splits["train"]["x"].double().numpy())
    for split, tensors in dataset.splits.items():
        expected = scaler.transform(raw.splits[split]["x"].double().numpy())
        np.testing.assert_allclose(tensors["x"].numpy(), expected, atol=2e-4)
        assert torch.equal(tensors["target"], raw.splits[split]["target"])
    facts = facts_of(dataset)
    assert (facts.values["num_features"], facts.values["num_classes"]) == (columns, classes)
    assert facts.tensors["x"] == TensorFact((columns,), "float32")


def test_diabetes_is_a_regression_on_values_that_lead_back_to_their_unit():
    plain = sklearn_dataset("diabetes", seed=0)
    scaled = sklearn_dataset("diabetes", standardise_target=True, seed=0)
    target = scaled.splits["train"]["target"]
    assert target.dtype == torch.float32 and "num_classes" not in scaled.values
    assert abs(float(target.mean())) < 1e-5 and abs(float(target.std(correction=0)) - 1) < 1e-5
    back = scaled.splits["test"]["target"] * scaled.values["target_std"] + scaled.values["target_mean"]
    torch.testing.assert_close(back, plain.splits["test"]["target"])


def test_class_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    dataset = sklearn_dataset("breast_cancer", seed=0)
    target = dataset.splits["train"]["target"].numpy()
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=target)
    assert dataset.values["class_weights"] == pytest.approx(list(expected))


def test_same_seed_same_split_and_another_seed_another():
    first, second, other = (sklearn_dataset("wine", seed=seed).splits["val"]["x"] for seed in (5, 5, 6))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_a_class_target_is_not_standardised():
    with pytest.raises(ArgumentError, match="the target of 'wine' is a class, not a value"):
        sklearn_dataset("wine", standardise_target=True, seed=0)


def test_some_classes_can_be_kept_renumbered_in_the_order_in_which_they_are_named():
    dataset = sklearn_dataset("digits", split={"train": 1.0}, classes=[7, 2], seed=0)
    tensors, raw = dataset.splits["train"], sklearn.datasets.load_digits()
    for number, digit in enumerate([7, 2]):
        rows = (tensors["x"][tensors["target"] == number].flatten(1) * 16).numpy()
        assert np.array_equal(rows, raw.data[raw.target == digit].astype(np.float32))
    assert dataset.values["num_classes"] == 2 and dataset.values["class_names"] == ["7", "2"]
    assert len(dataset.values["class_weights"]) == 2


@pytest.mark.parametrize("classes", [[0], [0, 0], [0, 3], [-1, 0]])
def test_classes_that_can_not_be_kept_are_refused(classes):
    with pytest.raises(ArgumentError, match="these classes can't be kept") as caught:
        sklearn_dataset("wine", classes=classes, seed=0)
    assert caught.value.expected == "two or more different numbers from 0 to 2"


def test_a_value_has_no_classes_to_keep():
    with pytest.raises(ArgumentError, match="the target of 'diabetes' is a value, not a class"):
        sklearn_dataset("diabetes", classes=[0, 1], seed=0)


def test_topics_predicts_the_next_character_within_each_split():
    dataset = topics(length=64)
    characters = dataset.values["characters"]
    text = topics_text()
    for tensors in dataset.splits.values():
        ids, target = tensors["ids"], tensors["target"]
        assert ids.dtype == target.dtype == torch.int64 and ids.shape == target.shape and ids.shape[1] == 64
        assert torch.equal(ids[:, 1:], target[:, :-1])
    first = "".join(characters[i] for i in dataset.splits["train"]["ids"][0])
    assert first == text[:64]
    assert len(characters) == dataset.values["vocab_size"] == len(set(text))


def test_windows_of_different_splits_share_no_position():
    text, length, ends = topics_text(), 50, {}
    dataset = topics(length=length, split={"train": 0.5, "val": 0.3, "test": 0.2})
    start = 0
    for name, fraction in (("train", 0.5), ("val", 0.3), ("test", 0.2)):
        tensors = dataset.splits[name]
        decode = dataset.values["characters"]
        last = "".join(decode[i] for i in tensors["ids"][-1]) + decode[tensors["target"][-1, -1]]
        end = start + len(tensors["ids"]) * length + 1
        assert text[end - length - 1 : end] == last
        ends[name] = end
        start += round(fraction * len(text))
        assert end <= start


def test_overlapping_windows_are_views_of_one_tensor():
    dataset = topics(length=100, stride=1)
    ids = dataset.splits["train"]["ids"]
    assert ids.untyped_storage().nbytes() < len(topics_text()) * 8 + 1
    assert torch.equal(ids[1, :-1], ids[0, 1:])


@pytest.mark.parametrize(
    ("arguments", "argument"), [({"length": 10**7}, "length"), ({"length": 0}, "length"), ({"stride": 0}, "stride")]
)
def test_windows_that_do_not_fit_are_refused(arguments, argument):
    with pytest.raises(ArgumentError) as caught:
        topics(**arguments)
    assert caught.value.argument == argument
