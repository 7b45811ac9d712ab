"""What a cache is a cache of, and how a difference is told."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.stage import make_identity
from twostage.cache.differences import explain
from twostage.cache.identity import cache_path, decode_names, encode_names
from twostage.cache.reader import open_cache
from twostage.cache.reuse import nearest_cache
from twostage.cache.writer import CacheWriter
from twostage.encoder.settings import ENCODER_FIELDS, differences
from twostage.errors import BadInput


def test_the_fingerprint_depends_on_every_field():
    one = make_identity(70)
    changed = [
        *(replace(one, encoder={**one.encoder, name: 2 if name in ("max_length", "format") else "other"}) for name in ENCODER_FIELDS),
        replace(one, encoder={**one.encoder, "prefix": "query: "}),
        replace(one, store_dtype="float32"),
        replace(one, hidden_size=9),
        replace(one, label_names=[*one.label_names[:3], "neu"]),
        replace(one, digest=one.digest[::-1]),
        replace(one, label=(one.label + 1) % 4),
        replace(one, split=(one.split + 1) % 3),
        replace(one, sources=["x", *one.sources[1:]]),
        make_identity(71),
    ]  # fmt: skip
    prints = {other.fingerprint for other in [one, *changed]}
    assert len(prints) == len(changed) + 1
    assert make_identity(70).fingerprint == one.fingerprint


def test_sources_that_share_their_bytes_differently_are_another_corpus():
    one = make_identity(2)
    assert replace(one, sources=["ab", "c"]).fingerprint != replace(one, sources=["a", "bc"]).fingerprint


def test_the_fingerprint_of_this_format_never_changes():
    """Whoever changes it makes every cache out there unusable, and adds to FORMATS."""
    assert make_identity(70).fingerprint == "6f31de227e9b255b8ae3c1cb797f028445072ccf4f0a31d7ed3ba5fc53571f4f"


def test_the_file_is_named_after_corpus_model_and_fingerprint(tmp_path):
    one = make_identity(3)
    assert cache_path(tmp_path, "news", "bert", one) == tmp_path / f"news-bert-{one.fingerprint[:8]}.h5"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=5)))
def test_any_label_names_survive_or_are_refused_in_words(names):
    if decode_names(encode_names(names)) == names:
        return
    with pytest.raises(BadInput, match="two surrogates"):
        make_identity_with(names)


def test_names_nested_too_deep_are_none():
    with pytest.raises(ValueError, match="too deep"):
        decode_names(b"[" * 100_000)


def make_identity_with(names):
    return replace(make_identity(1), label_names=names)


ODD = ["", "a\0b", "\0", "体育" * 20_000, "lone \ud800", "\udcff\udcfe", '\n\t\\"', "😀"]


def test_odd_names_and_sources_come_back_as_they_went_in(tmp_path):
    one = replace(make_identity(len(ODD)), label_names=ODD, label=np.arange(len(ODD)), sources=ODD)
    write(tmp_path / "odd.h5", one)
    with open_cache(tmp_path / "odd.h5") as cache:
        assert cache.label_names == ODD
        assert cache.sources == ODD


def test_sources_may_all_be_empty(tmp_path):
    one = replace(make_identity(3), sources=["", "", ""])
    write(tmp_path / "empty.h5", one)
    assert open_cache(tmp_path / "empty.h5").sources == ["", "", ""]


def test_an_empty_corpus_is_refused():
    one = make_identity(1)
    with pytest.raises(BadInput, match="no document"):
        replace(one, digest=one.digest[:0], label=one.label[:0], split=one.split[:0], sources=[])


def test_differences_name_the_field_and_both_values():
    one = make_identity(1).encoder
    other = {**one, "max_length": 512, "weights": hashlib.sha256(b"").hexdigest()}
    assert differences(one, other) == ["weights: cache aaaaaaaaaaaa…, asked e3b0c44298fc…", "max_length: cache 64, asked 512"]
    assert differences(one, dict(one)) == []
    assert differences({"a": 1}, {"b": 2}, ("run", "model")) == ["a: run 1, model none", "b: run none, model 2"]


def test_documents_are_explained_in_words():
    one, grown = make_identity(100), make_identity(110)
    assert explain(one, grown) == ["documents: cache 100, asked 110 (10 new, 0 gone)"]
    assert explain(grown, one) == ["documents: cache 110, asked 100 (0 new, 10 gone)"]
    assert explain(one, one) == []


def test_another_order_is_said_and_hides_no_relabelling():
    one = make_identity(100)
    back = replace(one, digest=one.digest[::-1], label=one.label[::-1], split=one.split[::-1], sources=one.sources[::-1])
    assert explain(one, back) == ["order: the same 100 documents in a different order"]
    label = back.label.copy()
    label[7] = (label[7] + 1) % 4
    assert [line.split(":")[0] for line in explain(one, replace(back, label=label))] == ["order", "label"]


def test_changed_labels_splits_sources_and_names_are_explained():
    one = make_identity(10)
    label, split, sources = one.label.copy(), one.split.copy(), list(one.sources)
    label[4], split[[5, 6]], sources[7] = 1, 2 - split[[5, 6]] // 2, "moved.txt"
    other = replace(one, label=label, split=split, sources=sources, label_names=["体育", "", "x", "y"])
    told = explain(one, other)
    assert told[0] == "label_names: cache 4, asked 4 (new x, y; gone 'a\\x00b', 'lone \\ud800')"
    assert any(line.startswith("source: 1 document differs") and "moved.txt" in line for line in told)
    assert any(line.startswith("split: ") for line in told)
    assert any(line.startswith("label: ") for line in told)
    for line in told:
        line.encode()  # can be printed


def test_the_nearest_cache_is_the_one_with_fewest_other_fields_then_most_documents(tmp_path):
    for documents, length in ((64, 64), (128, 64), (200, 32)):
        one = make_identity(documents, max_length=length)
        write(cache_path(tmp_path, "news", "bert", one), one)
    path, told = nearest_cache(tmp_path, make_identity(200))
    assert path == cache_path(tmp_path, "news", "bert", make_identity(128))
    assert told == ["documents: cache 128, asked 200 (72 new, 0 gone)"]
    assert nearest_cache(tmp_path / "nowhere", make_identity(5)) is None


def write(path, identity):
    n = len(identity.sources)
    with CacheWriter(path, identity) as writer:
        writer.commit(0, np.ones((n, identity.hidden_size), np.float32), np.ones(n), np.zeros(n, bool))
        writer.publish()
