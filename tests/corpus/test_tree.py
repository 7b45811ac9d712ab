"""Trees as they are found: splits above or below the classes, any suffix, other things among the documents."""

import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest

from tests.corpora import documents, refusal, said, small_tree, write_tree
from twostage.corpus.reader import read_corpus


def reviews(folder, pattern="{split}/{name}/{i}_7.txt", splits=("train", "test"), **more):
    names = [(s, c, i) for s in splits for c in ("neg", "pos") for i in range(30)]
    return write_tree(folder, {pattern.format(split=s, name=c, i=i): f"{s} {c} {i}" for s, c, i in names} | more)


@pytest.mark.parametrize("pattern", ["{split}/{name}/{i}.txt", "{name}/{split}/{i}.txt", "{split}/{name}/more/{i}"])
def test_split_folders_above_or_below_the_class_folders_are_splits(pattern, tmp_path):
    corpus = read_corpus(reviews(tmp_path, pattern))
    assert corpus.label_names == ["neg", "pos"] and len(corpus) == 120
    assert "in split folders, val carved from train" in said(corpus)
    assert documents(corpus)[pattern.format(split="test", name="pos", i=3)] == ["pos", "test", "test pos 3"]


@pytest.mark.parametrize("splits", [("training", "testing"), ("20news-bydate-train", "20news-bydate-test"), ("Train", "Eval")])
def test_split_folders_have_the_names_that_people_give_them(splits, tmp_path):
    corpus = read_corpus(reviews(tmp_path, splits=splits, **{f"{splits[0]}/urls.txt": "http://example.org"}))
    assert corpus.label_names == ["neg", "pos"] and len(corpus) == 120
    assert documents(corpus)[f"{splits[0]}/neg/3_7.txt"][1] == "train"


def test_reviews_without_a_label_are_no_class(tmp_path):
    corpus = read_corpus(reviews(tmp_path, **{f"train/unsup/{i}_0.txt": f"no label {i}" for i in range(30)}))
    assert corpus.label_names == ["neg", "pos"] and len(corpus) == 120
    assert "left out: 1 beside the class folders (train/unsup)" in said(corpus)


def test_a_link_to_the_folder_that_it_stands_in_is_no_class(tmp_path):
    tree = small_tree(tmp_path)
    (tree / "self").symlink_to(".")
    (tree / "up").symlink_to(tmp_path)
    corpus = read_corpus(tree)
    assert corpus.label_names == ["体育", "财经"] and len(corpus) == 80
    assert "left out: 2 beside the class folders (self, up)" in said(corpus)


def test_a_class_may_be_called_like_a_split_inside_a_split(tmp_path):
    texts = {f"{s}/{c}/{i}.txt": f"{s} {c} {i}" for s in ("train", "dev") for c in ("test", "comp.train") for i in range(20)}
    corpus = read_corpus(write_tree(tmp_path, texts))
    assert corpus.label_names == ["comp.train", "test"] and len(corpus) == 80


def test_files_beside_class_folders_are_no_documents_and_are_named(tmp_path):
    more = {f"{s}/urls_{c}.txt": "http://example.org" for s in ("train", "test") for c in ("neg", "pos")}
    corpus = read_corpus(reviews(tmp_path, **more, **{"README": "x", "imdb.vocab": "y"}))
    assert corpus.label_names == ["neg", "pos"] and len(corpus) == 120
    assert "6 beside the class folders (README, imdb.vocab, test/urls_neg.txt, …)" in said(corpus)


def test_classes_that_are_called_like_splits_stay_classes(tmp_path):
    sources = [f"{c}/{i}.txt" for c in ("train", "plane", "test") for i in range(20)]
    corpus = read_corpus(write_tree(tmp_path, {s: f"about {s}" for s in sources} | {"train/old/1.txt": "about steam"}))
    assert corpus.label_names == ["plane", "test", "train"] and len(corpus) == 61


@pytest.mark.parametrize("suffixes", [("",), (".md",), ("", ".md", ".txt"), (".story", ".html"), (".TXT",)])
def test_documents_have_any_suffix_that_text_files_have(suffixes, tmp_path):
    texts = {f"{c}/{i}{suffixes[i % len(suffixes)]}": f"{c} {i}" for c in ("sci.space", "rec.autos") for i in range(30)}
    assert len(read_corpus(write_tree(tmp_path, texts))) == 60


def test_a_class_whose_files_all_have_another_suffix_is_read(tmp_path):
    tree = small_tree(tmp_path, n=200, **{f"时政/{i}.md": f"时政 {i}" for i in range(5)})
    assert read_corpus(tree).label_names == ["体育", "时政", "财经"]


