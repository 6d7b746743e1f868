# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_mixssl.data.sampler import EpochBatchSampler
from monai_mixssl.data.shares import rank_batches
from monai_mixssl.errors import ConfigError


@given(size=st.integers(1, 60), batch=st.integers(1, 9), seed=st.integers(0, 2**32 - 1), epoch=st.integers(1, 50))
def test_an_epoch_visits_every_sample_at_most_once_in_full_batches(size, batch, seed, epoch):
    sampler = EpochBatchSampler(size, batch, seed=seed)
    sampler.set_position(epoch)
    batches = list(sampler)
    visited = [i for b in batches for i in b]
    assert len(batches) == len(sampler)
    assert len(set(visited)) == len(visited)
    assert set(visited) <= set(range(size))
    assert len(visited) == (size // batch * batch if size >= batch else size)


@given(size=st.integers(8, 60), batch=st.integers(1, 4), first=st.integers(0, 30))
def test_starting_in_the_middle_yields_the_rest_of_the_same_epoch(size, batch, first):
    sampler = EpochBatchSampler(size, batch, seed=7)
    sampler.set_position(3)
    whole = list(sampler)
    sampler.set_position(3, first)
    assert list(sampler) == whole[first:]
    assert len(sampler) == len(whole)


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed, epoch):
        sampler = EpochBatchSampler(100, 10, seed=seed)
        sampler.set_position(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


@given(size=st.integers(12, 60), batch=st.integers(1, 4), world=st.integers(1, 3))
def test_the_ranks_batches_of_a_step_make_up_the_batch_of_one_process(size, batch, world):
    ranks = [list(EpochBatchSampler(size, batch, rank=r, world_size=world)) for r in range(world)]
    together = [[i for piece in pieces for i in piece] for pieces in zip(*ranks, strict=True)]
    assert together == list(EpochBatchSampler(size, batch * world))


def test_too_few_samples_for_the_processes_are_refused():
    with pytest.raises(ConfigError, match="7 training samples do not fill one batch of 4 in each of 2"):
        EpochBatchSampler(7, 4, world_size=2)
    with pytest.raises(ConfigError, match="at least one sample"):
        EpochBatchSampler(0, 4)


def test_a_batch_of_two_views_holds_each_target_twice_first_views_first():
    one = list(EpochBatchSampler(7, 3, seed=5))
    two = list(EpochBatchSampler(7, 3, seed=5, views=2))
    assert two == [batch + [7 + index for index in batch] for batch in one]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_batches_hold_every_view_of_every_target_once(world):
    batches = [batch for rank in range(world) for batch in rank_batches(13, 4, rank, world, views=2)]
    assert sorted(index for batch in batches for index in batch) == list(range(26))
    for batch in batches:
        half = len(batch) // 2
        assert half >= 2  # views are compared with those of other targets
        assert batch[half:] == [13 + index for index in batch[:half]]


def test_validation_batches_of_one_view_are_a_processs_share_in_order():
    assert rank_batches(7, 2, 1, 2) == [[1, 3], [5]]
