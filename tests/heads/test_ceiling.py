from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import read_json
from tests.head_caches import make_cache
from tests.heads.test_sweep import run_train_head
from twostage import memory
from twostage.cache.reader import open_cache
from twostage.heads import data as head_data
from twostage.heads import logistic
from twostage.heads.ceiling import STRENGTHS, fit_ceiling, verdict
from twostage.heads.learning_curve import fill, more_labels, part_of_train
from twostage.heads.logistic import Logistic, minimise
from twostage.models.head import load_head


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache") / "news.h5")


@pytest.fixture(scope="module")
def data(cache):
    return head_data.load(open_cache(cache), "cpu")


def test_the_optimum_is_scikit_learns(data):
    from sklearn.linear_model import LogisticRegression

    X, y, n = data.vectors[data.train].float().numpy(), data.labels[data.train].numpy(), len(data.train)
    for l2 in (1e-1, 1e-3):
        judge = LogisticRegression(C=1 / (n * l2), tol=1e-8, max_iter=5000).fit(X.astype(np.float64), y)
        problem = Logistic(data.vectors, data.labels, data.train, data.classes)
        x, objective, _, _ = minimise(problem, l2)
        W = x[: data.classes * data.hidden].view(data.classes, data.hidden) / problem.s
        theirs = -np.log(judge.predict_proba(X)[np.arange(n), y]).mean() + l2 / 2 * (judge.coef_**2).sum()
        assert objective == pytest.approx(theirs, abs=1e-5)
        assert np.abs(W.numpy() - judge.coef_).max() < 5e-3 * np.abs(judge.coef_).max()


def test_a_badly_scaled_dimension_does_not_keep_the_optimum_away(data):
    """One dimension 1000 times the others and far from zero, as [CLS] vectors have it."""
    vectors = data.vectors.float().clone()
    vectors[:, 0] = vectors[:, 0] * 1000 + 5000
    problem = Logistic(vectors, data.labels, data.train, data.classes)
    plain = Logistic(data.vectors, data.labels, data.train, data.classes)
    assert minimise(problem, 1e-6)[2] == pytest.approx(minimise(plain, 1e-6)[2], abs=5e-3)


def test_the_gradient_is_that_of_autograd(data):
    problem = Logistic(data.vectors, data.labels, data.train, data.classes)
    U = torch.randn(data.classes, data.hidden, dtype=torch.float64, requires_grad=True)
    b = torch.randn(data.classes, dtype=torch.float64, requires_grad=True)
    X = (data.vectors[data.train].double() - problem.mean) / problem.s
    loss = torch.nn.functional.cross_entropy(X @ U.t() + b, data.labels[data.train]) + 0.05 * ((U / problem.s) ** 2).sum()
    loss.backward()
    with torch.no_grad():
        f, _, dU, db = problem(U, b, 0.1)
    assert f == pytest.approx(loss.item(), rel=1e-6)
    assert torch.allclose(dU, U.grad, atol=1e-6) and torch.allclose(db, b.grad, atol=1e-6)


def test_the_ceiling_is_a_run_and_says_how_far_each_recipe_stays_behind(cache, tmp_path, capsys):
    status, out, err = run_train_head(capsys, cache, "--recipe", "1C4", "--ceiling", "--runs-dir", tmp_path)
    assert status == 0
    assert (
        "1C4 stopped" in out
        and "below what this head can do: the learning rate is too small; the features are not to blame" in out
    )
    record = read_json(tmp_path / "ceiling" / "run.json")
    assert record["status"] == "complete" and record["l2"] in [s["l2"] for s in record["strengths"]]
    best = max(s["val_accuracy"] for s in record["strengths"])
    assert record["epochs"][0]["val_accuracy"] == best
    assert record["test_accuracy"] > read_json(tmp_path / "1C4" / "run.json")["test_accuracy"] + 0.2
    assert load_head(tmp_path / "ceiling" / "head")[1]["head"] == "1C"
    assert (tmp_path / "report.html").is_file()


def test_the_chosen_strength_is_best_on_val_the_stronger_on_a_tie(data):
    best, tried, _ = fit_ceiling(data)
    assert best.val_accuracy == max(o.val_accuracy for o in tried)
    assert best is next(o for o in tried if o.val_accuracy == best.val_accuracy)
    assert [o.l2 for o in tried] == sorted((o.l2 for o in tried), reverse=True)


