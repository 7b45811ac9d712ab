"""Splits are a function of the text alone."""

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpora import write_lines
from twostage import SPLITS
from twostage.corpus.reader import read_corpus
from twostage.corpus.splits import by_position, carve, pick_key, pick_per_class, split_position

LETTERS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n\r\0"), min_size=1, max_size=12)
TEXTS = st.lists(LETTERS.filter(str.strip), min_size=1, max_size=30)
GROUPS = st.lists(st.tuples(LETTERS, st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


def by_the_letter(text: str) -> str:
    u = int.from_bytes(hashlib.sha256(b"split\0" + text.encode()).digest()[:8], "big") / 2**64
    return "train" if u < 0.8 else "val" if u < 0.9 else "test"


def split_names(texts):
    positions = np.array([split_position(text.encode()) for text in texts], np.uint64)
    return [SPLITS[s] for s in by_position(positions)]


@given(TEXTS)
def test_the_split_of_a_text_follows_the_documented_rule(texts):
    assert split_names(texts) == [by_the_letter(text) for text in texts]


def test_three_texts_worked_out_with_sha256sum_land_in_three_splits():
    # printf 'split\0体育' | sha256sum begins 19ddc281, and 0x19ddc281 / 2**32 is 0.101; the others give 0.894 and 0.902
    assert split_position("体育".encode()) >> 32 == 0x19DDC281
    assert split_names(["体育", "新闻9", "新闻2"]) == ["train", "val", "test"]


def test_the_borders_belong_to_the_later_split():
    border = [int(0.8 * 2**64) - 2**12, int(0.8 * 2**64), int(0.9 * 2**64) - 2**12, int(0.9 * 2**64), 2**64 - 1, 0]
    assert by_position(np.array(border, np.uint64)).tolist() == [0, 1, 1, 2, 2, 0]


def test_about_eight_one_and_one_tenths_go_to_train_val_and_test():
    counts = np.bincount([SPLITS.index(s) for s in split_names(f"文档 {i}" for i in range(5000))]) / 5000
    assert np.abs(counts - [0.8, 0.1, 0.1]).max() < 0.02


@given(TEXTS, TEXTS)
def test_new_documents_move_none_of_the_old(old, new):
    assert split_names(old + new)[: len(old)] == split_names(old)


@settings(max_examples=25, deadline=None)
@given(texts=TEXTS, copies=st.integers(2, 3), new=TEXTS)
def test_a_corpus_without_splits_never_lets_a_text_straddle_and_keeps_old_documents_in_place(
    texts, copies, new, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("grown")
    filler = [f"甲\t填 {i}" for i in range(30)] + [f"乙\t充 {i}" for i in range(30)]

    def side_of_each_text(lines):
        corpus = read_corpus(write_lines(folder / "news.txt", lines))
        sides = {}
        for digest, split in zip(map(bytes, corpus.digest), corpus.split.tolist(), strict=True):
            sides.setdefault(digest, set()).add(split)
        return sides

    before = side_of_each_text([f"甲\t{text}" for text in texts * copies] + filler)
    assert all(len(sides) == 1 for sides in before.values())
    after = side_of_each_text([f"乙\t{text}" for text in new] + [f"甲\t{text}" for text in texts] + filler)
    assert {digest: after[digest] for digest in before} == before


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40), st.sampled_from([(1,), (2,), (1, 2), ()]))
def test_only_what_the_files_lack_is_carved_and_only_from_train(positions, present):
    position = np.array(positions * 2, np.uint64)
    split = np.array([0] * len(positions) + [(0, *present)[i % (1 + len(present))] for i in range(len(positions))], np.uint8)
    has = set(split.tolist())
    carved, names = carve(split, position)
    assert names == tuple(SPLITS[s] for s in (1, 2) if s not in has)
    wanted = by_position(position)
    for before, after, asked in zip(split, carved, wanted, strict=True):
        moves = before == 0 and asked != 0 and asked not in has
        assert after == (asked if moves else before)


@given(GROUPS, st.integers(1, 5), st.integers(1, 5))
def test_a_larger_per_class_holds_every_row_of_a_smaller(rows, few, more):
    few, more = sorted((few, more))
    small, large = picked(rows, few), picked(rows, more)
    assert set(small) <= set(large)
    assert small == sorted(small)


@given(GROUPS, st.integers(1, 5))
def test_per_class_takes_the_smallest_keys_of_each_class_in_each_split(rows, n):
    expected = []
    for group in {(label, split) for _, label, split in rows}:
        members = [i for i, (_, label, split) in enumerate(rows) if (label, split) == group]
        ranked = sorted(members, key=lambda i: (hashlib.sha256(b"pick\0" + rows[i][0].encode()).digest(), i))
        expected += ranked[:n]
    assert picked(rows, n) == sorted(expected)


def picked(rows, n):
    keys = np.array([list(pick_key(text.encode())) for text, _, _ in rows], np.uint8)
    label = np.array([label for _, label, _ in rows], np.int32)
    split = np.array([split for _, _, split in rows], np.uint8)
    return pick_per_class(keys, label, split, n).tolist()
