"""Corpora in every form: what is a document, its text to the byte, its order, and what is found in it."""

import hashlib
import json
import os
import random

import numpy as np
import pytest

from tests.corpora import TNEWS, cnews, documents, numbered, said, small_tree, titles, tnews, write_lines, write_tree
from twostage.corpus.again import texts_of
from twostage.corpus.reader import read_corpus

# Forms


def test_a_tree_of_class_folders_is_read_with_its_labels_by_name(tmp_path):
    corpus = read_corpus(small_tree(tmp_path / "THUCNews", ("财经", "体育")))
    assert corpus.name == "THUCNews"
    assert "a tree of 2 class folders, split by text digest" in said(corpus)
    assert corpus.label_names == ["体育", "财经"]
    assert corpus.sources[:2] == ["体育/0.txt", "体育/1.txt"] and len(corpus) == 80
    label, _, text = documents(corpus)["财经/7.txt"]
    assert (label, text) == ("财经", "宇宙洪荒，财经 7\n　　正文。")
    assert corpus.characters[0] == len("甲乙丙丁，体育 0\n　　正文。")


def test_a_tree_in_split_folders_keeps_the_splits_it_came_with(tmp_path):
    for folder in ("train", "dev", "test"):
        write_tree(tmp_path / folder, {f"{c}/{i}.txt": f"{folder} {c} {i}" for c in "甲乙" for i in range(20)})
    corpus = read_corpus(tmp_path)
    assert "a tree of 2 class folders in split folders, split by its files" in said(corpus)
    assert documents(corpus)["dev/乙/3.txt"] == ["乙", "val", "dev 乙 3"]
    assert np.bincount(corpus.split).tolist() == [40, 40, 40]


def test_titles_take_their_names_from_class_txt_in_its_order(tmp_path):
    corpus = read_corpus(titles(tmp_path / "titles", names=("stocks", "finance", "realty")))
    assert "text<TAB>id lines with class.txt, split by its files" in said(corpus)
    assert corpus.label_names == ["stocks", "finance", "realty"]
    assert documents(corpus)["dev.txt:5"] == ["finance", "val", "dev.txt 标题 1 之 1"]


def test_the_id_is_what_follows_the_last_tab_so_titles_may_hold_tabs(tmp_path):
    titles(tmp_path)
    write_lines(tmp_path / "test.txt", ["甲\t乙\t2", "丙\t0"])
    assert documents(read_corpus(tmp_path))["test.txt:1"] == ["stocks", "test", "甲\t乙"]


def test_blank_lines_at_the_end_of_class_txt_name_nothing(tmp_path):
    titles(tmp_path)
    (tmp_path / "class.txt").write_bytes(b"\xef\xbb\xbffinance\r\nrealty\r\nstocks\r\n\r\n\n")
    assert read_corpus(tmp_path).label_names == ["finance", "realty", "stocks"]


def test_cnews_files_are_label_then_text_and_their_prefix_does_not_matter(tmp_path):
    for folder in (cnews(tmp_path / "a"), cnews(tmp_path / "b", ("train.txt", "val.txt", "test.txt"))):
        corpus = read_corpus(folder)
        assert "files of label<TAB>text lines, split by its files" in said(corpus)
        assert corpus.label_names == ["体育", "财经"]
        assert np.bincount(corpus.split).tolist() == [80, 80, 80]


def test_tnews_is_labelled_by_description_and_its_unlabelled_test_file_is_left_out_and_said(tmp_path):
    tnews(tmp_path)
    write_lines(tmp_path / "test.json", ['{"id": 0, "sentence": "没有标签", "keywords": ""}'])
    corpus = read_corpus(tmp_path)
    assert corpus.label_names == sorted(name for _, name in TNEWS)
    assert "files of JSON lines, test carved from train by text digest" in said(corpus)
    assert "test.json has no labels: left out" in said(corpus)
    assert "没有标签" not in {text for _, _, text in documents(corpus).values()}
    assert not any(source.startswith("dev") for source, (_, s, _) in documents(corpus).items() if s == "test")


