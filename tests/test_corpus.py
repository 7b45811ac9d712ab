"""Corpora in every form, and every way in which one can be wrong."""

import hashlib
import json
import os
import random

import numpy as np
import pytest

from tests.corpora import numbered, small_tree, write_lines, write_tree
from twostage.corpus import read_corpus, texts_of
from twostage.errors import BadInput
from twostage.splits import SPLITS

TNEWS = [("100", "news_story"), ("101", "news_culture"), ("109", "news_tech")]


def titles(
    folder, *, ids=range(3), n=40, names=("finance", "realty", "stocks"), files=("train.txt", "dev.txt", "test.txt")
):
    """text<TAB>id files with a class.txt that ends without a newline, as the real one does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "class.txt").write_bytes("\n".join(names).encode())
    for file in files:
        write_lines(folder / file, [f"{file} 标题 {i} 之 {c}\t{c}" for i in range(n) for c in ids])
    return folder


def cnews(folder, files=("cnews.train.txt", "cnews.val.txt", "cnews.test.txt"), n=40):
    for file in files:
        write_lines(folder / file, [f"{c}\t{file} 正文 {i} {c}" for i in range(n) for c in ("体育", "财经")])
    return folder


def tnews(folder, files=("train.json", "dev.json"), n=40):
    for file in files:
        items = [
            {"label": number, "label_des": name, "sentence": f"{file} 标题 {i}", "keywords": ""}
            for i in range(n)
            for number, name in TNEWS
        ]
        write_lines(folder / file, [json.dumps(item, ensure_ascii=i % 2 == 0) for i, item in enumerate(items)])
    return folder


def refusal(path, **options) -> str:
    """Return the one line with which a corpus is refused."""
    with pytest.raises(BadInput) as caught:
        read_corpus(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def documents(corpus):
    """{source: (label name, split name, text)}"""
    texts = corpus.texts(range(len(corpus)))
    names = [corpus.label_names[i] for i in corpus.label]
    splits = [SPLITS[i] for i in corpus.split]
    return {s: rest for s, *rest in zip(corpus.sources, names, splits, texts, strict=True)}


def said(corpus) -> str:
    return "\n".join(corpus.describe())


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


def test_encodings_of_two_bytes_are_read_in_a_tree_and_refused_for_lines(tmp_path):
    tree = write_tree(tmp_path / "t", {f"{c}/{i}.txt": f"{c} {i}".encode("utf-16") for c in "甲乙" for i in range(30)})
    assert documents(read_corpus(tree, encoding="utf-16"))["乙/7.txt"][2] == "乙 7"
    assert "binary file" in refusal(tree)
    file = write_lines(tmp_path / "news.txt", numbered("甲") + numbered("乙"), encoding="utf-16")
    assert "iconv" in refusal(file, encoding="utf-16")


def test_empty_documents_are_skipped_and_counted(tmp_path):
    tree = read_corpus(small_tree(tmp_path / "tree", **{"体育/空.txt": "", "财经/白.txt": "\n　 \t\r\n"}))
    assert tree.findings.empty == 2 and len(tree) == 80 and "2 empty documents skipped" in said(tree)
    lines = [*numbered("体育"), "", "体育\t", "财经\t　", *numbered("财经")]
    corpus = read_corpus(write_lines(tmp_path / "news.txt", lines))
    assert corpus.findings.empty == 3 and len(corpus) == 80
    assert corpus.sources[40] == "news.txt:44"


# Undecodable


def test_undecodable_files_are_refused_in_one_line_with_offsets_and_both_ways_out(tmp_path):
    bad = {f"体育/b{i:02}.txt": "好".encode() * i + b"\xa3 5" for i in range(12)}
    line = refusal(small_tree(tmp_path, **bad))
    assert line.startswith("12 files are not utf-8: 体育/b00.txt (byte 0), 体育/b01.txt (byte 3), ")
    assert "体育/b09.txt (byte 27) and 2 more" in line and "b10" not in line
    assert "--encoding" in line and "--on-undecodable skip or replace" in line


def test_undecodable_documents_are_skipped_or_replaced_on_request_and_counted(tmp_path):
    tree = small_tree(tmp_path, **{"体育/坏.txt": "价 ".encode() + b"\xa3 5"})
    skipped = read_corpus(tree, on_undecodable="skip")
    assert len(skipped) == 80 and skipped.findings.undecodable.documents == 1
    assert "1 undecodable document skipped; the first: 体育/坏.txt, byte 4" in said(skipped)
    assert skipped.findings.empty == 0
    replaced = read_corpus(tree, on_undecodable="replace")
    assert documents(replaced)["体育/坏.txt"][2] == "价 \ufffd 5"
    assert replaced.findings.undecodable.documents == 1 and "kept with U+FFFD" in said(replaced)


def test_the_offset_counts_from_the_start_of_the_file_mark_included(tmp_path):
    file = write_lines(tmp_path / "news.txt", numbered("体育") + numbered("财经"), encoding="utf-8-sig")
    size = file.stat().st_size
    file.write_bytes(file.read_bytes() + "体育\t".encode() + b"\xff\n")
    assert f"news.txt (byte {size + 7:,})" in refusal(file)
    tree = small_tree(tmp_path / "tree", **{"体育/x.txt": b"\xef\xbb\xbfab\xff"})
    assert "体育/x.txt (byte 5)" in refusal(tree)


def test_half_a_character_in_json_counts_as_undecodable(tmp_path):
    lines = [json.dumps({"label": i % 2, "text": f"第 {i} 条"}) for i in range(40)]
    file = write_lines(tmp_path / "news.json", [*lines, r'{"label": 1, "text": "坏\ud800字"}'])
    assert "1 file is not utf-8: news.json (byte " in refusal(file)
    assert len(read_corpus(file, on_undecodable="skip")) == 40
    assert read_corpus(file, on_undecodable="replace").texts([40]) == ["坏\ufffd字"]
    whole = write_lines(tmp_path / "whole.json", [*lines, r'{"label": 1, "text": "\ud83d\ude00"}'])
    assert read_corpus(whole).texts([40]) == ["😀"]


def test_old_chinese_encodings_are_read_by_name(tmp_path):
    lines = numbered("体育") + numbered("财经")
    old = write_lines(tmp_path / "old.txt", lines, encoding="gbk")
    assert "not utf-8" in refusal(old)
    new = read_corpus(write_lines(tmp_path / "new.txt", lines))
    assert np.array_equal(read_corpus(old, encoding="gb18030").digest, new.digest)


@pytest.mark.parametrize("name", ["utf-9", "rot13", "base64", "undefined", "idna", "", "a\nb"])
def test_an_encoding_that_is_none_is_refused(name, tmp_path):
    assert "--encoding" in refusal(small_tree(tmp_path), encoding=name)


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


def test_what_is_no_document_is_left_alone(tmp_path):
    tree = small_tree(
        tmp_path,
        **{
            "README.txt": "说明",
            "体育/.hidden.txt": b"\0",
            "体育/note.md": "x",
            "__MACOSX/体育/._1.txt": b"\0",
            "图/a.png": b"\0",
        },
    )
    corpus = read_corpus(tree)
    assert len(corpus) == 80 and corpus.label_names == ["体育", "财经"]
    assert "left out, as no class folder with .txt files: 图" in said(corpus)


@pytest.mark.parametrize("name, expected", [("新闻 (1)", "新闻-1"), ("v1.2", "v1.2"), ("...", "corpus"), ("-rf", "rf")])
def test_the_name_of_a_corpus_is_fit_for_a_file_name(name, expected, tmp_path):
    assert read_corpus(small_tree(tmp_path / name)).name == expected


# Texts again


def test_texts_come_back_in_the_order_of_the_rows_asked_for(tmp_path):
    for path in (small_tree(tmp_path / "tree"), titles(tmp_path / "titles"), tnews(tmp_path / "tnews")):
        corpus = read_corpus(path, per_class=15)
        everything = corpus.texts(range(len(corpus)))
        rows = np.random.default_rng(0).integers(0, len(corpus), 100)
        assert corpus.texts(rows) == [everything[r] for r in rows]
        assert [hashlib.sha256(t.encode()).digest() for t in everything] == [d.tobytes() for d in corpus.digest]
        assert corpus.texts([]) == []


@pytest.mark.parametrize("make, old, new", [(small_tree, "正", "止"), (titles, "之", "乏"), (tnews, "train", "trait")])
def test_a_document_that_changed_meanwhile_is_refused_by_name(make, old, new, tmp_path):
    corpus = read_corpus(make(tmp_path / "corpus"))
    file = tmp_path / "corpus" / corpus.sources[0].split(":")[0]
    file.write_bytes(file.read_bytes().replace(old.encode(), new.encode()))
    with pytest.raises(BadInput, match=f"{corpus.sources[0]}.*changed"):
        corpus.texts([0])
    file.unlink()
    with pytest.raises(BadInput, match=corpus.sources[0].split(":")[0]):
        corpus.texts([0])


def test_texts_are_found_again_by_source_and_digest_and_those_that_changed_are_none(tmp_path):
    for path in (small_tree(tmp_path / "tree"), titles(tmp_path / "titles"), cnews(tmp_path / "c") / "cnews.val.txt"):
        corpus = read_corpus(path)
        rows = [50, 3, 3, 20]
        asked = [corpus.sources[r] for r in rows], corpus.digest[rows]
        assert texts_of(path, *asked) == corpus.texts(rows)
        assert texts_of(path, asked[0], corpus.digest[[50, 4, 3, 20]]) == [
            None if i == 1 else text for i, text in enumerate(corpus.texts(rows))
        ]
        assert texts_of(tmp_path / "gone", *asked) == [None] * 4


def test_replaced_documents_are_found_again(tmp_path):
    tree = small_tree(tmp_path, **{"体育/坏.txt": b"\xa3 5"})
    corpus = read_corpus(tree, on_undecodable="replace")
    row = corpus.sources.index("体育/坏.txt")
    assert texts_of(tree, [corpus.sources[row]], corpus.digest[[row]]) == ["\ufffd 5"]


def test_a_source_that_leads_out_of_the_corpus_is_not_opened(tmp_path):
    (tmp_path / "secret.txt").write_text("秘密")
    tree = small_tree(tmp_path / "tree")
    digest = np.frombuffer(hashlib.sha256("秘密".encode()).digest(), np.uint8)[None]
    for source in ("../secret.txt", str(tmp_path / "secret.txt"), "/dev/zero", "体育/../../secret.txt", "体育"):
        assert texts_of(tree, [source], digest) == [None]


# Findings


def test_copies_leaks_and_contradictions_are_counted_over_the_whole_corpus_before_per_class(tmp_path):
    titles(tmp_path)
    with open(tmp_path / "dev.txt", "a", encoding="utf-8") as file:
        file.write("train.txt 标题 0 之 0\t0\ntrain.txt 标题 0 之 1\t2\n")
    for per_class in (None, 5):
        corpus = read_corpus(tmp_path, per_class=per_class)
        found = corpus.findings.audit
        assert (found.duplicates, found.leaks, found.conflicts) == (2, 2, 1)
        assert found.leak_files == {("dev.txt", "train.txt"): 2}
    assert "45 of 362 documents in 3 classes: train 15, val 15, test 15" in said(corpus)


def test_a_class_that_train_lacks_is_said(tmp_path):
    titles(tmp_path, ids=range(2))
    with open(tmp_path / "dev.txt", "a", encoding="utf-8") as file:
        file.write("只在 dev\t2\n")
    corpus = read_corpus(tmp_path)
    assert corpus.classes_without_train() == ["stocks"]
    assert "without a document in train: stocks" in said(corpus)


# Bad input


def test_a_path_that_does_not_exist_is_named(tmp_path):
    assert "nowhere: no such corpus" in refusal(tmp_path / "nowhere")
    assert "no such corpus" in refusal("bad\0path")
    os.mkfifo(tmp_path / "pipe")
    assert "no such corpus" in refusal(tmp_path / "pipe")


def test_a_folder_without_documents_says_what_a_corpus_is(tmp_path):
    (tmp_path / "empty" / "class").mkdir(parents=True)
    assert "no .txt in it; a corpus is one folder a class" in refusal(tmp_path / "empty")
    write_tree(tmp_path / "flat", {"1.txt": "一"})
    assert "no class folders" in refusal(tmp_path / "flat")
    small_tree(tmp_path / "zip" / "THUCNews")
    assert "did you mean" in refusal(tmp_path / "zip")
    titles(tmp_path / "rest", files=("dev.txt", "test.txt"))
    assert "no train file" in refusal(tmp_path / "rest")


def test_a_single_class_is_refused_and_so_is_no_text_at_all(tmp_path):
    assert "a single class, 体育" in refusal(small_tree(tmp_path / "one", ("体育",)))
    assert "a single class, stocks" in refusal(titles(tmp_path / "titles", ids=[2]))
    assert "no document in it has text" in refusal(write_tree(tmp_path / "blank", {"甲/1.txt": "", "乙/1.txt": " "}))
    assert "no document in it has text" in refusal(write_lines(tmp_path / "none.txt", []))


def test_an_id_that_class_txt_does_not_name_is_refused_by_file_and_line(tmp_path):
    line = refusal(titles(tmp_path, names=("finance", "realty")))
    assert "train.txt:3: label id 2, but class.txt names only 0 to 1" in line


@pytest.mark.parametrize("label", ["-1", "x", "1.0", "", "９", "9" * 5000])
def test_what_is_no_id_is_refused_by_file_and_line(label, tmp_path):
    titles(tmp_path)
    write_lines(tmp_path / "dev.txt", ["好\t1"] * 9 + [f"标题\t{label}"])
    assert "dev.txt:10: " in refusal(tmp_path)


@pytest.mark.parametrize("names, line", [(("a", "", "b"), 2), (("a", "b", "a"), 3)])
def test_a_class_txt_with_a_gap_or_a_name_twice_is_refused(names, line, tmp_path):
    assert f"class.txt:{line}: " in refusal(titles(tmp_path, names=names))


def test_ids_without_class_txt_are_refused_rather_than_taken_for_names(tmp_path):
    titles(tmp_path)
    (tmp_path / "class.txt").unlink()
    assert "no class.txt" in refusal(tmp_path)


def test_a_line_without_a_tab_is_refused_by_file_and_line(tmp_path):
    lines = numbered("体育") + ["没有制表符"] + numbered("财经")
    assert "news.txt:41: no tab" in refusal(write_lines(tmp_path / "news.txt", lines))
    assert "news.txt:41: no label" in refusal(write_lines(tmp_path / "news.txt", [*lines[:40], " \t无标签"]))
    titles(tmp_path / "t")
    write_lines(tmp_path / "t" / "test.txt", ["好\t1", "坏"])
    assert "test.txt:2: no tab" in refusal(tmp_path / "t")


def test_a_binary_file_is_named(tmp_path):
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    assert "体育/p.txt: a binary file" in refusal(small_tree(tmp_path / "a", **{"体育/p.txt": png}))
    assert "体育/p.txt" in refusal(tmp_path / "a", on_undecodable="replace")
    (tmp_path / "p.txt").write_bytes(png)
    assert "p.txt: a binary file" in refusal(tmp_path / "p.txt")


@pytest.mark.parametrize(
    "line, what",
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"label": "a"}', "no text"),
        ('{"label": "a", "text": 3}', "no text"),
        ('{"text": "a"}', "no label"),
        ('{"label": null, "text": "a"}', "no label"),
        ('{"label": [1], "text": "a"}', "no label"),
        ('{"label": true, "text": "a"}', "no label"),
    ],
)
def test_a_bad_line_of_json_is_refused_by_file_and_line(line, what, tmp_path):
    lines = [json.dumps({"label": i % 2, "text": f"第 {i} 条"}) for i in range(40)]
    assert f"news.jsonl:41: {what}" in refusal(write_lines(tmp_path / "news.jsonl", [*lines, line]))


def test_two_files_for_one_split_and_files_of_two_formats_are_refused(tmp_path):
    titles(tmp_path / "a", files=("train.txt", "dev.txt", "val.txt"))
    assert "dev.txt and val.txt are both val" in refusal(tmp_path / "a")
    cnews(tmp_path / "b", ("train.txt",))
    tnews(tmp_path / "b", ("dev.json",))
    assert "different formats" in refusal(tmp_path / "b")


def test_a_link_to_nowhere_is_named_and_not_passed_over(tmp_path):
    tree = small_tree(tmp_path)
    (tree / "体育" / "zz.txt").symlink_to(tmp_path / "gone")
    assert "体育/zz.txt: can't be read" in refusal(tree)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_an_unreadable_folder_is_named(tmp_path):
    tree = small_tree(tmp_path)
    (tree / "体育").chmod(0)
    try:
        assert "体育: can't be read" in refusal(tree)
    finally:
        (tree / "体育").chmod(0o700)


def test_names_in_messages_stay_on_one_line(tmp_path):
    assert "a\\nb" in refusal(tmp_path / "a\nb")
    assert "x\\ny.txt" in refusal(small_tree(tmp_path / "t", **{"体育/x\ny.txt": b"\xff"}))


def test_too_few_documents_for_a_train_split_are_refused(tmp_path):
    # both texts belong to test by the rule
    assert "leave train empty" in refusal(write_lines(tmp_path / "news.txt", ["甲\t新闻2", "乙\t新闻3"]))
