"""Tables in every form: the same texts and labels make the same corpus; headers, quotes, columns by name or number."""

import csv
import io
import json
import os
import subprocess
import sys

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpora import documents, refusal, said, write_lines, write_tree
from twostage.corpus.again import packed, texts_of, unpacked
from twostage.corpus.reader import read_corpus
from twostage.errors import BadInput

ROWS = [(f'标题 "{i}", 逗号; 分号\t制表\n第二行 {i}', ("体育", "财经")[i % 2]) for i in range(60)]
FRAME = pd.DataFrame(ROWS, columns=["content", "category"])
WRITERS = {
    "a.csv": lambda path: FRAME.to_csv(path, index=False),
    "with-index.csv": lambda path: FRAME.to_csv(path),
    "excel.csv": lambda path: FRAME.to_csv(path, index=False, sep=";", encoding="utf-8-sig", lineterminator="\r\n"),
    "unicode.csv": lambda path: FRAME.to_csv(path, index=False, encoding="utf-16"),
    "polars.csv": lambda path: pl.from_pandas(FRAME).write_csv(path),
    "all-quoted.tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t", quoting=csv.QUOTE_ALL),
    "a.tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    "array.json": lambda path: FRAME.to_json(path, orient="records", indent=2),
    "one-line.json": lambda path: FRAME.to_json(path, orient="records", force_ascii=False),
    "lines.jsonl": lambda path: FRAME.to_json(path, orient="records", lines=True),
    "a.parquet": lambda path: FRAME.to_parquet(path, row_group_size=7),
    "indexed.parquet": lambda path: FRAME.set_index("category").to_parquet(path),
    "saved": lambda path: datasets.Dataset.from_pandas(FRAME).save_to_disk(path),
    "encoded": lambda path: datasets.Dataset.from_pandas(FRAME).class_encode_column("category").save_to_disk(path),
    "encoded.parquet": lambda path: datasets.Dataset.from_pandas(FRAME).class_encode_column("category").to_parquet(path),
}
HELD = {
    "pandas": lambda: FRAME,
    "pandas categories": lambda: FRAME.astype({"category": "category"}),
    "polars": lambda: pl.from_pandas(FRAME),
    "arrow": lambda: pa.Table.from_pandas(FRAME),
    "dataset": lambda: datasets.Dataset.from_pandas(FRAME),
    "dataset as numpy": lambda: datasets.Dataset.from_pandas(FRAME).class_encode_column("category").with_format("numpy"),
    "series": lambda: (FRAME.content, FRAME.category),
    "lists": lambda: ([text for text, _ in ROWS], np.array([label for _, label in ROWS])),
    "columns": lambda: {"content": list(FRAME.content), "category": list(FRAME.category)},
}


def same(corpus):
    """What must not depend on the form."""
    texts = corpus.texts(range(len(corpus)))
    return texts, corpus.label_names, corpus.label.tolist(), corpus.split.tolist(), corpus.characters.tolist()


@pytest.fixture(scope="module")
def expected():
    corpus = read_corpus(([text for text, _ in ROWS], [label for _, label in ROWS]))
    assert corpus.texts([3]) == [ROWS[3][0]]
    return same(corpus)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_any_form_holds_the_same_corpus_and_its_texts_are_found_again(name, expected, tmp_path):
    WRITERS[name](tmp_path / name)
    corpus = read_corpus(tmp_path / name)
    assert same(corpus) == expected
    assert 'text from "content", label from "category"' in said(corpus)
    rows = [7, 3, 3, 50]
    asked = [corpus.sources[row] for row in rows], corpus.digest[rows]
    assert texts_of(tmp_path / name, *asked) == corpus.texts(rows) == [ROWS[row][0] for row in rows]
    about, arrays = packed(corpus)  # for another process
    assert unpacked(tmp_path / name, json.loads(json.dumps(about)), arrays).texts(rows) == corpus.texts(rows)


