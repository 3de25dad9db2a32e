import textwrap

import pytest
import torch

from builder import registry
from builder.config.origin import Origins
from builder.data.facts import Dataset
from builder.data.load import load
from builder.errors import ConfigError, Origin

DIGITS = {"type": "SklearnDataset", "name": "digits", "batch_size": 64}


def origins_of(*paths):
    origins = Origins({("data",): Origin("data.yaml", 1)})
    for line, path in enumerate(paths, start=2):
        origins.set(path, Origin("data.yaml", line))
    return origins


def message(section, *paths):
    with pytest.raises(ConfigError) as caught:
        load(section, 0, origins_of(*paths))
    return str(caught.value)


def lines(text):
    return textwrap.dedent(text).strip("\n")


@pytest.fixture
def register(monkeypatch):
    """Registers data sets for one test."""
    registry.datasets.names()
    monkeypatch.setattr(registry.datasets, "_entries", dict(registry.datasets._entries))
    return registry.datasets.register


def test_a_section_gives_data_with_loaders():
    data = load({**DIGITS, "eval_batch_size": 100, "split": {"train": 0.5, "val": 0.5}}, 3, Origins())
    assert set(data.splits) == {"train", "val"} and data.facts.values["num_test"] == 0
    train, val = data.loader("train"), data.loader("val")
    assert (train.batch_size, train.shuffle, train.seed) == (64, True, 3)
    assert (val.batch_size, val.shuffle) == (100, False)
    assert next(iter(train))["x"].shape == (64, 1, 8, 8)


def test_the_section_may_say_a_seed_of_its_own_for_the_split():
    first, second = (load({**DIGITS, "seed": 1}, seed, Origins()) for seed in (5, 6))
    assert torch.equal(first.splits["test"]["x"], second.splits["test"]["x"])
    assert not torch.equal(
        load(DIGITS, 5, Origins()).splits["test"]["x"], load(DIGITS, 6, Origins()).splits["test"]["x"]
    )


def test_all_faults_of_a_section_are_told_at_once():
    text = message(
        {"type": "SklearnDataset", "nam": "digits", "batch_size": 0, "shuffle": "yes"},
        ("data", "nam"), ("data", "batch_size"), ("data", "shuffle"),
    )  # fmt: skip
    assert text == lines("""
        data.yaml:3: data.batch_size: batch_size has no usable value
          found:    0
          expected: a whole number from 1
        data.yaml:4: data.shuffle: shuffle has no usable value
          found:    'yes'
          expected: true or false
        data.yaml:2: data.nam: dataset SklearnDataset has no argument 'nam'
          expected: name, split, standardise, standardise_target, classes, fold, num_folds, seed
          did you mean 'name'?
        data.yaml:1: data: dataset SklearnDataset needs the argument 'name'
          expected: 'digits', 'breast_cancer', 'wine', 'iris' or 'diabetes'
        """)


def test_an_unknown_data_set_is_told_with_the_nearest():
    text = message({"type": "SklernDataset", "batch_size": 1}, ("data", "type"))
    assert text == lines("""
        data.yaml:2: data.type: unknown dataset 'SklernDataset'
          did you mean 'SklearnDataset'?
        """)


def test_a_split_that_can_not_be_made_is_told_at_its_line():
    text = message({**DIGITS, "split": {"train": 0.5, "val": 0.6}}, ("data", "split"))
    assert text == lines("""
        data.yaml:2: data.split: the split can't be made
          found:    {'train': 0.5, 'val': 0.6}
          expected: fractions of train, val and test that add up to 1, e.g. {train: 0.7, val: 0.15, test: 0.15}
        """)


def test_a_missing_file_is_told(register):
    @register
    def Mine(path: str) -> Dataset:
        with open(path) as file:
            return file.read()

    text = message({"type": "Mine", "path": "no/such.csv", "batch_size": 1})
    assert text == "data.yaml:1: data.path: the data can't be read: No such file or directory: no/such.csv"


def test_a_batch_that_can_not_be_filled_is_told():
    text = message({**DIGITS, "batch_size": 5000, "drop_last": True}, ("data", "batch_size"))
    assert text == lines("""
        data.yaml:2: data.batch_size: no train batch is full
          found:    5000
          expected: at most 1258, the number of train samples, or drop_last: false
        """)


def test_workers_and_samples_on_the_device_exclude_each_other():
    assert message({**DIGITS, "device": True, "num_workers": 2}, ("data", "num_workers")) == lines("""
        data.yaml:2: data.num_workers: samples that lie on the device are made by no other process
          found:    2
          expected: 0 or null, or device: false
        """)


def test_a_split_without_samples_is_left_out(register):
    register("Mine", lambda: Dataset({"train": {"x": torch.ones(4)}, "val": {"x": torch.ones(0)}}, {}))
    data = load({"type": "Mine", "batch_size": 2}, 0, Origins())
    assert set(data.splits) == {"train"} and data.facts.values["num_val"] == 0


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ({"x": 1}, "returned dict, not a builder.data.facts.Dataset"),
        (Dataset({"train": {}}, {}), "returned no train samples"),
        (
            Dataset({"train": {"x": torch.ones(2)}, "vali": {"x": torch.ones(2)}}, {}),
            "returned the split 'vali'; there are train, val, test",
        ),
        (
            Dataset({"train": {"x": torch.ones(2), "y": torch.ones(3)}}, {}),
            "returned train tensors of different lengths: x 2, y 3",
        ),
        (
            Dataset({"train": {"x": torch.ones(2)}, "val": {"y": torch.ones(2)}}, {}),
            "returned tensors ['y'] for val and ['x'] for train",
        ),
    ],
)
def test_a_data_set_of_ones_own_that_returns_something_else_is_told(register, returned, expected):
    register("Mine", lambda: returned)
    assert (
        message({"type": "Mine", "batch_size": 1}, ("data", "type"))
        == f"data.yaml:2: data.type: dataset 'Mine' {expected}"
    )


def test_lightning_gets_a_loader_per_split_and_none_for_a_missing_one():
    from builder.data.module import DataModule

    module = DataModule(load({**DIGITS, "split": {"train": 0.9, "test": 0.1}}, 0, Origins()))
    assert len(module.train_dataloader()) == 26
    assert module.val_dataloader() == []
    assert sum(len(batch["target"]) for batch in module.test_dataloader()) == 179
