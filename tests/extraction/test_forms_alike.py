"""The same texts and labels in another form: a cache that differs in `source` alone, whose vectors were lent."""

import pandas as pd
import pytest

import twostage as ts
from tests.conftest import make_texts
from twostage.api.extraction import plan
from twostage.cache.reader import open_cache, read_facts

DATASETS = ("vectors", "token_count", "truncated", "label", "split_of", "digest")


@pytest.fixture(scope="module")
def rows():
    return [(text, ("体育", "财经")[number]) for text, number in dict(make_texts(2, 45, seed=4)).items()]


def test_every_form_makes_the_same_cache_but_for_source_and_lends_its_vectors(rows, tiny_bert, tmp_path):
    frame = pd.DataFrame(rows, columns=["text", "label"])
    frame.to_csv(tmp_path / "news.csv", index=False)
    frame.to_parquet(tmp_path / "news.parquet")
    frame.to_json(tmp_path / "news.json", orient="records")
    tree = tmp_path / "tree"
    for i, (text, label) in enumerate(sorted(rows, key=lambda row: row[1])):
        (tree / label).mkdir(parents=True, exist_ok=True)
        (tree / label / f"{i:03}.txt").write_bytes(text.encode())
    by_class = frame.sort_values("label", kind="stable").reset_index(drop=True)
    settings = {"model": tiny_bert, "max_length": 32, "device": "cpu", "dtype": "float32", "cache_dir": tmp_path / "cache"}
    seen = {}
    for name, source in {
        "csv": tmp_path / "news.csv", "parquet": tmp_path / "news.parquet", "json": tmp_path / "news.json", "frame": frame,
        "tree": tree, "frame by class": by_class,
    }.items():  # fmt: skip
        cache = ts.extract(source, **settings)
        with open_cache(cache.path) as opened:
            seen[name] = {field: _bytes(opened, field) for field in DATASETS} | {"names": opened.label_names}
        facts = read_facts(cache.path)["documents"]
        assert (facts["encoded"], facts["lent_by_caches"]) == ((len(rows), 0) if name == "csv" else (0, len(rows)))
    assert seen["csv"] == seen["parquet"] == seen["json"] == seen["frame"]
    assert seen["tree"] == seen["frame by class"] != seen["csv"]


def _bytes(cache, field):
    value = getattr(cache, field)
    return (value() if callable(value) else value).tobytes()


def test_the_plan_reads_its_rows_as_they_will_be_read_and_each_of_the_sample_once(rows, tiny_bert, tmp_path, monkeypatch):
    """Rows here and there of a Parquet file cost a hundred times what neighbours cost: hours were planned for minutes."""
    import numpy as np

    from twostage.corpus.columnar import ParquetRows

    many = pd.DataFrame([(f"{text}{i}", label) for i in range(40) for text, label in rows], columns=["text", "label"])
    many.to_parquet(tmp_path / "news.parquet")
    asked, real = [], ParquetRows.rows
    monkeypatch.setattr(ParquetRows, "rows", lambda self, wanted, names: asked.append(wanted) or real(self, wanted, names))
    plan(tmp_path / "news.parquet", model=tiny_bert, max_length=32, device="cpu", cache_dir=tmp_path / "cache")
    scattered = [wanted for wanted in asked if len(wanted) > 100 and np.diff(wanted).max() > 1]
    assert len(asked) == 2 and len(scattered) == 1