@pytest.mark.parametrize("name", HELD)
def test_a_table_that_the_caller_holds_is_the_same_corpus(name, expected):
    corpus = read_corpus(HELD[name](), name="news")
    assert same(corpus) == expected
    assert (corpus.name, corpus.path, corpus.sources[5]) == ("news", None, "rows[5]")
    about, arrays = packed(corpus)
    assert unpacked(corpus, json.loads(json.dumps(about)), arrays).texts([5]) == corpus.texts([5])
    with pytest.raises(BadInput, match="not as rank 0 has it"):
        unpacked(read_corpus(HELD[name](), per_class=5), about, arrays)


def test_a_tree_holds_the_same_digests_labels_and_splits(expected, tmp_path):
    tree = read_corpus(write_tree(tmp_path, {f"{label}/{i:02}.txt": text for i, (text, label) in enumerate(ROWS)}))
    texts, names, label, split, _ = expected
    order = sorted(range(60), key=lambda i: (ROWS[i][1], i))
    assert tree.texts(range(60)) == [texts[i] for i in order] and tree.label_names == names
    assert (tree.label.tolist(), tree.split.tolist()) == ([label[i] for i in order], [split[i] for i in order])


def test_splits_come_from_files_folders_dictionaries_shards_or_a_column(tmp_path):
    frame = FRAME.assign(split=["train"] * 40 + ["validation"] * 10 + ["TEST"] * 10)
    parts = {"train": FRAME[:40], "dev": FRAME[40:50], "test": FRAME[50:]}
    (tmp_path / "files").mkdir()
    (tmp_path / "hub").mkdir()
    for name, part in parts.items():
        part.to_csv(tmp_path / "files" / f"{name}.csv", index=False)
        for i in range(2):
            part[i::2].to_parquet(tmp_path / "hub" / f"{name}-0000{i}-of-00002.parquet")
    frame.to_csv(tmp_path / "one.csv", index=False)
    saved = datasets.DatasetDict({name: datasets.Dataset.from_pandas(part) for name, part in parts.items()})
    saved["validation"] = saved.pop("dev")
    saved.save_to_disk(tmp_path / "saved")
    splits = [0] * 40 + [1] * 10 + [2] * 10
    for source in (tmp_path / "files", tmp_path / "one.csv", tmp_path / "saved", saved, parts, frame):
        assert read_corpus(source).split.tolist() == splits
    assert np.bincount(read_corpus(tmp_path / "hub").split).tolist() == [40, 10, 10]
    assert 'split by column "split"' in said(read_corpus(frame)) and "split by its files" in said(
        read_corpus(tmp_path / "files")
    )
    frame["part"] = frame.pop("split")
    assert read_corpus(frame, split="part").split.tolist() == splits
    assert "split by text digest" in said(read_corpus(frame))
    frame.loc[7, "part"] = "fold 3"
    assert '"fold 3" in column "part" is not train, val or test' in refusal(frame, split="part")


def test_text_columns_are_joined_with_a_newline_without_the_empty_ones(tmp_path):
    frame = pd.DataFrame({"title": ["甲", None, "丙"] * 10, "body": [f"正文 {i}" for i in range(30)], "label": ["a", "b"] * 15})
    frame.to_csv(tmp_path / "a.csv", index=False)
    for source in (frame, tmp_path / "a.csv"):
        corpus = read_corpus(source, text=["title", "body"])
        assert corpus.texts([0, 1]) == ["甲\n正文 0", "正文 1"]
    told = (
        'the text may be "title" or "body"; say which: --text-column NAME; title body joins them'  # in the order of the table
    )
    assert told in refusal(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "columns, options, what",
    [
        (
            ["a", "label"],
            {},
            'no column is plainly the text: --text-column NAME --label-column NAME; the columns are "a", "label"',
        ),
        (["text", "b"], {}, 'no column is plainly the label: --label-column NAME; the columns are "text", "b"'),
        (["text", "label"], {"text": "body"}, 'no column "body"; the columns are "text", "label"'),
        (["text", "label"], {"text": "label"}, 'column "label" can\'t be both text and label'),
        (["text", "topic", "intent"], {}, 'the label may be "topic" or "intent"; say which: --label-column NAME'),
    ],
)
def test_what_is_not_plain_is_refused_with_the_columns_there_are(columns, options, what, tmp_path):
    pd.DataFrame([["x"] * len(columns)] * 3, columns=columns).to_csv(tmp_path / "a.csv", index=False)
    assert what in refusal(tmp_path / "a.csv", **options)


