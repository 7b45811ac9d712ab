import csv
import re
from types import SimpleNamespace

import pytest
import torch

from tests.conftest import read_json
from tests.head_caches import make_cache
from twostage import cli, memory
from twostage.cache.reader import open_cache
from twostage.errors import BadInput
from twostage.heads import data as head_data
from twostage.heads.bank import HeadBank, Trial
from twostage.heads.sweep import RATES, Grid, Setting, settings_of, split_banks
from twostage.heads.sweep_table import wider
from twostage.models.head import load_head


def trial(index, lr, accuracies, head="1C", seed=0):
    epochs = [{"epoch": i, "train_loss": 1.0, "val_accuracy": a, "val_macro_f1": a} for i, a in enumerate(accuracies, 1)]
    best = accuracies.index(max(accuracies)) + 1 if accuracies else None
    return Trial(index, head, lr, seed, epochs=epochs, best_epoch=best)


def run_train_head(capsys, *args):
    """(status, standard output, standard error) of train_head.py, called in this process."""
    import train_head

    status = cli.run(train_head.main, [str(a) for a in args])
    return status, *capsys.readouterr()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache") / "news.h5")


def test_the_default_grid_is_13_rates_with_the_decades_exact():
    assert len(RATES) == 13 and RATES[::3] == (1e-5, 1e-4, 1e-3, 1e-2, 1e-1) and list(RATES) == sorted(RATES)
    trials = Grid().trials((0, 1, 2))
    assert len(trials) == 39 and [t.index for t in trials] == list(range(39))
    assert {t.head for t in trials} == {"1C"} and {t.lr for t in trials} == set(RATES)


def test_rates_that_print_alike_are_trials_of_their_own():
    trials = Grid(lrs=(1e-3, 1.0000001e-3)).trials((0,))
    assert len(settings_of(trials)) == 2 and trials[0].lr != trials[1].lr


def test_the_mean_over_seeds_chooses_the_rate_before_a_lucky_seed_does():
    lucky = Setting([trial(0, 1e-2, [0.9]), trial(1, 1e-2, [0.5])])
    steady = Setting([trial(2, 1e-3, [0.6, 0.79, 0.7]), trial(3, 1e-3, [0.81])])
    assert max([lucky, steady], key=lambda s: s.rank) is steady
    assert steady.best_trial.index == 3 and steady.epochs == "1-2"
    assert steady.deviation == pytest.approx(0.02 / 2**0.5)


def test_a_seed_that_diverges_counts_as_nothing_learned():
    half = Setting([trial(0, 10.0, []), trial(1, 10.0, [0.9])])
    assert half.accuracy == pytest.approx(0.45) and half.best_trial.index == 1
    assert Setting([trial(0, 10.0, [])]).best_trial is None and Setting([trial(0, 10.0, [])]).epochs == "diverged"


def test_a_best_rate_at_the_edge_of_the_grid_is_offered_the_next_decade():
    assert wider([1e-3, 1e-2, 1e-1], 1e-1) == [0.1, 0.215, 0.464, 1.0]
    assert wider([1e-3, 1e-2, 1e-1], 1e-3) == [1e-4, 2.15e-4, 4.64e-4, 1e-3]
    assert wider([1e-3, 1e-2, 1e-1], 1e-2) is None
    assert wider([1e-3], 1e-3) is None


def test_heads_beyond_memory_are_split_into_banks_with_seeds_together(monkeypatch):
    data = SimpleNamespace(hidden=32, classes=4, device=torch.device("cpu"))
    trials = Grid().trials((0, 1, 2))
    each = HeadBank.bytes_for("1C", 32, 4)
    monkeypatch.setattr(memory, "available_bytes", lambda device: 2 * each * 3 * 5)  # half of it: 5 settings of 3 seeds
    banks = split_banks(data, trials, "1C", 64)
    assert [len(b) for b in banks] == [15, 15, 9] and [t for b in banks for t in b] == trials
    monkeypatch.setattr(memory, "available_bytes", lambda device: each)
    with pytest.raises(BadInput, match="give fewer --seeds"):
        split_banks(data, trials, "1C", 64)


