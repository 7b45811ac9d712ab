"""Global batches follow from seed and epoch; micro-batches only cut them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twostage.finetuning.batches import MicroBatches, global_batches

LENGTHS = np.random.default_rng(0).integers(3, 512, 1000)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 700), batch_size=st.integers(1, 80), seed=st.integers(0, 99), epoch=st.integers(1, 9))
def test_an_epoch_has_each_document_once_and_only_its_last_batch_is_short(n, batch_size, seed, epoch):
    batches = global_batches(LENGTHS[:n], batch_size, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(batches) == -(-n // batch_size)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 500), batch_size=st.integers(1, 80), micro=st.integers(1, 100))
def test_micro_batches_cut_the_same_global_batches_and_line_up_with_the_steps(n, batch_size, micro):
    sampler = MicroBatches(LENGTHS[:n], batch_size, micro, seed=3)
    sampler.epoch = 2
    parts = list(sampler)
    assert len(parts) == len(sampler)
    assert max(map(len, parts)) <= micro
    joined = [sum(parts[i : i + sampler.per_step], []) for i in range(0, len(parts), sampler.per_step)]
    assert joined == [batch.tolist() for batch in global_batches(LENGTHS[:n], batch_size, 3, 2)]
    assert len(joined) == sampler.steps


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 500), batch_size=st.integers(1, 80), micro=st.integers(1, 100), ranks=st.integers(2, 5))
def test_ranks_share_the_same_global_batches_in_as_many_turns_each(n, batch_size, micro, ranks):
    samplers = [MicroBatches(LENGTHS[:n], batch_size, micro, seed=3, rank=rank, ranks=ranks) for rank in range(ranks)]
    turns = list(zip(*samplers, strict=True))
    assert all(len(turns) == len(sampler) for sampler in samplers)
    per_step = samplers[0].per_step
    wanted = [sorted(batch.tolist()) for batch in global_batches(LENGTHS[:n], batch_size, 3, 1)]
    parts = [sum(turns[i : i + per_step], ()) for i in range(0, len(turns), per_step)]
    assert [sorted(row for part in step for row in part if row >= 0) for step in parts] == wanted
    assert all(len(part) == 1 for step in parts for part in step if part[0] < 0)


def test_the_same_seed_and_epoch_give_the_same_batches_and_others_give_others():
    def drawn(seed, epoch):
        return [batch.tolist() for batch in global_batches(LENGTHS, 64, seed, epoch)]

    assert drawn(0, 1) == drawn(0, 1)
    assert drawn(0, 1) != drawn(0, 2)
    assert drawn(0, 1) != drawn(1, 1)


def test_batches_are_grouped_by_length_and_come_in_no_order_of_length():
    batches = global_batches(LENGTHS, 32, 0, 1)
    padded = sum(LENGTHS[batch].max() * len(batch) for batch in batches)
    assert padded < 1.15 * LENGTHS.sum()
    longest = [LENGTHS[batch].max() for batch in batches]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


@pytest.mark.parametrize("n", [65, 1000])
def test_the_left_over_documents_are_of_any_length(n):
    shares = [LENGTHS[global_batches(LENGTHS[:n], 64, seed, 1)[-1]].mean() for seed in range(200)]
    assert np.mean(shares) == pytest.approx(LENGTHS[:n].mean(), rel=0.15)