def test_json_lines_with_label_and_text_are_read_too(tmp_path):
    lines = [json.dumps({"label": i % 2, "text": f"第 {i} 条\n第二行"}) for i in range(40)]
    corpus = read_corpus(write_lines(tmp_path / "news.jsonl", lines))
    assert corpus.label_names == ["0", "1"]
    assert corpus.texts([3]) == ["第 3 条\n第二行"]


@pytest.mark.parametrize("make", [titles, cnews, tnews])
def test_a_single_file_of_any_form_is_a_corpus_split_by_digest(make, tmp_path):
    file = sorted(p for p in make(tmp_path).iterdir() if "train" in p.name)[0]
    corpus = read_corpus(file)
    assert "a single file of" in said(corpus) and "split by text digest" in said(corpus)
    assert corpus.name == file.stem
    assert set(corpus.split.tolist()) == {0, 1, 2}
    assert corpus.sources[0] == f"{file.name}:1"


def test_missing_splits_are_carved_from_train_alone(tmp_path):
    both = read_corpus(titles(tmp_path / "both", files=("train.txt",), n=200))
    one = read_corpus(titles(tmp_path / "one", files=("train.txt", "dev.txt"), n=200))
    assert "val and test carved from train" in said(both) and "test carved from train" in said(one)
    held = {source: split for source, (_, split, _) in documents(both).items()}
    for source, (_, split, _) in documents(one).items():
        file = source.split(":")[0]
        expected = "val" if file == "dev.txt" else "test" if held[source] == "test" else "train"
        assert split == expected


# Text, to the byte


def test_lines_end_at_newline_alone_and_everything_else_stays_in_the_text(tmp_path):
    odd = "前\u3000中\u2028后\x0b\x85\x0c\x1c末　"
    lines = [f"体育\t{odd}", *numbered("体育"), *numbered("财经")]
    corpus = read_corpus(write_lines(tmp_path / "news.txt", lines))
    assert len(corpus) == 81
    assert corpus.texts([0]) == [odd]
    assert corpus.digest[0].tobytes() == hashlib.sha256(odd.encode()).digest()


def test_a_windows_file_with_a_byte_order_mark_gives_the_digests_of_a_plain_one(tmp_path):
    lines = numbered("体育") + numbered("财经")
    plain = read_corpus(write_lines(tmp_path / "plain.txt", lines))
    windows = read_corpus(write_lines(tmp_path / "windows.txt", lines, end="\r\n", encoding="utf-8-sig"))
    assert np.array_equal(plain.digest, windows.digest)
    assert windows.label_names == ["体育", "财经"]
    assert windows.texts(range(80)) == plain.texts(range(80))


def test_a_mark_before_a_title_is_no_part_of_it(tmp_path):
    titles(tmp_path)
    write_lines(tmp_path / "dev.txt", ["首个标题\t1", "其次\t2"], encoding="utf-8-sig")
    corpus = read_corpus(tmp_path)
    row = corpus.sources.index("dev.txt:1")
    assert corpus.texts([row]) == texts_of(tmp_path, ["dev.txt:1"], corpus.digest[[row]]) == ["首个标题"]