def test_verdicts_name_the_cause():
    ceiling = {"test_accuracy": 0.95, "test_accuracy_ci95": [0.93, 0.96], "epochs": [{"train_loss": 0.2}]}

    def run(accuracy, losses, best_epoch, head="1C"):
        epochs = [{"train_loss": x} for x in losses]
        return {"name": "x", "test_accuracy": accuracy, "epochs": epochs, "best_epoch": best_epoch, "head": head}

    assert "55.0 points below what this head can do: the learning rate is too small" in verdict(
        run(0.4, [2.6, 2.5], 2), ceiling
    )
    assert "the learning rate is too large" in verdict(run(0.4, [2.5, 9.0], 1), ceiling)
    assert "better than it generalises" in verdict(run(0.8, [0.1, 0.01], 1), ceiling)
    assert "reaches what one layer can do" in verdict(run(0.94, [0.3, 0.2], 2), ceiling)
    assert "3.0 points above" in verdict(run(0.98, [0.1, 0.0], 2, "3C"), ceiling)


def test_parts_of_train_are_nested_and_hold_each_class(data):
    before: set = set()
    for share in (0.01, 0.1, 0.3, 1.0):
        rows = part_of_train(data, share, seed=1)
        now = set(rows.tolist())
        assert before <= now and set(data.labels[rows].tolist()) == set(range(data.classes))
        counts = np.bincount(data.labels[rows].numpy())
        whole = np.bincount(data.labels[data.train].numpy())
        assert (counts == np.maximum(1, np.round(share * whole))).all()
        before = now
    assert before == set(data.train.tolist())
    assert set(part_of_train(data, 0.1, 1).tolist()) != set(part_of_train(data, 0.1, 2).tolist())
    assert fill(torch.tensor([4, 7]), 5).tolist() == [4, 7, 4, 7, 4]


def test_the_learning_curve_says_whether_more_labels_would_help(cache, tmp_path, capsys):
    def point(mean, deviation, n):
        return {"mean": mean, "deviation": deviation, "n_train": n}

    assert more_labels([point(0.8, 0.01, 300), point(0.9, 0.01, 1000)]).startswith("more labels would help:")
    assert more_labels([point(0.9, 0.02, 300), point(0.91, 0.02, 1000)]).startswith("more labels may help")
    assert "hardly" in more_labels([point(0.9, 0.001, 300), point(0.904, 0.001, 1000)])
    status, out, err = run_train_head(capsys, cache, "--lr", "1e-2", "--epochs", 3, "--learning-curve", "--runs-dir", tmp_path)
    assert status == 0 and "learning curve of 1C-lr0.01" in out and "more labels" in out
    curve = read_json(tmp_path / "1C-lr0.01" / "run.json")["learning_curve"]
    assert [p["share"] for p in curve] == [0.01, 0.03, 0.1, 0.3, 1.0] and len(curve[0]["val_accuracy"]) == 3
    assert curve[-1]["mean"] > curve[0]["mean"]


def test_the_ceiling_stops_once_val_has_fallen_twice(data):
    """Vectors of noise, and the strongest penalty's answers as the labels of val: every weaker one must do worse."""
    noise = torch.randn(data.vectors.shape, generator=torch.Generator().manual_seed(0))
    noisy = replace(data, vectors=noise, labels=data.labels.clone())
    strongest = fit_ceiling(noisy, strengths=STRENGTHS[:1])[1][1]
    noisy.labels[data.val] = strongest.head()(noise[data.val]).argmax(1)
    best, tried, _ = fit_ceiling(noisy)
    assert best.val_accuracy == 1.0 and len(tried) == 3 + 2  # the half decades about the best come after


def test_threads_change_no_bit_of_a_ceiling(data, monkeypatch):
    monkeypatch.setattr(logistic, "CHUNK", 100)
    before, ends = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            problem = Logistic(data.vectors, data.labels, data.train, data.classes)
            assert problem.workers == threads and torch.get_num_threads() == threads
            ends.append(minimise(problem, 1e-3)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*ends)


def test_vectors_that_memory_does_not_hold_twice_give_the_same_ceiling(data, monkeypatch):
    held = minimise(Logistic(data.vectors, data.labels, data.train, data.classes), 1e-3)[0]
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    problem = Logistic(data.vectors, data.labels, data.train, data.classes)
    assert problem.held is None and torch.equal(minimise(problem, 1e-3)[0], held)