def test_a_frame_whose_columns_are_numbers_takes_those_for_names():
    frame = pd.DataFrame([[f"text {i}", "ab"[i % 2]] for i in range(40)])
    corpus = read_corpus(frame, text=0, label=1)
    assert corpus.label_names == ["a", "b"] and corpus.texts([0]) == ["text 0"]
    assert (read_corpus(frame, text=[0], label="1").digest == corpus.digest).all()


@pytest.mark.parametrize("named", ["label_text", "label_desc", "label_des", "label_name"])
def test_numbers_take_their_names_from_the_column_beside_them(named):
    rows = [{"label": i % 2, named: ("neg", "pos")[i % 2], "sentence": f"text {i}"} for i in range(30)]
    assert read_corpus(pd.DataFrame(rows)).label_names == ["neg", "pos"]


def test_numbers_take_their_names_from_class_txt(tmp_path):
    (tmp_path / "class.txt").write_text("zebra\nape\ncat")
    pd.DataFrame({"text": [f"t {i}" for i in range(30)], "label": [i % 2 for i in range(30)]}).to_csv(tmp_path / "train.csv")
    corpus = read_corpus(tmp_path)
    assert corpus.label_names == ["zebra", "ape", "cat"] and documents(corpus)["train.csv:3"][0] == "ape"


@pytest.mark.parametrize(
    "labels, names",
    [
        ([True, False], ["False", "True"]),
        ([1.0, 0.0], ["0", "1"]),
        ([-1, 1], ["-1", "1"]),
        ([0.5, 2.0], ["0.5", "2"]),
        ([" a", "a "], None),
    ],
)
def test_labels_of_other_types_are_named_alike_in_a_frame_and_in_its_csv(labels, names, tmp_path):
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(30)], "label": labels * 15})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    for source in (frame, pl.from_pandas(frame), tmp_path / "a.csv", tmp_path / "a.parquet"):
        if names is None:
            assert "a single class, a" in refusal(source)
        elif isinstance(labels[0], bool) or not str(source).endswith("polars"):
            assert read_corpus(source).label_names == names


def test_rows_without_text_are_counted_and_rows_without_a_label_refused_with_their_number(tmp_path):
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(30)], "label": ["a", "b"] * 15})
    frame.loc[[3, 4], "text"] = None
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    for source in (frame, tmp_path / "a.csv", tmp_path / "a.parquet", pl.from_pandas(frame)):
        corpus = read_corpus(source)
        assert len(corpus) == 28 and corpus.findings.empty == 2
    frame.loc[[7, 9], "label"] = None
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert "a.csv:9: no label, nor in 1 more row; fill it in, or take the row out" in refusal(tmp_path / "a.csv")
    assert "rows[7]: no label" in refusal(frame)


@pytest.mark.parametrize(
    "label, what", [(["a"], "not a label but a list"), ({"x": 1}, "not a label but an object"), (b"a", "not a label but bytes")]
)
def test_a_label_that_is_none_is_refused(label, what):
    assert what in refusal(([f"t {i}" for i in range(9)], ["a", "b"] * 4 + [label]))


def test_unlabelled_test_tables_are_left_out_and_said(tmp_path):
    labelled = pd.DataFrame({"idx": range(30), "sentence": [f"s {i}" for i in range(30)], "label": [0, 1] * 15})
    labelled.to_csv(tmp_path / "train.tsv", sep="\t", index=False)
    labelled[["idx", "sentence"]].to_csv(tmp_path / "test.tsv", sep="\t", index=False)
    assert "test.tsv has no labels: left out" in said(read_corpus(tmp_path))
    labelled.assign(label=-1).to_csv(tmp_path / "test.tsv", sep="\t", index=False)
    corpus = read_corpus(tmp_path)
    assert "test.tsv has no labels but -1: left out" in said(corpus) and corpus.label_names == ["0", "1"]
    names = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    train = datasets.Dataset.from_dict({"text": [f"s {i}" for i in range(30)], "label": [0, 1] * 15}, features=names)
    test = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [-1, -1]}, features=names)
    corpus = read_corpus({"train": train, "test": test})
    assert "test has no labels: left out" in said(corpus) and corpus.label_names == ["neg", "pos"]


