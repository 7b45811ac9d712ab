import contextlib
import csv
import io

import numpy as np
import pytest
import torch

import train_head
from tests.conftest import read_json
from tests.english import make_cache, sentences
from twostage.cache.reader import open_cache
from twostage.heads import data as head_data
from twostage.heads.logistic import minimise
from twostage.heads.suspects import FOLDS, FoldedLogistic, folds_of, out_of_fold_probabilities

FLIPPED = 24


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """(cache, flipped (24,)): 800 sentences, 3 % of them under another label."""
    texts, label = (list(part) for part in zip(*sentences(800), strict=True))
    rng = np.random.default_rng(1)
    flipped = rng.choice(len(texts), FLIPPED, replace=False)
    label = np.array(label)
    label[flipped] = (label[flipped] + rng.integers(1, 4, FLIPPED)) % 4
    sources = [f"a\x1b[31m{i}.txt" if i == flipped[0] else f"{i}.txt" for i in range(len(texts))]
    return make_cache(tmp_path_factory.mktemp("cache") / "english.h5", texts, label, sources=sources), flipped


@pytest.fixture(scope="module")
def judged(planted):
    data = head_data.load(open_cache(planted[0]), "cpu")
    return data, *out_of_fold_probabilities(data)


def test_threads_change_no_bit_of_what_is_judged_though_all_is_one_chunk():
    torch.manual_seed(0)
    vectors, labels, fold = torch.randn(1500, 64), torch.randint(0, 14, (1500,)), torch.arange(1500) % FOLDS
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            problem = FoldedLogistic(vectors, labels, fold, 14)
            found.append(problem.out_of_fold(minimise(problem, 1e-4, most=20)[0]))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(*found)


def test_planted_wrong_labels_come_first(planted, judged):
    data, probabilities, _ = judged
    own = probabilities[np.arange(len(probabilities)), data.cache.label]
    assert np.isin(np.argsort(own)[:FLIPPED], planted[1]).mean() >= 0.9


@pytest.fixture(scope="module")
def reported(planted, tmp_path_factory):
    """(runs folder, standard output) of `train_head.py --suspects` with two recipes."""
    runs, out = tmp_path_factory.mktemp("runs"), io.StringIO()
    with contextlib.redirect_stdout(out):
        train_head.main([str(planted[0]), "--recipe", "1C3", "1C4", "--lr-scale", "100", "--suspects", "--runs-dir", str(runs)])
    return runs, out.getvalue()


def test_the_ranking_is_cleanlabs(judged, reported):
    from cleanlab.rank import get_label_quality_scores
    from scipy.stats import spearmanr

    data, probabilities, _ = judged
    quality = get_label_quality_scores(data.cache.label.astype(int), probabilities, method="self_confidence")
    with open(reported[0] / "1C3-x100" / "suspects.csv", encoding="utf-8", newline="") as file:
        digests = [row["digest"] for row in csv.DictReader(file)]
    row_of = {data.cache.digest[row].tobytes().hex(): row for row in range(len(quality))}
    ours = [row_of[digest] for digest in digests]
    assert len(ours) >= FLIPPED and spearmanr(np.arange(len(ours)), quality[ours])[0] >= 0.99
    assert quality[ours].max() <= 0.5  # a label that is not the most probable one


def test_no_document_is_judged_by_a_model_that_learned_from_its_text(judged):
    from sklearn.linear_model import LogisticRegression

    data, probabilities, l2 = judged
    X, y, fold = data.vectors.float().numpy().astype(np.float64), data.labels.numpy(), folds_of(data.cache.digest)
    assert set(fold) == set(range(FOLDS))
    for k in (0, 3):
        learns = fold != k
        judge = LogisticRegression(C=1 / (learns.sum() * l2), tol=1e-8, max_iter=5000).fit(X[learns], y[learns])
        assert np.abs(judge.predict_proba(X[~learns]) - probabilities[~learns]).max() < 0.02


def test_copies_of_a_text_share_a_fold():
    digest = np.random.default_rng(0).integers(0, 256, (500, 32), np.uint8)
    assert (folds_of(digest[::-1])[::-1] == folds_of(digest)).all() and len(set(folds_of(digest))) == FOLDS


def test_suspects_are_printed_kept_beside_the_best_run_and_counted_in_its_accuracy(planted, reported):
    cache, (runs, out) = planted[0], reported
    best = runs / "1C3-x100"
    found = read_json(best / "run.json")["suspects"]
    assert "suspects" not in read_json(runs / "1C4-x100" / "run.json") and not (runs / "1C4-x100/suspects.csv").exists()
    assert len(found["first"]) == 20 and found["accuracy"] > 0.9 and sum(found["n_below"].values()) >= 0.8 * FLIPPED
    assert [one["probability"] for one in found["first"]] == sorted(one["probability"] for one in found["first"])
    with open(best / "suspects.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (
        len(rows) == found["n"]
        and rows[0]["source"] == found["first"][0]["source"]
        and rows[0]["label"] in {"sport", "finance", "cooking", "science"}
    )
    record, data = read_json(best / "run.json"), head_data.load(open_cache(cache), "cpu")
    saved = np.load(best / "predictions.npz")
    believed = data.labels[data.test].numpy().copy()
    digests = [digest.tobytes().hex() for digest in saved["digest"]]
    names = record["label_names"]
    for row in rows:
        if row["split"] == "test" and float(row["probability"]) < found["below"]:
            believed[digests.index(row["digest"])] = names.index(row["suggested"])
    assert found["test_accuracy_if_wrong"] == pytest.approx((saved["predicted"] == believed).mean())
    assert found["test_accuracy_if_wrong"] > record["test_accuracy"]  # planted flips were held against the head
    low, high = found["test_accuracy_if_wrong_ci95"]
    assert low < found["test_accuracy_if_wrong"] <= high
    assert "\x1b" not in out and "suspects.csv" in out and f"{rows[0]['source']}" in out.replace("\\x1b", "\x1b")


def test_a_class_with_a_single_document_and_one_without_any_are_no_fault(tmp_path):
    texts, label = (list(part) for part in zip(*sentences(60), strict=True))
    label = np.where(np.array(label) == 3, 2, label)
    label[0] = 3
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    cache = make_cache(tmp_path / "few.h5", texts, label, np.arange(60) % 3, vectors)
    probabilities, _ = out_of_fold_probabilities(head_data.load(open_cache(cache), "cpu"))
    assert probabilities.shape == (60, 4) and np.isfinite(probabilities).all()
    assert torch.from_numpy(probabilities).sum(1).allclose(torch.ones(60), atol=1e-4)
