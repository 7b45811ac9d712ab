import csv
import shutil

import numpy as np
import pytest

from tests.conftest import CHARACTERS, make_texts, read_json
from tests.english import make_cache, sentences
from tests.heads.test_sweep import run_train_head
from tests.trained_run import extract_cache
from twostage.cache.reader import open_cache
from twostage.heads import data as head_data
from twostage.heads.near_duplicates import find_near_duplicates, overlap

PLANTED = 10  # of each kind


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """(texts, data): 360 sentences in train and val; in test 10 copies, 10 in capitals, 10 with a word more, 90 fresh ones."""
    fresh, label = (list(part) for part in zip(*sentences(450), strict=True))
    base, kept = fresh[:360], label[:360]
    variants = [*base[:10], *(text.upper() for text in base[10:20]), *(f"{text} today" for text in base[20:30])]
    texts, labels = [*base, *variants, *fresh[360:]], [*kept, *kept[:30], *label[360:]]
    split = np.repeat([0, 1, 2], [300, 60, 120])
    path = make_cache(tmp_path_factory.mktemp("cache") / "english.h5", texts, labels, split)
    return texts, head_data.load(open_cache(path), "cpu")


@pytest.fixture(scope="module")
def found(planted, tmp_path_factory):
    """(what was found, the run's folder); the head has every second test document right."""
    texts, data = planted
    run = tmp_path_factory.mktemp("run")
    label = data.labels[data.test].numpy()
    np.savez(run / "predictions.npz", label=label, predicted=np.where(np.arange(len(label)) % 2, label, -1))
    return find_near_duplicates(data, run, lambda rows: [texts[row] for row in rows]), run


def test_planted_copies_capitals_and_near_copies_are_found_each_as_what_it_is(planted, found):
    counts, run = found
    assert (counts["n_same_text"], counts["n_same_vector"]) == (PLANTED, PLANTED) and counts["texts_compared"]
    with open(run / "near_duplicates.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    near = {row["source"]: row["train_source"] for row in rows if row["kind"] == "near"}
    expected = {f"all.txt:{361 + i}": f"all.txt:{1 + i}" for i in range(20, 30)}
    assert sum(near.get(test) == train for test, train in expected.items()) >= 0.9 * PLANTED
    assert len(set(near) - set(expected)) <= 5  # sentences of one frame may differ in a single word
    assert {row["train_source"] for row in rows if row["kind"] == "same text"} == {f"all.txt:{i}" for i in range(1, 11)}


def test_the_accuracy_without_them_is_that_of_the_other_test_documents(found):
    counts, run = found
    with open(run / "near_duplicates.csv", encoding="utf-8", newline="") as file:
        leaking = [int(row["source"].partition(":")[2]) - 361 for row in csv.DictReader(file)]
    right = np.delete(np.arange(120) % 2, leaking)
    assert counts["n_test_without"] == len(right) == 120 - len(leaking) and len(leaking) >= 3 * PLANTED - 2
    assert counts["test_accuracy_without"] == pytest.approx(right.mean())
    assert len(counts["first"]) >= 2 * PLANTED - 2 and {one["kind"] for one in counts["first"]} <= {"same vector", "near"}


def test_near_vectors_of_other_words_are_not_taken_for_duplicates(planted, tmp_path):
    texts, data = planted
    np.savez(tmp_path / "predictions.npz", label=np.zeros(120), predicted=np.zeros(120))
    counts = find_near_duplicates(data, tmp_path, lambda rows: [chr(0x4E00 + row) * 10 for row in rows])
    assert counts["n_near"] <= 2 and counts["n_rejected"] >= 0.9 * PLANTED
    unread = find_near_duplicates(data, tmp_path, lambda rows: [None] * len(rows))
    assert not unread["texts_compared"] and unread["n_near"] >= 0.9 * PLANTED and unread["n_rejected"] == 0


def test_common_grams_are_a_share_of_the_shorter_text():
    assert overlap("球队客场取胜晋级八强", "今天球队客场取胜晋级八强的消息") == 1
    assert overlap("abcdefg", "ABC DEFG") == 1 and overlap("abcdefg", "gfedcba") == 0
    assert overlap("a", "b") == 0 and overlap("abcdefghij", "abcdefghix") == pytest.approx(5 / 6)


def test_the_script_finds_them_with_and_without_the_corpus_at_hand(tmp_path, tiny_bert, capsys):
    corpus = tmp_path / "titles"
    corpus.mkdir()
    pairs = make_texts(3, 40, seed=3, length=(20, 40))
    changed = [(text[:-1] + CHARACTERS[i], label) for i, (text, label) in enumerate(pairs[:6])]
    for name, part in {"train": pairs[:80], "dev": pairs[80:100], "test": [*changed, *pairs[100:]]}.items():
        lines = "".join(f"{text}\t{label}\n" for text, label in part)
        (corpus / f"{name}.txt").write_text(lines, encoding="utf-8")
    (corpus / "class.txt").write_text("体育\n财经\n科技\n", encoding="utf-8")
    cache = extract_cache(tmp_path / "cache", corpus, tiny_bert, capsys, "--max-length", "64", "--pooling", "mean")
    for number, texts_there in enumerate((True, False)):
        runs = tmp_path / f"runs{number}"
        status, out, err = run_train_head(capsys, cache, "--recipe", "1C3", "--near-duplicates", "--runs-dir", runs)
        assert status == 0
        counts = read_json(runs / "1C3" / "run.json")["near_duplicates"]
        assert counts["texts_compared"] is texts_there and ("not available" in out) is not texts_there
        found = {one["source"]: one["train_source"] for one in counts["first"]}
        assert sum(found.get(f"test.txt:{i}") == f"train.txt:{i}" for i in range(1, 7)) >= 5
        assert "near_duplicates.csv" in out and all(source in out for source in found)
        shutil.rmtree(corpus, ignore_errors=True)