def test_minus_one_is_a_class_where_train_has_it(tmp_path):
    signs = pd.DataFrame({"text": [f"s {i}" for i in range(30)], "label": [1, -1] * 15})
    signs.to_csv(tmp_path / "train.csv", index=False)
    signs.assign(label=-1).to_csv(tmp_path / "test.csv", index=False)
    corpus = read_corpus(tmp_path)
    assert corpus.label_names == ["-1", "1"] and len(corpus) == 60


def test_classes_that_look_like_one_are_named(tmp_path):
    labels = ["Sport", "sport", "money", "ｍoney", "art"] * 12
    corpus = read_corpus(([f"t {i}" for i in range(60)], labels))
    assert len(corpus.label_names) == 5
    assert "alone: 'Sport' and 'sport'; 'money' and 'ｍoney'" in said(corpus)
    assert "alone" not in said(read_corpus(([f"t {i}" for i in range(60)], ["Sport", "art"] * 30)))


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_the_line_in_which_a_spreadsheet_names_its_delimiter_is_no_header(delimiter, tmp_path):
    rows = [f'"news; {i}, more"{delimiter}{("sport", "money")[i % 2]}' for i in range(30)]
    write_lines(tmp_path / "a.csv", [f"sep={delimiter}", f"text{delimiter}label", *rows], encoding="utf-8-sig")
    corpus = read_corpus(tmp_path / "a.csv")
    assert corpus.label_names == ["money", "sport"] and len(corpus) == 30 and corpus.findings.empty == 0
    assert corpus.texts([0, 29]) == ["news; 0, more", "news; 29, more"] and corpus.sources[0] == "a.csv:3"


# Tables without a header, and headers where there were none before


def lines(pattern, n=60):
    return [pattern.format(i=i, n=i % 2, name=("money", "sport")[i % 2], sign=(-1, 1)[i % 2]) for i in range(n)]


@pytest.mark.parametrize(
    "header, pattern, names",
    [
        ("sentence\tlabel", "a film of wit {i}\t{n}", ["0", "1"]),
        ("label\ttext_a", "{n}\ta film of wit {i}", ["0", "1"]),
        ("qid\tlabel\ttext_a", "{i}\t{n}\ta film of wit {i}", ["0", "1"]),
        ("Label\tText", '{n}.0\t"said ""{i}"""', ["0", "1"]),
        ("类别\t标题", "{name}\t标题 {i}", ["money", "sport"]),
        (None, "a film of wit {i}\t{name}", ["money", "sport"]),
        (None, "{name}\ta film of wit {i}", ["money", "sport"]),
        (None, "{name}\ta film\tof wit {i}", ["money", "sport"]),
    ],
)
def test_the_columns_of_tab_lines_are_known_by_their_header_or_by_what_repeats(header, pattern, names, tmp_path):
    file = write_lines(tmp_path / "train.txt", [header] * bool(header) + lines(pattern))
    corpus = read_corpus(file)
    assert corpus.label_names == names and len(corpus) == 60
    assert 'said "1"' in corpus.texts([1])[0] or "wit" in corpus.texts([1])[0] or "标题 1" in corpus.texts([1])[0]


