"""A head in a bank against the same head trained alone by torch's own optimizer and autograd."""

import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twostage.heads.bank import HeadBank, Trial, _shares
from twostage.heads.data import HeadData
from twostage.heads.deep_stacks import DeepStacks
from twostage.heads.sweep import RATES
from twostage.heads.team import Team
from twostage.metrics import balanced_weights
from twostage.models.head import build_head
from twostage.runs.shuffle import epoch_order

D, C = 24, 5


def make_data(n_train=700, n_val=100, hidden=D, classes=C, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    n = n_train + n_val
    vectors = torch.randn(n, hidden, generator=generator)
    labels = (vectors @ torch.randn(hidden, classes, generator=generator)).argmax(1)
    rows = torch.arange(n)
    return SimpleNamespace(vectors=vectors.to(dtype), labels=labels, train=rows[:n_train], val=rows[n_train:])


def train_alone(trial, data, epochs=1, class_weight=None, activation="relu", classes=C, losses=None):
    head = build_head(trial.head, data.vectors.shape[1], classes, activation, trial.seed)
    kind = torch.optim.AdamW if trial.weight_decay else torch.optim.Adam
    optimizer = kind(head.parameters(), lr=trial.lr, weight_decay=trial.weight_decay)
    loss_of = torch.nn.CrossEntropyLoss(weight=class_weight)
    for epoch in range(1, epochs + 1):
        for rows in data.train[epoch_order(len(data.train), 0, epoch)].split(trial.batch_size):
            optimizer.zero_grad()
            loss = loss_of(head(data.vectors[rows].float()), data.labels[rows])
            loss.backward()
            optimizer.step()
            if losses is not None:
                losses.append(loss.item())
    return head


def distance(a, b) -> float:
    return max(float((p - q).detach().abs().max()) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def grid(head="1C", rates=RATES, decays=(0.0,), seeds=(0, 1), batch_size=64):
    combinations = [(lr, wd, seed) for lr in rates for wd in decays for seed in seeds]
    return [Trial(i, head, lr, seed, wd, batch_size) for i, (lr, wd, seed) in enumerate(combinations)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("weighted", [False, True])
def test_linear_heads_of_all_rates_end_where_torch_ends(weighted, dtype):
    data = make_data(dtype=dtype)
    weight = torch.from_numpy(balanced_weights(data.labels[data.train].numpy(), C)) if weighted else None
    trials = grid(decays=(0.0, 0.1))
    bank = HeadBank(trials, D, C)
    bank.fit(data, 1, 0, weight)
    for h, trial in enumerate(trials):
        assert distance(bank.head(h, best=False), train_alone(trial, data, 1, weight)) < 1e-5, trial


@pytest.mark.parametrize("head, activation", [("3C", "relu"), ("3C", "gelu"), ("3C-big", "tanh"), ("3C", "none")])
def test_deep_heads_end_where_torch_ends(head, activation):
    """To 2e-5 up to a rate of 1e-3; beyond, rounding grows along the way in torch as well."""
    data = make_data()
    trials = grid(head, rates=(1e-5, 1e-4, 1e-3), decays=(0.0, 0.1), seeds=(1,))
    bank = HeadBank(trials, D, C, activation)
    bank.fit(data, 1, 0)
    for h, trial in enumerate(trials):
        assert distance(bank.head(h, best=False), train_alone(trial, data, activation=activation)) < 2e-5, trial


@settings(max_examples=15, deadline=None)
@given(
    head=st.sampled_from(["1C", "3C"]), n=st.integers(1, 90), batch_size=st.integers(1, 70), hidden=st.integers(1, 12),
    classes=st.integers(2, 7), heads=st.integers(1, 9),
)  # fmt: skip
def test_any_shape_and_batch_size_ends_where_torch_ends(head, n, batch_size, hidden, classes, heads):
    data = make_data(n, 5, hidden, classes)
    trials = grid(head, rates=(1e-3,), seeds=range(heads), batch_size=batch_size)
    bank = HeadBank(trials, hidden, classes)
    bank.fit(data, 1, 0)
    for h in {0, heads - 1}:
        alone = train_alone(trials[h], data, classes=classes)
        assert distance(bank.head(h, best=False), alone) < 1e-4


@pytest.mark.parametrize("head", ["1C", "3C"])
def test_loss_and_accuracy_are_those_of_the_head_alone(head):
    """The loss of an epoch: each batch's mean as it was before its step, weighted by the documents in it."""
    data = make_data(n_train=150)  # the last batch is short
    trials = grid(head, rates=(1e-2,), seeds=(3,))
    HeadBank(trials, D, C).fit(data, 1, 0)
    losses: list[float] = []
    alone = train_alone(trials[0], data, losses=losses)
    with torch.no_grad():
        right = (alone(data.vectors[data.val]).argmax(1) == data.labels[data.val]).float().mean()
    mean = (64 * losses[0] + 64 * losses[1] + 22 * losses[2]) / 150
    assert trials[0].epochs[0]["train_loss"] == pytest.approx(mean, rel=1e-5)
    assert trials[0].epochs[0]["val_accuracy"] == pytest.approx(float(right))


def test_the_same_bank_gives_the_same_bits_twice():
    data = make_data()
    ends = []
    for _ in range(2):
        trials = grid()
        bank = HeadBank(trials, D, C)
        bank.fit(data, 2, 0)
        ends.append(
            (
                [bank.head(h) for h in range(len(trials))],
                [[{**e, "seconds": 0, "eval_seconds": 0} for e in t.epochs] for t in trials],
            )
        )
    assert all(distance(a, b) == 0 for a, b in zip(ends[0][0], ends[1][0], strict=True))
    assert ends[0][1] == ends[1][1]


@pytest.mark.parametrize("head", ["1C", "3C"])
def test_a_diverging_head_is_stopped_and_leaves_the_others_bit_identical(head):
    """A decay of 1000 at a rate of 10 multiplies weights by -9999 a step: numbers overflow within the first epoch."""
    data = make_data()
    ends = []
    for wild in (1.0, 1000.0):
        trials = grid(head, rates=(1e-3,), seeds=range(9), decays=(0.01,))
        trials[4].lr, trials[4].weight_decay = (1e-3, 0.01) if wild == 1.0 else (10.0, wild)
        bank = HeadBank(trials, D, C)
        bank.fit(data, 3, 0)
        ends.append((trials, [bank.head(h) for h in range(9)]))
    assert ends[1][0][4].diverged_epoch == 1 and ends[1][0][4].epochs == [] and ends[1][0][4].best is None
    others = [h for h in range(9) if h != 4]
    assert all(distance(ends[0][1][h], ends[1][1][h]) == 0 for h in others)
    assert all(len(ends[1][0][h].epochs) == 3 and ends[1][0][h].diverged_epoch is None for h in others)


def test_a_head_that_diverges_late_keeps_its_best_epoch():
    """A vector of 3e38 overflows the logits, but only in the epoch in which it is first seen."""
    data = make_data(n_train=128)
    trials = grid(rates=(1e-2,), seeds=(0,))
    bank = HeadBank(trials, D, C)
    bank.fit(data, 1, 0)
    kept = bank.head(0)
    data.vectors[data.train[0]] = 3e38
    bank.fit(data, 1, 0)
    assert trials[0].diverged_epoch == 1 and len(trials[0].epochs) == 1
    assert distance(bank.head(0), kept) == 0
    assert not any(p.isnan().any() for p in bank.head(0, best=False).parameters())


def test_the_kept_head_is_that_of_the_best_epoch_the_earliest_on_a_tie():
    data = make_data(n_train=200, n_val=20)
    trials = grid(rates=(1e-1,), seeds=(0, 1, 2))
    bank = HeadBank(trials, D, C)
    bank.fit(data, 12, 0)
    for h, trial in enumerate(trials):
        reached = [e["val_accuracy"] for e in trial.epochs]
        assert trial.best_epoch == reached.index(max(reached)) + 1
        again = train_alone(trial, data, trial.best_epoch)
        with torch.no_grad():
            right = (bank.head(h)(data.vectors[data.val]).argmax(1) == data.labels[data.val]).float().mean()
        assert float(right) == pytest.approx(max(reached))
        assert distance(bank.head(h), again) < 1e-3


def test_threads_change_nothing_but_rounding():
    data, ends = make_data(), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            trials = grid(rates=(1e-3,), seeds=range(13))
            bank = HeadBank(trials, D, C)
            assert len(bank.shards) == bank.workers == threads and len(bank.place) == 13
            bank.fit(data, 1, 0)
            assert torch.get_num_threads() == threads
            ends.append([bank.head(h, best=False) for h in range(13)])
    finally:
        torch.set_num_threads(before)
    assert max(distance(a, b) for a, b in zip(*ends, strict=True)) < 1e-5


def test_balanced_weights_are_documents_over_classes_times_count():
    ours = balanced_weights(np.array([0] * 7 + [1] * 2 + [3] * 5), 4)
    assert ours.tolist() == pytest.approx([14 / (4 * 7), 14 / (4 * 2), 0, 14 / (4 * 5)])  # none of class 2: no weight


def test_an_error_in_one_thread_stops_the_bank():
    data = make_data()
    bank = HeadBank(grid(), D, C)
    data.labels[3] = C + 7
    with pytest.raises((RuntimeError, IndexError)):
        bank.fit(data, 1, 0)


def scaled_data():
    """Dimensions of very different size and offset, one that never varies; and the same data standardised."""
    data = make_data()
    data.vectors = data.vectors * torch.logspace(-2, 2, D) + torch.linspace(-30, 30, D)
    data.vectors[:, 3] = 7.0
    holder = HeadData(None, data.vectors, data.labels, data.train, data.val, data.val, ["x"] * C)
    mean, inverse = holder.scaling()
    return data, holder, SimpleNamespace(**vars(data) | {"vectors": (data.vectors - mean) * inverse})


@pytest.mark.parametrize("head", ["1C", "3C"])
def test_a_head_of_standardised_vectors_takes_raw_ones_once_it_is_kept(head):
    data, holder, standard = scaled_data()
    train = standard.vectors[data.train]
    assert train.mean(0)[torch.arange(D) != 3].abs().max() < 1e-4 and (train.std(0)[4:] - 1).abs().max() < 1e-2
    assert bool((standard.vectors[:, 3] == 0).all())
    trials, alone = grid(head, rates=(1e-3, 1e-2), seeds=(0,)), grid(head, rates=(1e-3, 1e-2), seeds=(0,))
    bank = HeadBank(trials, D, C, scaling=holder.scaling())
    bank.fit(data, 2, 0)
    HeadBank(alone, D, C).fit(standard, 2, 0)
    for h, (trial, same) in enumerate(zip(trials, alone, strict=True)):
        assert [e["val_accuracy"] for e in trial.epochs] == [e["val_accuracy"] for e in same.epochs]
        judge = train_alone(trial, standard, 2)
        with torch.no_grad():
            raw, wanted = bank.head(h, best=False)(data.vectors[data.val]), judge(standard.vectors[data.val])
        assert (raw - wanted).abs().max() < 2e-3 * wanted.abs().max()


def test_a_deep_head_has_the_same_bits_alone_by_any_number_of_threads_and_in_a_bank():
    data, before, ends = make_data(n_train=200, hidden=768), torch.get_num_threads(), []
    try:
        for threads, seeds in ((1, 1), (2, 1), (3, 1), (2, 2)):
            torch.set_num_threads(threads)
            bank = HeadBank(grid("3C", rates=(1e-3,), seeds=range(seeds)), 768, C)
            assert bank.team == (threads if seeds == 1 else 1)
            bank.fit(data, 1, 0)
            ends.append([p.detach() for p in bank.head(0, best=False).parameters()])
    finally:
        torch.set_num_threads(before)
    for other in ends[1:]:
        assert all(torch.equal(p, q) for p, q in zip(ends[0], other, strict=True))


def test_an_error_of_any_member_of_a_team_is_raised_and_no_part_is_done_twice():
    done = []
    with Team(3) as team:
        team.each(done.append, list(range(50)))
        assert sorted(done) == list(range(50))
        for bad in range(6):

            def work(part, bad=bad):
                time.sleep(0.005)
                if part == bad:
                    raise ValueError(f"part {part}")

            with pytest.raises(ValueError, match=f"part {bad}"):
                team.each(work, list(range(6)))
        team.each(done.append, [50, 51])
    assert sorted(done) == list(range(52))


@pytest.mark.parametrize("head, activation", [("3C", "relu"), ("3C", "gelu"), ("3C-big", "tanh"), ("3C", "none")])
def test_deep_heads_in_one_stack_as_on_a_gpu_end_where_torch_ends(head, activation, monkeypatch):
    data, trials = make_data(), grid(head, rates=(1e-5, 1e-4, 1e-3), decays=(0.0, 0.1), seeds=(1, 2))
    bank = HeadBank(trials, D, C, activation)
    (shard, *_), lr, decay = bank.shards, [trial.lr for trial in trials], [trial.weight_decay for trial in trials]
    heads = [build_head(trial.head, D, C, activation, trial.seed) for trial in trials]
    shard.trials, shard.stack = trials, DeepStacks(heads, lr, decay, torch.device("cpu"), activation)
    bank.shards, bank.place = [shard], [(shard, h) for h in range(len(trials))]
    bank.fit(data, 1, 0)
    for h, trial in enumerate(trials):
        assert distance(bank.head(h, best=False), train_alone(trial, data, activation=activation)) < 2e-5, trial


def test_a_documents_share_of_its_batch_takes_as_many_operations_for_a_thousand_batches_as_for_one():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        n = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.n += 1
            return func(*args, **(kwargs or {}))

    counts = []
    for n in (70, 64_010):
        with Count() as count:
            share = _shares(torch.zeros(n, dtype=torch.int64), 64, None)
        counts.append(count.n)
        alone = torch.cat([torch.ones(len(part)) / len(part) for part in torch.arange(n).split(64)])
        assert torch.equal(share, alone)
    assert counts[0] == counts[1]


def test_a_process_that_ends_right_after_a_team_has_worked_ends_well():
    code = (
        "import torch\n"
        "from twostage.heads.bank import HeadBank, Trial\n"
        "torch.set_num_threads(2)\n"
        "bank = HeadBank([Trial(0, '3C', 1e-4, 0)], 512, 5)\n"
        "assert bank.team == 2\n"
        "bank.train_epoch(torch.rand(640, 512), torch.arange(640) % 5, torch.arange(640), 64)\n"
    )
    for _ in range(6):  # about every third was aborted: a helper had not quite ended
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
