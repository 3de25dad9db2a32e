import torch
from hypothesis import given
from hypothesis import strategies as st

from builder.data.loader import TensorLoader


def tensors(count):
    return {"x": torch.arange(count * 3.0).view(count, 3), "target": torch.arange(count)}


def targets(loader):
    return [batch["target"].tolist() for batch in loader]


@given(st.integers(1, 50), st.integers(1, 12), st.booleans())
def test_every_sample_comes_once_in_an_epoch(count, batch_size, shuffle):
    loader = TensorLoader(tensors(count), batch_size, shuffle=shuffle)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert sorted(i for batch in batches for i in batch["target"].tolist()) == list(range(count))
    assert all(torch.equal(batch["x"][:, 0], batch["target"] * 3.0) for batch in batches)


def test_drop_last_leaves_out_the_batch_that_is_not_full():
    loader = TensorLoader(tensors(10), 4, drop_last=True)
    assert targets(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]] and len(loader) == 2


def test_the_order_is_a_pure_function_of_seed_and_epoch():
    def order(seed, epoch):
        loader = TensorLoader(tensors(40), 8, seed=seed, shuffle=True)
        loader.set_epoch(epoch)
        return targets(loader)

    torch.manual_seed(1)
    first = order(7, 3)
    torch.manual_seed(2)
    assert order(7, 3) == first
    assert order(7, 4) != first and order(8, 3) != first


def test_the_order_of_a_seed_and_epoch_stays_what_it_is():
    loader = TensorLoader(tensors(8), 8, seed=1, shuffle=True)
    loader.set_epoch(2)
    assert targets(loader) == [[4, 5, 6, 1, 2, 3, 0, 7]]


def test_an_epoch_can_be_entered_at_any_batch():
    loader = TensorLoader(tensors(40), 8, seed=7, shuffle=True)
    loader.set_epoch(2)
    whole = targets(loader)
    for batch in range(len(loader) + 1):
        loader.set_position(2, batch)
        loader.set_epoch(2)  # Lightning sets the epoch again before it begins; the position stays
        assert targets(loader) == whole[batch:]
        assert targets(loader) == whole
    loader.set_position(2, 3)
    loader.set_epoch(3)
    assert len(targets(loader)) == len(whole)


def test_without_shuffle_every_epoch_has_the_order_of_the_tensors():
    loader = TensorLoader(tensors(10), 4)
    loader.set_epoch(5)
    assert targets(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_lightning_finds_set_epoch():
    from lightning_fabric.utilities.data import _set_sampler_epoch

    loader = TensorLoader(tensors(10), 4, shuffle=True)
    _set_sampler_epoch(loader, 6)
    assert loader.epoch == 6