def test_folders_inside_class_folders_belong_to_the_class(tmp_path):
    deep = {f"体育/2021/x.txt/{i}.txt": f"深 {i}" for i in range(9)} | {f"时政/2021/{i}.txt": f"时政 {i}" for i in range(9)}
    corpus = read_corpus(small_tree(tmp_path, **deep))
    assert len(corpus) == 98 and corpus.label_names == ["体育", "时政", "财经"]
    assert documents(corpus)["体育/2021/x.txt/3.txt"][0] == "体育"


def test_folders_may_lie_deeper_than_python_calls_itself(tmp_path):
    small_tree(tmp_path / "news", ("体育", "财经"))
    folders = [tmp_path / "news" / "体育"]
    for _ in range(1200):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    assert len(read_corpus(tmp_path / "news")) == 80
    assert "no documents in it" in refusal(folders[1])
    (folders[-1] / "深.txt").write_text("深处的新闻", encoding="utf-8")
    assert len(read_corpus(tmp_path / "news")) == 81
    (folders[-1] / "深.txt").unlink()
    for folder in folders[:0:-1]:  # what pytest's own cleaning could not
        folder.rmdir()


def test_what_is_no_document_is_counted_and_named(tmp_path):
    more = {"README.txt": "说明", "体育/.hidden.txt": b"\0", "体育/note.md": "x", "__MACOSX/体育/._1.txt": b"\0"}
    tree = small_tree(tmp_path, **more, **{"图/a.png": b"\0", **{f"财经/{i}.png": b"\x89PNG\0" for i in range(40)}})
    os.mkfifo(tree / "体育" / "pipe.txt")
    corpus = read_corpus(tree)
    assert len(corpus) == 80 and corpus.label_names == ["体育", "财经"]
    assert (
        "left out: 1 hidden (体育/.hidden.txt); 1 not a regular file (体育/pipe.txt); "
        "41 of another kind (体育/note.md, 财经/0.png, 财经/1.png, …); 2 beside the class folders (README.txt, 图)"
    ) in said(corpus)
    plain = read_corpus(small_tree(tmp_path / "plain"))
    assert plain.sources == corpus.sources and "left out" not in said(plain)


def test_a_class_written_in_two_unicode_forms_is_one_and_called_as_it_was_first_seen(tmp_path):
    nfc, nfd = "Café", unicodedata.normalize("NFD", "Café")
    texts = {f"{s}/{c}/{i}.txt": f"{s} {c} {i}" for s, c in (("test", nfd), ("train", nfc)) for i in range(20)}
    texts |= {f"{s}/Bar/{i}.txt": f"{s} Bar {i}" for s in ("test", "train") for i in range(20)}
    assert read_corpus(write_tree(tmp_path / "a", texts)).label_names == ["Bar", nfd]
    lines = [f"{name}\t{name} {i}" for i in range(30) for name in (nfc, nfd, "Bar")]
    (tmp_path / "news.txt").write_text("\n".join(lines), encoding="utf-8")
    corpus = read_corpus(tmp_path / "news.txt")
    assert corpus.label_names == ["Bar", nfc]
    assert np.bincount(corpus.label).tolist() == [30, 60]


def test_sources_are_the_bytes_of_the_names_in_every_locale(tmp_path):
    tree = small_tree(tmp_path / "新闻")
    os.mkdir(os.path.join(os.fsencode(tree), "时政".encode("gbk")))
    for i in range(5):
        with open(os.path.join(os.fsencode(tree), "时政".encode("gbk"), b"%d.txt" % i), "wb") as file:
            file.write(f"时政 {i}".encode())
    program = (
        "import os, sys; from twostage.corpus.reader import read_corpus; c = read_corpus(sys.argv[1]);"
        "print(len(c.texts(range(len(c)))), ascii((os.fsencode(c.name), c.sources, c.label_names)), sys.getfilesystemencoding())"
    )
    seen = []
    for locale in ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONUTF8": "1"}):
        command = [sys.executable, "-c", program, os.fsencode(tree)]
        done = subprocess.run(command, env=os.environ | locale, capture_output=True, text=True, check=True, timeout=60)
        seen.append(done.stdout.split())
    assert seen[0][:-1] == seen[1][:-1] and (seen[0][-1], seen[1][-1]) == ("ascii", "utf-8")


def test_as_many_classes_as_documents_are_refused(tmp_path):
    line = refusal(write_tree(tmp_path, {f"doc{i}/text.txt": f"text {i}" for i in range(20)}))
    assert "20 documents in 20 classes ('doc0' is one); put the documents of a class into one folder" in line