def test_a_sweep_leaves_one_run_with_all_trials_and_finds_the_published_rates_too_small(cache, tmp_path, capsys):
    status, out, err = run_train_head(capsys, cache, "--sweep", "--runs-dir", tmp_path / "runs")
    assert status == 0
    record = read_json(tmp_path / "runs" / "sweep" / "run.json")
    assert record["status"] == "complete" and record["recipe"] is None and len(record["trials"]) == 39
    assert [t["index"] for t in record["trials"]] == list(range(39))
    assert {t["head_lr"] for t in record["trials"]} == set(RATES)
    chosen = record["trials"][record["trial"]]
    assert all(record[k] == chosen[k] for k in ("head_lr", "seed", "epochs", "best_epoch", "weight_decay", "batch_size"))
    assert "test_accuracy" not in chosen
    slow = [max(e["val_accuracy"] for e in t["epochs"]) for t in record["trials"] if t["head_lr"] == 1e-5]
    assert max(slow) + 0.2 < record["epochs"][record["best_epoch"] - 1]["val_accuracy"]
    assert "published: 1C4" in out and "published: 1C3" in out and out.count("<- best") == 1
    assert re.search(r"rates from \S+ to 0.1 do equally well", out) and "at the edge of the grid" not in out
    assert f"run: {tmp_path / 'runs' / 'sweep'}" in out.splitlines()[-1]
    with open(tmp_path / "runs" / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 39 * 20 and sum(bool(r["test_accuracy"]) for r in rows) == 1
    with open(tmp_path / "runs" / "sweep" / "metrics.jsonl", encoding="utf-8") as file:
        assert len(file.readlines()) == 39 * 20


def test_a_sweep_over_heads_decays_and_batch_sizes_has_a_table_for_each(cache, tmp_path, capsys):
    status, out, err = run_train_head(
        capsys, cache, "--sweep", "--runs-dir", tmp_path, "--head", "1C", "3C", "--lr", "1e-3", "1e-2", "--seeds", 2,
        "--batch-size", 32, 64, "--weight-decay", 0, 0.1, "--epochs", 2,
    )  # fmt: skip
    assert status == 0
    record = read_json(tmp_path / "sweep" / "run.json")
    assert len(record["trials"]) == 2 * 2 * 2 * 2 * 2
    assert "4 banks" in err and "3C heads, 2 epochs" in err and "about" in err  # the estimate comes before
    for title in ("1C, batch 32, weight decay 0", "3C, batch 64, weight decay 0.1"):
        assert title in out
    assert "at the edge of the grid; extend it: python train_head.py" in out


def test_a_trial_of_a_sweep_is_the_head_that_the_same_settings_train_alone(cache, tmp_path, capsys):
    run_train_head(capsys, cache, "--sweep", "--lr", "1e-2", "1e-3", "--seeds", 1, "--epochs", 3, "--runs-dir", tmp_path)
    run_train_head(capsys, cache, "--lr", "1e-3", "--epochs", 3, "--runs-dir", tmp_path)
    swept = read_json(tmp_path / "sweep" / "run.json")["trials"][0]
    alone = read_json(tmp_path / "1C-lr0.001" / "run.json")
    assert [e["val_accuracy"] for e in swept["epochs"]] == [e["val_accuracy"] for e in alone["epochs"]]
    assert [e["train_loss"] for e in swept["epochs"]] == pytest.approx([e["train_loss"] for e in alone["epochs"]], rel=1e-5)


def test_all_heads_diverging_is_said_in_one_line(cache, tmp_path, capsys):
    status, out, err = run_train_head(
        capsys, cache, "--sweep", "--lr", "900", "--weight-decay", "1000", "--epochs", 2, "--runs-dir", tmp_path
    )
    assert status == 2 and out == "" and "every head of the sweep diverged" in err.splitlines()[-1]
    assert read_json(tmp_path / "sweep" / "run.json")["status"] == "failed"


def test_a_cache_larger_than_memory_is_refused_before_loading(cache, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10_000)
    with pytest.raises(BadInput, match="--per-class N"):
        head_data.load(open_cache(cache), "cpu")


def test_a_float32_cache_that_fits_only_as_float16_is_held_so_and_said(tmp_path, monkeypatch, capsys):
    cache = make_cache(tmp_path / "wide.h5", store="float32")
    monkeypatch.setattr(memory, "available_bytes", lambda device: 600 * 16 * 4)
    data = head_data.load(open_cache(cache), "cpu")
    assert data.vectors.dtype == torch.float16 and "held as float16" in capsys.readouterr().err


def test_a_sweep_spans_raw_and_standardised_vectors_and_the_chosen_head_takes_raw_ones(cache, tmp_path, capsys):
    status, out, err = run_train_head(
        capsys, cache, "--sweep", "--standardize", "--lr", "1e-4", "1e-3", "--seeds", 1, "--epochs", 3, "--runs-dir", tmp_path,
    )  # fmt: skip
    assert status == 0 and "weight decay 0\n" in out and "weight decay 0, standardized vectors\n" in out
    record = read_json(tmp_path / "sweep" / "run.json")
    assert [(t["head_lr"], t.get("standardize")) for t in record["trials"]] == [
        (1e-4, None),
        (1e-3, None),
        (1e-4, True),
        (1e-3, True),
    ]
    assert record["standardize"] is True and record["grid"]["standardize"] == [False, True]
    data = head_data.load(open_cache(cache), "cpu")
    head, _ = load_head(tmp_path / "sweep" / "head")
    with torch.no_grad():
        right = (head(data.vectors[data.val].float()).argmax(1) == data.labels[data.val]).float().mean()
    assert float(right) == pytest.approx(record["epochs"][record["best_epoch"] - 1]["val_accuracy"])
    with open(tmp_path / "results.csv", encoding="utf-8") as file:
        assert [r["standardize"] for r in csv.DictReader(file)] == [""] * 6 + ["True"] * 6
    run_train_head(capsys, cache, "--recipe", "1C3", "--standardize", "--epochs", 1, "--runs-dir", tmp_path)
    assert read_json(tmp_path / "1C3-standardized" / "run.json")["standardize"] is True
