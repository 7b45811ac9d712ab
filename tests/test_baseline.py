import sys

import numpy as np
import pytest

from tests.conftest import make_tree, read_json
from tests.english import CLASSES, sentences
from tests.trained_run import extract_cache, train
from twostage import baseline, cli
from twostage.baseline import margins_of, unspaced
from twostage.runs.groups import group_runs
from twostage.runs.views import load_runs


def run_baseline(capsys, *args):
    capsys.readouterr()
    status = cli.run(baseline.main, [str(arg) for arg in args])
    return status, *capsys.readouterr()


def test_it_is_a_run_on_the_same_test_documents_as_the_heads_and_is_compared_with_them(tmp_path, tiny_bert, capsys):
    corpus, runs = make_tree(tmp_path / "news", per_class=60), tmp_path / "runs"
    head = train(extract_cache(tmp_path / "cache", corpus, tiny_bert, capsys), runs, capsys, "--recipe", "1C3")
    status, out, err = run_baseline(capsys, corpus, "--runs-dir", runs)
    assert status == 0 and "TF-IDF of characters" in err and out.endswith(f"run: {runs / 'tfidf'}\n")
    record = read_json(runs / "tfidf" / "run.json")
    assert record["status"] == "complete" and record["script"] == "baseline" and record["vectorizer"]["analyzer"] == "char"
    assert record["test_accuracy"] > 0.8 and f"{record['test_accuracy']:.3f}" in out
    best = max(one["val_accuracy"] for one in record["strengths"])
    assert record["epochs"][0]["val_accuracy"] == best
    assert record["l2"] == next(one["l2"] for one in record["strengths"] if one["val_accuracy"] == best)
    ours, theirs = np.load(runs / "tfidf" / "predictions.npz"), np.load(head / "predictions.npz")
    assert (ours["digest"] == theirs["digest"]).all() and (ours["label"] == theirs["label"]).all()
    assert np.allclose(ours["probabilities"].sum(1), 1, atol=1e-5)
    assert record["test_accuracy"] == pytest.approx((ours["predicted"] == ours["label"]).mean())
    (group,) = group_runs(load_runs(runs)[0])
    assert group.baseline.name == "tfidf" and group.frozen.name == "1C3"
    assert "1C3 with BERT: " in out and "McNemar p" in out and (runs / "report.html").is_file()


def test_english_is_counted_in_words(tmp_path, capsys):
    lines = [f"{list(CLASSES)[label]}\t{text}" for text, label in sentences(200)]
    file = tmp_path / "news.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    status, out, err = run_baseline(capsys, file, "--runs-dir", tmp_path / "runs")
    assert status == 0 and "TF-IDF of words" in err and "TF-IDF of words" in out
    assert read_json(tmp_path / "runs" / "tfidf" / "run.json")["vectorizer"] == {
        "analyzer": "word", "ngrams": [1, 2],
        "features": read_json(tmp_path / "runs" / "tfidf" / "run.json")["vectorizer"]["features"],
    }  # fmt: skip


def test_scripts_without_spaces_are_told_from_others():
    assert unspaced(["球队客场取胜", "かな ภาษาไทย"]) == 1 and unspaced(["Team wins, 3:1", "команда"]) == 0
    assert unspaced(["", "123"]) == 0


def test_a_class_that_train_lacks_is_never_the_answer_and_two_classes_have_two_columns():
    class Fitted:
        classes_ = np.array([0, 2])

        def decision_function(self, X):
            return np.array([1.5, -0.5])

    found = margins_of(Fitted(), None, 3)
    assert found.argmax(1).tolist() == [2, 0] and (found[:, 1] < found[:, [0, 2]].min(1)).all()


def test_without_scikit_learn_the_line_to_install_it_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    status, out, err = run_baseline(capsys, tmp_path, "--runs-dir", tmp_path / "runs")
    assert status == 2 and 'pip install "twostage[baseline]"' in err and out == "" and len(err.splitlines()) == 1