@pytest.mark.parametrize(
    "pattern, what",
    [
        ("a film of wit {i}\t{sign}", "no class.txt beside it names the ids"),
        ("a film of wit {i}\t{n}.0", "no class.txt beside it names the ids"),
        ("a film of wit {i}\t{n}\t", "lines of 3 columns and no header"),
        ("{name}\t{n}\t\ta film of wit {i}", "lines of 4 columns and no header"),
        ("a film of wit {i}\t{n}\t7{i}", "lines of 3 columns and no header"),  # a number of each row is no text
    ],
)
def test_what_is_not_plain_without_a_header_is_refused_and_read_by_number(pattern, what, tmp_path):
    file = write_lines(tmp_path / "news.tsv", lines(pattern))
    line = refusal(file)
    assert what in line and "--text-column" in line
    text = 4 if "wit" in pattern.rsplit("\t", 1)[1] else 1
    corpus = read_corpus(file, text=str(text), label="2")
    assert len(corpus) == 60 and len(corpus.label_names) == 2 and corpus.texts([7]) == ["a film of wit 7"]


def test_a_header_of_unknown_names_is_no_document(tmp_path):
    file = write_lines(tmp_path / "kind.tsv", ["body\tkind", *lines("a film of wit {i}\t{name}")])
    assert "kind.tsv:1: a header? No other line has the label 'kind'; name the columns (--text-column body" in refusal(file)
    named, numbered = read_corpus(file, text="body", label="kind"), read_corpus(file, text="1", label="2")
    assert (len(named), len(numbered)) == (60, 61) and numbered.label_names == ["kind", "money", "sport"]


def test_a_header_of_unknown_names_over_three_columns_or_more_is_no_document(tmp_path):
    rows = ["index\tsentence1\tsentence2\tgold_label", *lines("{i}\ta film of wit {i}\tit bores {i}\t{name}")]
    file = write_lines(tmp_path / "mnli.tsv", rows)
    line = refusal(file)
    assert "no column is plainly the text" in line and '"index", "sentence1", "sentence2", "gold_label"' in line
    corpus = read_corpus(file, text=["sentence1", "sentence2"], label="gold_label")
    assert len(corpus) == 60 and corpus.texts([7]) == ["a film of wit 7\nit bores 7"]


def test_half_a_character_in_a_table_in_memory_is_a_line(tmp_path):
    for text, label in (("wit\ud800", "a"), ("wit", "a\ud800")):
        assert "rows[1]: half of a character" in refusal((["film", text, "film"] * 20, ["b", label, "b"] * 20))


def test_a_header_in_another_encoding_is_refused_with_it(tmp_path):
    FRAME.rename(columns={"content": "标题", "category": "类别"}).to_csv(tmp_path / "a.csv", index=False, encoding="gbk")
    assert "its header is not utf-8 (byte 0); the file decodes as gb18030: --encoding gb18030" in refusal(tmp_path / "a.csv")


def test_a_csv_without_a_header_is_refused_and_read_by_number(tmp_path):
    file = write_lines(tmp_path / "ag.csv", lines('"{n}","Stocks, up {i}","Reuters - {i}"'))
    assert "no column is plainly the text" in refusal(file) and "if that is no header, give their numbers: 1, 2" in refusal(
        file
    )
    corpus = read_corpus(file, text=["2", "3"], label="1")
    assert len(corpus) == 60 and corpus.texts([0]) == ["Stocks, up 0\nReuters - 0"]


def test_texts_taken_for_labels_are_refused_with_the_way_to_name_columns(tmp_path):
    many = write_lines(tmp_path / "many.txt", [f"text number {i}\tbody {i}" for i in range(60)])
    assert "60 documents in 60 classes" in refusal(many) and "--label-column NAME" in refusal(many)
    long = pd.DataFrame(
        {"text": ["a", "b", "c"] * 20, "label": ["a long sentence about wit", "another one, longer still"] * 30}
    )
    assert "the labels are longer than the texts" in refusal(long)
    assert len(read_corpus(long, text="text", label="label")) == 60


def test_quotes_that_mean_nothing_stay_in_the_text(tmp_path):
    rows = ['"hello world\t0', 'world" says he\t1', '"quoted whole"\t0', *lines("plain {i}\t{n}")]
    corpus = read_corpus(write_lines(tmp_path / "dev.tsv", ["sentence\tlabel", *rows]))
    assert corpus.texts([0, 1, 2]) == ['"hello world', 'world" says he', '"quoted whole"'] and len(corpus) == 63


