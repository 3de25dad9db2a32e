"""Batches that other processes make are those that this one would make."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from builder.data.loader import TensorLoader, WorkerLoader
from builder.data.sources import ItemSource
from builder.errors import RunError


class Drawn(Dataset):
    """Samples that draw from all three generators."""

    def __len__(self):
        return 22

    def __getitem__(self, index):
        return {"target": index, "x": torch.rand(2), "numpy": np.random.rand(), "python": random.random()}


class Broken(Drawn):
    def __getitem__(self, index):
        if index == 13:
            raise ValueError("no such\npicture")
        return super().__getitem__(index)


class Uneven(Drawn):
    def __getitem__(self, index):
        return {"x": torch.zeros(index % 2 + 1)}


def loaders(items=None, **options):
    source = ItemSource(items or Drawn())
    options = {"seed": 5, "shuffle": True, **options}
    return TensorLoader(source, 4, **options), WorkerLoader(source, 4, num_workers=2, **options)


def epoch(loader, number):
    loader.set_epoch(number)
    return [{name: tensor.tolist() for name, tensor in batch.items()} for batch in loader]


@pytest.fixture(scope="module")
def both():
    return loaders()


def test_no_workers_and_two_persistent_ones_give_the_same_bits_in_the_same_order(both):
    here, there = both
    for number in range(2):
        batches = epoch(here, number)
        assert epoch(there, number) == batches
        assert sorted(target for batch in batches for target in batch["target"]) == list(range(22))
    assert epoch(here, 0) != epoch(here, 1)


def test_workers_enter_an_epoch_at_any_batch(both):
    here, there = both
    whole = epoch(here, 1)
    for loader in (here, there):
        loader.set_position(1, 3)
        assert epoch(loader, 1) == whole[3:]


def test_an_epoch_that_is_left_early_changes_nothing_for_the_next(both):
    here, there = both
    for _ in there:
        break
    assert epoch(there, 2) == epoch(here, 2)


def test_making_samples_draws_nothing_from_the_generators_of_training(both):
    for loader in both:
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        expected = torch.rand(1), np.random.rand(), random.random()
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        epoch(loader, 0)
        assert (torch.rand(1), np.random.rand(), random.random()) == expected


def test_tensors_in_memory_come_from_workers_too_if_that_is_asked_for():
    tensors = {"x": torch.arange(10.0), "target": torch.arange(10)}
    plain = TensorLoader(tensors, 4, shuffle=True)
    workers = WorkerLoader(tensors, 4, num_workers=1, shuffle=True)
    assert epoch(plain, 3) == epoch(workers, 3)


@pytest.mark.parametrize("which", [0, 1])
def test_a_sample_that_can_not_be_made_is_named(which):
    with pytest.raises(RunError) as caught:
        list(loaders(Broken())[which])
    assert str(caught.value) == "sample 13 of the data can't be made: ValueError: no such picture"


def test_samples_of_different_shapes_are_told():
    with pytest.raises(RunError, match="the samples of a batch aren't alike: RuntimeError: stack expects"):
        list(loaders(Uneven())[0])


def test_samples_are_pairs_or_mappings_of_numbers_and_arrays():
    pairs = [(np.ones(3), 1), ([0.5, 0.5, 0.5], 0)]
    batch = ItemSource(pairs).take(slice(0, 2))
    assert batch["x"].dtype == torch.float32 and batch["x"].shape == (2, 3)
    assert torch.equal(batch["target"], torch.tensor([1, 0]))
    with pytest.raises(RunError, match="a sample is a int, neither a mapping nor a pair of x and target"):
        ItemSource([1, 2])
    with pytest.raises(RunError, match="str holds no numbers"):
        ItemSource([{"x": "text"}])
