"""What digests tell about a corpus, from arrays alone."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twostage import SPLITS
from twostage.corpus.audit import SMALL_CLASS, Standing, absent_classes, audit

ROWS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 2), st.integers(0, 2)), max_size=40)


def audited(rows, label_names=("甲", "乙", "丙"), sources=None, truncated=None):
    """Audit (text, label, split) rows."""
    digest = np.frombuffer(b"".join(hashlib.sha256(text.encode()).digest() for text, _, _ in rows), np.uint8)
    label = np.array([label for _, label, _ in rows], np.int32)
    split = np.array([split for _, _, split in rows], np.uint8)
    sources = sources or [f"train.txt:{i + 1}" for i in range(len(rows))]
    return audit(digest.reshape(-1, 32), label, split, sources, list(label_names), truncated=truncated)


@given(ROWS)
def test_counts_equal_those_of_a_dictionary_of_texts(rows):
    labels, splits = {}, {}
    for text, label, split in rows:
        labels.setdefault(text, set()).add(label)
        splits.setdefault(text, set()).add(split)
    found = audited(rows)
    assert found.duplicates == len(rows) - len(labels)
    assert found.conflicts == sum(len(s) > 1 for s in labels.values())
    assert found.leaks == sum(len(s) > 1 for s in splits.values()) == sum(found.leak_splits.values())


def test_a_clean_corpus_has_nothing_said_of_it():
    rows = [(f"{c}{s}{i}", c, s) for c in range(3) for s in range(3) for i in range(SMALL_CLASS)]
    assert audited(rows).lines() == []


def test_digests_that_differ_in_one_byte_alone_are_two_texts():
    digest = np.zeros((33, 32), np.uint8)
    digest[np.arange(32), np.arange(32)] = 1
    found = audit(digest, np.arange(33) % 2, np.zeros(33, np.uint8), [str(i) for i in range(33)], ["甲", "乙"])
    assert (found.duplicates, found.conflicts) == (0, 0)


def test_examples_show_every_copy_with_its_source_split_and_label():
    sources = ["train.txt:1", "train.txt:2", "dev.txt:9"]
    found = audited([("同", 0, 0), ("独", 1, 0), ("同", 2, 1)], sources=sources)
    copies = [Standing("train.txt:1", "train", "甲"), Standing("dev.txt:9", "val", "丙")]
    assert found.leak_examples == [copies] and found.conflict_examples == [copies]
    assert found.leak_splits == {("train", "val"): 1}
    said = "\n".join(found.lines())
    assert "1 duplicate:" in said
    assert "leak: 1 text in train and val; e.g. 'train.txt:1'" in said
    assert "'train.txt:1' in train, 'dev.txt:9' in val" in said
    assert "conflict: 1 text under more than one label; e.g. 'train.txt:1' in 甲, 'dev.txt:9' in 丙" in said


def test_three_copies_with_two_labels_are_one_conflict_and_two_duplicates():
    found = audited([("同", 0, 0), ("同", 0, 0), ("同", 1, 0)])
    assert (found.duplicates, found.conflicts, found.leaks) == (2, 1, 0)


def test_a_leak_says_each_number_once():
    rows = [("同", 0, 0), ("同", 0, 1), ("异", 0, 0), ("异", 0, 1), ("又", 0, 0), ("又", 0, 2)]
    line = next(line for line in audited(rows).lines() if line.startswith("leak"))
    assert line.startswith("leak: 2 texts in train and val, 1 in train and test; e.g. ")


def test_classes_are_called_small_by_their_documents_in_train_and_the_threshold_is_said():
    rows = [(f"甲{i}", 0, 0) for i in range(SMALL_CLASS)] + [(f"乙{i}", 1, 0) for i in range(SMALL_CLASS - 1)]
    rows += [(f"乙在 val {i}", 1, 1) for i in range(100)]
    found = audited(rows)
    assert found.small_classes == [("乙", SMALL_CLASS - 1)]
    assert f"fewer than {SMALL_CLASS} documents in train: 乙 ({SMALL_CLASS - 1})" in found.lines()


def test_a_class_that_a_split_lacks_and_a_split_that_is_empty_are_said():
    rows = [("a", 0, 0), ("b", 1, 0), ("c", 2, 1), ("d", 0, 1), ("e", 1, 1)]
    found = audited(rows)
    assert found.absent == {"train": ["丙"], "test": ["甲", "乙", "丙"]}
    assert "without a document in train: 丙" in found.lines()
    assert "test is empty" in found.lines()
    label, split = np.array([r[1] for r in rows]), np.array([r[2] for r in rows])
    assert absent_classes(label, split, ["甲", "乙", "丙"]) == ["丙"]


def test_the_share_of_truncated_documents_is_known_only_where_it_was_recorded():
    rows = [("a", 0, 0), ("b", 1, 0), ("c", 2, 1), ("d", 0, 2)]
    assert audited(rows).truncated_share is None
    found = audited(rows, truncated=np.array([True, False, False, False]))
    assert (found.truncated, found.truncated_share) == (1, 0.25)
    assert "1 document truncated (25.0%)" in found.lines()


def test_names_fit_for_no_line_are_escaped():
    said = audited([("a", 0, 0), ("b", 1, 0), ("c", 2, 0)], label_names=("坏\n名", "乙", "丙")).lines()
    assert all("\n" not in line for line in said)
    assert SPLITS == ("train", "val", "test")
