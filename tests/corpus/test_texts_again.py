"""Texts are not kept: they are read again, by row while a corpus is in use, by source and digest ever after."""

import hashlib
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from tests.corpora import cnews, small_tree, titles, tnews
from twostage import SPLITS
from twostage.corpus.again import packed, texts_of, unpacked
from twostage.corpus.folders import readable
from twostage.corpus.reader import read_corpus
from twostage.errors import BadInput
from twostage.report.documents import KnownDocuments


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
    about, arrays = packed(corpus)
    with pytest.raises(BadInput, match=f"{corpus.sources[0]}.*not as rank 0 has read it"):
        unpacked(tmp_path / "corpus", json.loads(json.dumps(about)), arrays).texts([0])
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


def test_a_runs_test_documents_are_matched_to_rows_by_text_and_label_in_any_order(tmp_path):
    corpus = read_corpus(small_tree(tmp_path / "tree"))
    documents = KnownDocuments(SimpleNamespace(digest=corpus.digest, label=corpus.label, split_of=corpus.split), None, {})
    test = np.flatnonzero(corpus.split == SPLITS.index("test"))[::-1]
    train = np.flatnonzero(corpus.split == SPLITS.index("train"))[:1]
    asked = np.concatenate([test, train])
    run = SimpleNamespace(predictions={"digest": corpus.digest[asked], "label": corpus.label[asked]})
    assert documents.rows_of(run).tolist() == [*test.tolist(), -1]
    run.predictions["label"] = run.predictions["label"] + 1
    assert documents.rows_of(run).tolist() == [-1] * len(asked)


def test_what_cannot_be_read_is_named_as_its_user_knows_it():
    with pytest.raises(BadInput, match=r"^/nowhere/体育: can't be read \(No such file"), readable():
        os.scandir("/nowhere/体育".encode())
