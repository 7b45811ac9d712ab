import csv

import numpy as np
import pytest

from tests.conftest import read_json
from tests.english import make_cache, sentences
from tests.heads.test_sweep import run_train_head
from twostage.cache.reader import open_cache


def make_views(folder, n=300):
    """Two caches of the same documents: vectors that tell the classes apart well (cls, 16 numbers), and badly (mean, 8)."""
    texts, label = (list(part) for part in zip(*sentences(n), strict=True))
    rng, one_hot = np.random.default_rng(0), np.eye(4)[label]
    good = np.concatenate([one_hot * 2, rng.normal(size=(n, 12))], 1) + rng.normal(size=(n, 16)) * 0.3
    bad = np.concatenate([one_hot * 0.5, rng.normal(size=(n, 4))], 1) + rng.normal(size=(n, 8))
    bad_first = [make_cache(folder / "mean.h5", texts, label, vectors=bad.astype(np.float32)),
                 make_cache(folder / "cls.h5", texts, label, vectors=good.astype(np.float32), pooling="cls")]  # fmt: skip
    return texts, label, bad_first


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    return make_views(tmp_path_factory.mktemp("cache"))


GRID = ("--sweep", "--lr", "1e-3", "1e-2", "1e-1", "--seeds", 2, "--epochs", 4)


def test_a_sweep_over_views_gives_each_the_whole_grid_and_chooses_on_val(views, tmp_path, capsys):
    _, _, (bad, good) = views
    status, out, err = run_train_head(capsys, bad, good, *GRID, "--runs-dir", tmp_path)
    assert status == 0
    record = read_json(tmp_path / "sweep" / "run.json")
    assert record["n_trials"] == 12 == len(record["trials"]) and [t["index"] for t in record["trials"]] == list(range(12))
    assert [t["view"] for t in record["trials"]] == [0] * 6 + [1] * 6
    assert record["view"] == 1 and [view["pooling"] for view in record["views"]] == ["mean", "cls"]
    assert record["views"][1]["val_accuracy"] > record["views"][0]["val_accuracy"] + 0.2
    assert record["fingerprint"] == open_cache(good).fingerprint and record["hidden_size"] == 16
    assert record["cache"]["path"] == str(good) and record["encoder"]["pooling"] == "cls"
    assert record["trials"][record["trial"]]["view"] == 1
    assert "12 heads were compared on val" in out and out.count("<- best") == 1 and "cls" in out.split("chosen on val")[1]
    assert read_json(tmp_path / "sweep" / "head" / "config.json")["fingerprint"] == record["fingerprint"]
    with open(tmp_path / "results.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 12 * 4


def test_a_view_trains_the_same_heads_as_a_sweep_of_its_own(views, tmp_path, capsys):
    _, _, (bad, good) = views
    run_train_head(capsys, bad, good, *GRID, "--runs-dir", tmp_path / "both")
    run_train_head(capsys, good, *GRID, "--runs-dir", tmp_path / "one")
    both, one = (tmp_path / name / "sweep" for name in ("both", "one"))
    assert (both / "head" / "head.safetensors").read_bytes() == (one / "head" / "head.safetensors").read_bytes()
    alone, mine = read_json(one / "run.json"), read_json(both / "run.json")
    assert alone["test_accuracy"] == mine["test_accuracy"]
    assert [t["epochs"][-1]["val_accuracy"] for t in alone["trials"]] == [
        t["epochs"][-1]["val_accuracy"] for t in mine["trials"] if t["view"] == 1
    ]


def test_what_the_vectors_know_is_asked_of_the_chosen_view(views, tmp_path, capsys):
    _, _, (bad, good) = views
    status, out, err = run_train_head(capsys, bad, good, *GRID, "--suspects", "--runs-dir", tmp_path)
    assert status == 0 and read_json(tmp_path / "sweep" / "run.json")["suspects"]["accuracy"] > 0.9


def test_caches_of_other_documents_labels_or_splits_are_refused(views, tmp_path, capsys):
    texts, label, (bad, _) = views
    vectors = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
    others = {
        "documents": make_cache(tmp_path / "a.h5", [*texts[:-1], "another"], label, vectors=vectors),
        "labels": make_cache(tmp_path / "b.h5", texts, [*label[:-1], (label[-1] + 1) % 4], vectors=vectors),
        "splits": make_cache(tmp_path / "c.h5", texts, label, np.arange(300) % 3, vectors),
    }
    for what, other in others.items():
        status, out, err = run_train_head(capsys, bad, other, *GRID, "--runs-dir", tmp_path / "runs")
        assert status == 2 and out == "" and f"differ in their {what}:" in err.splitlines()[-1]
    for caches, flags, part in (((bad, bad), GRID, "named twice"), ((bad, others["splits"]), ("--recipe", "1C3"), "--sweep")):
        status, out, err = run_train_head(capsys, *caches, *flags, "--runs-dir", tmp_path / "runs")
        assert status == 2 and out == "" and part in err.splitlines()[-1]
    assert not (tmp_path / "runs").exists()