@pytest.mark.parametrize(
    "bad, what",
    [
        ('a,"open', "a.csv:62: not CSV"),
        ("a,b,c", "a.csv:62: 3 columns where the header has 2"),
        ("a", "a.csv:62: 1 column where the header has 2"),
    ],
)
def test_a_malformed_record_is_refused_by_its_number(bad, what, tmp_path):
    file = write_lines(tmp_path / "a.csv", ["text,label", *lines("film {i},{name}"), bad, *lines("more {i},{name}", 9)])
    assert what in refusal(file)


FIELDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(FIELDS.filter(str.strip), min_size=3, max_size=12),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_text_survives_a_csv_writer(tmp_path_factory, texts, delimiter, end, quoting):
    if quoting == csv.QUOTE_MINIMAL:  # which leaves a carriage return unquoted
        texts = [text.replace("\r", "x") for text in texts]
    folder = tmp_path_factory.mktemp("csv")
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(["text", "label"])
    writer.writerows([text, "ab"[i % 2]] for i, text in enumerate(texts + [f"filler {i}" for i in range(20)]))
    (folder / "a.csv").write_bytes(out.getvalue().encode())
    corpus = read_corpus(folder / "a.csv")
    assert corpus.texts(range(len(texts))) == texts


# Files that are something else


def test_files_of_other_kinds_are_named_with_what_to_do(tmp_path):
    for name, head, what in [
        ("a.xlsx", b"PK\x03\x04", "an Excel workbook"), ("a.csv.gz", b"\x1f\x8b\x08", "gzip"), ("a.parquet", b"PAR1", "Parquet"),
    ]:  # fmt: skip
        (tmp_path / name).write_bytes(head + b"rest")
        assert f"{name}: " in refusal(tmp_path / name) and what in refusal(tmp_path / name)
    for orient in ("columns", "index", "split", "table"):
        FRAME.to_json(tmp_path / "a.json", orient=orient)
        assert "orient='records'" in refusal(tmp_path / "a.json")
    assert "not a corpus but of type int; give a path, a data frame" in refusal(5)
    assert "2 texts but 1 labels" in refusal((["a", "b"], ["c"]))


@pytest.mark.parametrize(
    "text", ['[{"text": "a", "label": "b"}', '[{"text": "a"} {"text": "b"}]', "[1, 2]", '[{"text": "a", "lab']
)
def test_a_broken_array_is_refused_by_its_element(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    assert "a.json:" in refusal(tmp_path / "a.json")


def test_elements_of_an_array_are_found_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("twostage.corpus.json_records.BLOCK", 7)
    (tmp_path / "a.json").write_text(
        json.dumps([{"text": f"标题 {i} }}] 😀", "label": "ab"[i % 2]} for i in range(40)], indent=1)
    )
    corpus = read_corpus(tmp_path / "a.json")
    assert corpus.texts([0, 39]) == ["标题 0 }] 😀", "标题 39 }] 😀"]


def test_a_missing_pyarrow_says_its_pip_line(tmp_path):
    FRAME.to_parquet(tmp_path / "a.parquet")
    program = (
        "import sys; sys.modules['pyarrow'] = None; from twostage.corpus.reader import read_corpus; read_corpus(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "a.parquet"], capture_output=True, text=True, timeout=60)
    assert "pip install 'twostage[data]'" in done.stderr


def test_a_row_that_changed_meanwhile_is_refused(tmp_path):
    frame = FRAME.copy()
    held = read_corpus(frame)
    frame.loc[3, "content"] = "anders"
    with pytest.raises(Exception, match=r"rows\[3\]: changed while it was in use"):
        held.texts([3])
    FRAME.to_csv(tmp_path / "a.csv", index=False)
    corpus = read_corpus(tmp_path / "a.csv")
    os.truncate(tmp_path / "a.csv", 100)
    with pytest.raises(Exception, match="a.csv:61: changed while it was in use"):
        corpus.texts([59])
