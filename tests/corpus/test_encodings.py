"""Files that are not UTF-8: refused with what they likely are, taken one at a time, and by the mark at their start."""

import numpy as np
import pytest

from tests.corpora import documents, numbered, refusal, said, small_tree, write_lines, write_tree
from twostage.corpus.again import texts_of
from twostage.corpus.encodings import likeliest
from twostage.corpus.reader import read_corpus

CHINESE = "国足客场取胜，晋级下一轮。中国人民银行宣布下调存款准备金率，股市大涨。"
TRADITIONAL = "國足客場取勝，晉級下一輪。中央銀行宣布下調存款準備金率，股市大漲。"
FRENCH = "Le café coûte 3 £ – « déjà vu », dit-elle, naïve."


def in_encoding(folder, encoding, n=30):
    return write_tree(folder, {f"{c}/{i}.txt": f"{CHINESE}{c} {i}".encode(encoding) for c in "甲乙" for i in range(n)})


@pytest.mark.parametrize(
    "text, encoding",
    [(CHINESE, "gb18030"), (CHINESE, "gbk"), (TRADITIONAL, "big5"), (FRENCH, "cp1252"), ("a price of £5", "cp1252")],
)
def test_the_likeliest_encoding_of_a_text_is_its_own(text, encoding):
    assert likeliest(text.encode(encoding)) == ("gb18030" if encoding == "gbk" else encoding)


def test_bytes_that_are_no_writing_are_in_no_likely_encoding():
    assert likeliest(bytes(range(128, 256)) * 20) is None and likeliest(b"plain") is None


def test_a_tree_in_another_encoding_is_refused_with_the_likelier_one(tmp_path):
    line = refusal(in_encoding(tmp_path / "gb", "gb18030"))
    assert "60 files are not utf-8: " in line
    assert "all 60 decode as gb18030: --encoding gb18030, or pass --on-undecodable skip or replace" in line
    one = small_tree(tmp_path / "one", **{"体育/£.txt": b"only \xa35 today"})
    assert "it decodes as cp1252: --encoding auto takes each file in its own" in refusal(one)
    lines = write_lines(tmp_path / "old.txt", numbered("体育") + numbered("财经"), encoding="gbk")
    assert "it decodes as gb18030: --encoding gb18030" in refusal(lines)


def test_auto_takes_each_file_in_its_own_encoding_and_says_which(tmp_path):
    tree = in_encoding(tmp_path, "utf-8")
    write_tree(
        tree, {"甲/old.txt": CHINESE.encode("gbk"), "乙/old.txt": TRADITIONAL.encode("big5"), "乙/w.txt": "é".encode("utf-16")}
    )
    corpus = read_corpus(tree, encoding="auto")
    found = documents(corpus)
    assert (found["甲/old.txt"][2], found["乙/old.txt"][2], found["乙/w.txt"][2]) == (CHINESE, TRADITIONAL, "é")
    assert "encodings used: utf-8 in 60 files" in said(corpus) and "gb18030 in 1 file (the first: 甲/old.txt)" in said(corpus)
    row = corpus.sources.index("乙/old.txt")
    assert texts_of(tree, ["乙/old.txt"], corpus.digest[[row]], "auto") == [TRADITIONAL]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_a_mark_says_utf16_whatever_encoding_is_named(encoding, tmp_path):
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    tree = write_tree(tmp_path / "t", {f"{c}/{i}.txt": f"{mark}{c} ਊ {i}".encode(encoding) for c in "甲乙" for i in range(30)})
    assert documents(read_corpus(tree))["乙/7.txt"][2] == "乙 ਊ 7"
    lines = [*numbered("体育", pattern="{label}\t{label} ਊ {i}"), *numbered("财经")]
    lines[0] = mark + lines[0]
    wide = read_corpus(write_lines(tmp_path / "news.txt", lines, encoding=encoding))
    plain = read_corpus(write_lines(tmp_path / "plain" / "news.txt", lines))
    assert np.array_equal(wide.digest, plain.digest) and wide.texts([3, 40]) == plain.texts([3, 40])


def test_wide_files_without_a_mark_need_their_name(tmp_path):
    file = write_lines(tmp_path / "news.txt", numbered("体育") + numbered("财经"), encoding="utf-16-le")
    assert "a binary file" in refusal(file)
    assert read_corpus(file, encoding="utf-16").texts([3]) == ["体育 新闻 3"]
