"""Every way in which a corpus can be wrong, each told in one line, and text that does not decode."""

import json
import os

import numpy as np
import pytest

from tests.corpora import cnews, documents, numbered, refusal, said, small_tree, titles, tnews, write_lines, write_tree
from twostage.corpus.reader import read_corpus


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
    assert "half of a character (a lone surrogate, as \\ud83d alone) in news.json (byte " in refusal(file)
    skipped = read_corpus(file, on_undecodable="skip")
    assert (len(skipped), skipped.findings.undecodable.documents, skipped.findings.empty) == (40, 1, 0)
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


def test_a_path_that_does_not_exist_is_named(tmp_path):
    assert "nowhere: no such corpus" in refusal(tmp_path / "nowhere")
    assert "no such corpus" in refusal("bad\0path")
    os.mkfifo(tmp_path / "pipe")
    assert "neither a folder nor a regular file" in refusal(tmp_path / "pipe")


def test_a_folder_without_documents_says_what_a_corpus_is(tmp_path):
    (tmp_path / "empty" / "class").mkdir(parents=True)
    assert "no documents in it; a corpus is one folder per class" in refusal(tmp_path / "empty")
    write_tree(tmp_path / "flat", {"1.txt": "一"})
    assert "no class folders" in refusal(tmp_path / "flat")
    small_tree(tmp_path / "zip" / "THUCNews")
    assert f"did you mean {tmp_path / 'zip' / 'THUCNews'}?" in refusal(tmp_path / "zip")
    titles(tmp_path / "clone" / "data")
    assert f"a single class folder; did you mean {tmp_path / 'clone' / 'data'}?" in refusal(tmp_path / "clone")
    write_tree(tmp_path / "packed", {"train.csv.gz": b"\x1f\x8b", "README.md": "about"})
    assert "no train file, but train.csv.gz: unpack it" in refusal(tmp_path / "packed")
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
        ('{"label": "a", "text": 3}', "not a text but a number"),
        ('{"text": "a"}', "no label"),
        ('{"label": null, "text": "a"}', "no label"),
        ('{"label": [1], "text": "a"}', "not a label but a list"),
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


LINES = "".join(f"{('sport', 'money')[i % 2]}\tnews {i}\n" for i in range(40))
ROWS = "text,label\n" + "".join(f"news {i},{('sport', 'money')[i % 2]}\n" for i in range(40))


@pytest.mark.parametrize(
    "name, content, what",
    [
        ("a.txt", LINES.replace("\n", "\r"), "a.txt: lines that end in a carriage return alone"),
        ("a.csv", ROWS.replace("\n", "\r"), "a.csv: lines that end in a carriage return alone"),
        ("a.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer, not the file itself"),
        ("a.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
        ("a.csv", "<!DOCTYPE html>\n<p>404</p>\n", "a web page"),
        ("a.csv", ROWS.replace("text,label\n", "text,label,label\n").replace("y\n", "y,x\n").replace("t\n", "t,x\n"),
         'two columns are called "label"; rename one'),
        ("a.json", '{"version": 1, "data": [{"text": "a", "label": "b"}]}', 'one JSON object, whose "data" is an array'),
        ("a.json", '{\n "text": ["a", "b"],\n "label": ["c", "d"]\n}\n', 'one JSON object, whose "text" is an array'),
        ("a.jsonl", '{"text": "a\\ud83d", "label": "sport"}\n{"text": "b", "label": "money"}\n' * 20, "half of a character"),
    ],
)  # fmt: skip
def test_what_people_find_in_their_folders_is_called_by_its_name(name, content, what, tmp_path):
    (tmp_path / name).write_text(content, newline="", encoding="utf-8")
    line = refusal(tmp_path / name)
    assert what in line and "likely" not in line and "decodes as" not in line


def test_a_column_that_stands_twice_is_not_taken_by_its_number_either(tmp_path):
    (tmp_path / "a.csv").write_text("text,label,label\n" + "news,a,b\nmore,b,a\n" * 20)
    assert 'two columns are called "label"; rename one' in refusal(tmp_path / "a.csv", label="3")


def test_a_header_is_no_document_when_columns_are_given_by_number(tmp_path):
    for name, rows in (("a.csv", ROWS), ("a.tsv", ROWS.replace(",", "\t"))):
        (tmp_path / name).write_text(rows)
        corpus = read_corpus(tmp_path / name, text="1", label="2")
        assert corpus.label_names == ["money", "sport"] and len(corpus) == 40


def test_marks_in_the_middle_of_files_that_were_put_together_make_no_class(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeff" + LINES + "\ufeff" + LINES.replace("news", "more"), encoding="utf-8")
    assert read_corpus(tmp_path / "a.txt").label_names == ["money", "sport"]


def test_a_string_column_that_holds_no_utf8_is_a_line(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.array([f"news {i}".encode() + b"\xff" for i in range(40)]).view(pa.string())
    pq.write_table(pa.table({"text": texts, "label": ["a", "b"] * 20}), tmp_path / "a.parquet")
    assert "a.parquet: damaged, or written wrongly: a string in it is not UTF-8" in refusal(tmp_path / "a.parquet")