def test_the_last_line_needs_no_newline(tmp_path):
    file = write_lines(tmp_path / "news.txt", numbered("体育") + numbered("财经"))
    file.write_bytes(file.read_bytes() + "财经\t最后".encode())
    assert read_corpus(file).texts([80]) == ["最后"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_a_byte_order_mark_is_removed_whatever_the_encoding_is_called(encoding, tmp_path):
    codec = "utf-8" if encoding.startswith("utf") else encoding
    marked = {"体育/标.txt": b"\xef\xbb\xbf" + "开头".encode(codec)}
    tree = small_tree(tmp_path, **marked)
    for file in tree.rglob("[0-9]*.txt"):
        file.write_bytes(file.read_text("utf-8").encode(codec))
    assert documents(read_corpus(tree, encoding=encoding))["体育/标.txt"][2] == "开头"


def test_only_one_mark_is_removed_and_a_tree_keeps_its_line_ends_and_spaces(tmp_path):
    text = "\ufeff 　首行\r\n末行\n\n"
    tree = small_tree(tmp_path, **{"体育/x.txt": b"\xef\xbb\xbf" + text.encode()})
    assert documents(read_corpus(tree))["体育/x.txt"][2] == text


def test_empty_documents_are_skipped_and_counted(tmp_path):
    tree = read_corpus(small_tree(tmp_path / "tree", **{"体育/空.txt": "", "财经/白.txt": "\n　 \t\r\n"}))
    assert tree.findings.empty == 2 and len(tree) == 80 and "2 empty documents skipped" in said(tree)
    lines = [*numbered("体育"), "", "体育\t", "财经\t　", *numbered("财经")]
    corpus = read_corpus(write_lines(tmp_path / "news.txt", lines))
    assert corpus.findings.empty == 3 and len(corpus) == 80
    assert corpus.sources[40] == "news.txt:44"


# Order and names


def test_the_order_is_that_of_the_names_whatever_order_the_files_were_made_in(tmp_path):
    sources = [f"{c}/{i}.txt" for c in ("甲", "乙", "b", "A") for i in (10, 2, 1, 33)]
    orders = []
    for seed in range(3):
        random.Random(seed).shuffle(sources)
        orders.append(read_corpus(write_tree(tmp_path / str(seed), {s: f"文 {s}" for s in sources})).sources)
    assert orders[0] == orders[1] == orders[2] == sorted(sources)


def test_file_names_that_are_not_utf8_survive_and_folders_of_an_old_archive_are_read_as_gb18030(tmp_path):
    tree = small_tree(tmp_path, ("体育",))
    for folder, name in (("财经".encode("gbk"), b"1.txt"), ("体育".encode(), b"\xff\xfe.txt")):
        os.makedirs(os.path.join(os.fsencode(tree), folder), exist_ok=True)
        with open(os.path.join(os.fsencode(tree), folder, name), "wb") as file:
            file.write("名字怪".encode())
    corpus = read_corpus(tree)
    assert corpus.label_names == ["体育", "财经"]
    odd = [s for s in corpus.sources if s != s.encode("utf-8", "replace").decode()]
    assert len(odd) == 2
    rows = [corpus.sources.index(s) for s in odd]
    assert corpus.texts(rows) == ["名字怪"] * 2
    assert texts_of(tree, odd, corpus.digest[rows]) == ["名字怪"] * 2


@pytest.mark.parametrize("name, expected", [("新闻 (1)", "新闻-1"), ("v1.2", "v1.2"), ("...", "corpus"), ("-rf", "rf")])
def test_the_name_of_a_corpus_is_fit_for_a_file_name(name, expected, tmp_path):
    assert read_corpus(small_tree(tmp_path / name)).name == expected


# Findings


def test_copies_leaks_and_contradictions_are_counted_over_the_documents_that_per_class_leaves(tmp_path):
    titles(tmp_path)
    with open(tmp_path / "dev.txt", "a", encoding="utf-8") as file:
        file.write("train.txt 标题 0 之 0\t0\ntrain.txt 标题 0 之 1\t2\n")
    found = read_corpus(tmp_path).findings.audit
    assert (found.duplicates, found.leaks, found.conflicts) == (2, 2, 1)
    corpus = read_corpus(tmp_path, per_class=5)
    texts = corpus.texts(range(len(corpus)))
    assert corpus.findings.audit.duplicates == len(texts) - len(set(texts)) < 2
    assert "45 of 362 documents in 3 classes: train 15, val 15, test 15" in said(corpus)


def test_a_class_that_train_lacks_is_said(tmp_path):
    titles(tmp_path, ids=range(2))
    with open(tmp_path / "dev.txt", "a", encoding="utf-8") as file:
        file.write("只在 dev\t2\n")
    corpus = read_corpus(tmp_path)
    assert corpus.classes_without_train() == ["stocks"]
    assert "without a document in train: stocks" in said(corpus)
