import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.data.sampler import Sampler

SHAPES = {"count": st.integers(1, 70), "batch_size": st.integers(1, 9), "world_size": st.integers(1, 4)}


def ranks(count, batch_size, world_size, **options):
    return [Sampler(count, batch_size, rank=rank, world_size=world_size, **options) for rank in range(world_size)]


def rows(sampler):
    order = torch.arange(sampler.num_samples)
    return [order[ticket.rows].tolist() for ticket in sampler]


@settings(deadline=None)
@given(**SHAPES, shuffle=st.booleans())
def test_ranks_share_out_every_sample_and_say_how_many_come_twice(count, batch_size, world_size, shuffle):
    samplers = ranks(count, batch_size, world_size, shuffle=shuffle, seed=3)
    batches = [rows(sampler) for sampler in samplers]
    seen = sorted(row for of_rank in batches for batch in of_rank for row in batch)
    assert set(seen) == set(range(count)) and len(seen) == count + samplers[0].padding
    assert samplers[0].padding < world_size
    assert len({len(of_rank) for of_rank in batches}) == 1 and len(batches[0]) == len(samplers[0])
    for at in zip(*batches, strict=True):
        assert len({len(batch) for batch in at}) == 1


@settings(deadline=None)
@given(**SHAPES)
def test_without_even_batches_every_sample_comes_once_and_no_batch_is_empty(count, batch_size, world_size):
    samplers = ranks(count, batch_size, world_size, even=False)
    batches = [rows(sampler) for sampler in samplers]
    seen = sorted(row for of_rank in batches for batch in of_rank for row in batch)
    assert len({len(of_rank) for of_rank in batches}) == 1
    assert all(batch for of_rank in batches for batch in of_rank)
    if count >= world_size and batch_size > 1:
        assert seen == list(range(count)) and samplers[0].padding == 0


@settings(deadline=None)
@given(**SHAPES, epoch=st.integers(0, 5))
def test_together_the_ranks_take_what_one_process_with_the_larger_batch_takes(count, batch_size, world_size, epoch):
    alone = Sampler(count, batch_size * world_size, shuffle=True, seed=1)
    alone.set_epoch(epoch)
    samplers = ranks(count, batch_size, world_size, shuffle=True, seed=1)
    for sampler in samplers:
        sampler.set_epoch(epoch)
    together = [sum(parts, []) for parts in zip(*map(rows, samplers), strict=True)]
    whole = rows(alone)
    assert together[:-1] == whole[:-1] and together[-1][: len(whole[-1])] == whole[-1]


@settings(deadline=None)
@given(**SHAPES, shuffle=st.booleans(), even=st.booleans(), drop_last=st.booleans(), data=st.data())
def test_an_epoch_entered_at_a_batch_is_the_rest_of_the_whole(
    count, batch_size, world_size, shuffle, even, drop_last, data
):
    options = {"shuffle": shuffle, "even": even, "drop_last": drop_last, "world_size": world_size, "seed": 2}
    sampler = Sampler(count, batch_size, rank=data.draw(st.integers(0, world_size - 1)), **options)
    sampler.set_epoch(4)
    whole = rows(sampler)
    batch = data.draw(st.integers(0, len(whole)))
    sampler.set_position(4, batch)
    assert rows(sampler) == whole[batch:]
    assert rows(sampler) == whole


@settings(deadline=None)
@given(**SHAPES)
def test_with_drop_last_all_batches_are_full(count, batch_size, world_size):
    for sampler in ranks(count, batch_size, world_size, drop_last=True, shuffle=True):
        assert all(len(batch) == batch_size for batch in rows(sampler))
        assert len(sampler) == count // (batch_size * world_size) and sampler.padding == 0


def test_the_order_of_a_seed_and_epoch_is_the_same_for_every_rank():
    orders = []
    for sampler in ranks(20, 4, 2, shuffle=True, seed=9):
        sampler.set_epoch(3)
        orders.append(sampler.order().tolist())
    assert orders[0] == orders[1] and sorted(orders[0]) == list(range(20))
