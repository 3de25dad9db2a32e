"""Data sets that a user registers: tensors, map-style data sets of PyTorch, lists."""

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from builder import registry
from builder.config.origin import Origins
from builder.data.facts import Dataset as OurDataset
from builder.data.load import load
from builder.data.loader import WorkerLoader
from builder.errors import ConfigError, Origin


@pytest.fixture
def register(monkeypatch):
    registry.datasets.names()
    monkeypatch.setattr(registry.datasets, "_entries", dict(registry.datasets._entries))
    return registry.datasets.register


class Squares(Dataset):
    """Numbers and their squares, `count` of them."""

    classes = ("even", "odd")

    def __init__(self, count: int = 40):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"x": torch.tensor([index, index**2], dtype=torch.float32), "target": index % 2}


def loaded(name, **section):
    return load({"type": name, "batch_size": 10, **section}, 0, Origins())


def message(name, **section):
    with pytest.raises(ConfigError) as caught:
        load({"type": name, "batch_size": 10, **section}, 0, Origins({("data",): Origin("data.yaml", 1)}))
    return str(caught.value)


def indices(data, split):
    return [int(x) for batch in data.loader(split) for x in batch["x"][:, 0]]


def test_a_map_style_data_set_is_split_by_the_seed_and_batched(register):
    register(Squares)
    data = loaded("Squares", count=60, split={"train": 0.5, "val": 0.5}, num_workers=0)
    train, val = indices(data, "train"), indices(data, "val")
    assert sorted(train + val) == list(range(60)) and val == sorted(val) and train != sorted(train)
    assert data.facts.tensors["x"].shape == (2,) and data.facts.tensors["target"].dtype == "int64"
    assert data.facts.values["num_classes"] == 2 and data.facts.values["class_names"] == ["even", "odd"]


def test_its_samples_are_made_by_workers_unless_they_are_to_be_kept(register):
    register(Squares)
    assert isinstance(loaded("Squares").loader("train"), WorkerLoader)
    kept = loaded("Squares", in_memory=True)
    assert not isinstance(kept.loader("train"), WorkerLoader)
    assert indices(kept, "train") == indices(loaded("Squares", num_workers=0), "train")


def test_folds_work_for_it_too(register):
    register(Squares)
    vals = [indices(loaded("Squares", fold=fold, num_folds=4, num_workers=0), "val") for fold in range(4)]
    test = indices(loaded("Squares", num_workers=0), "test")
    assert sorted(sum(vals, test)) == list(range(40))


def test_a_data_set_for_each_split(register):
    register("Both", lambda: {"train": Squares(20), "test": Squares(10)})
    data = loaded("Both", num_workers=0)
    assert set(data.splits) == {"train", "test"} and indices(data, "test") == list(range(10))


def test_pairs_are_x_and_target(register):
    register("Pairs", lambda: TensorDataset(torch.arange(20.0)[:, None], torch.arange(20)))
    data = loaded("Pairs", num_workers=0)
    assert set(data.facts.tensors) == {"x", "target"} and sorted(indices(data, "train"))[0] == 0


def test_facts_of_its_own(register):
    class Told(Squares):
        facts = {"num_outputs": 1, "scale": 3.5}

    register("Told", Told)
    assert loaded("Told", num_workers=0).facts.values["scale"] == 3.5


def test_a_fold_for_a_data_set_that_comes_split_is_refused(register):
    tensors = {"train": {"x": torch.ones(4)}}
    register("Split", lambda: OurDataset(tensors, {}))
    assert message("Split", fold=0) == (
        "data.yaml:1: data.fold: dataset 'Split' divides its samples itself and takes no 'fold'"
    )


def test_a_sample_that_fails_is_told(register):
    class Broken(Squares):
        def __getitem__(self, index):
            raise KeyError("nothing here")

    register("Broken", Broken)
    assert message("Broken") == (
        "data.yaml:1: data: the data can't be read: sample 0 of the data can't be made: KeyError: 'nothing here'"
    )


def test_a_stream_is_refused(register):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    register("Stream", Stream)
    text = message("Stream")
    assert text.startswith("data.yaml:1: data.type: dataset 'Stream' returned a stream (Stream)")
    assert "a place in it can't be found again" in text


def test_an_empty_data_set_is_refused(register):
    register("Empty", lambda: Squares(0))
    assert "the train split is empty: 0 samples are too few" in message("Empty")
