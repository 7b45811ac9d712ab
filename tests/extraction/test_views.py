"""Several layers and poolings out of one pass: each cache has the bytes that it has alone, whatever happens on the way."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import extract
import twostage as ts
from tests.conftest import ROOT, expect_refusal, make_bert, make_texts, make_tree, read_json, run_script
from twostage.cache.identity import Identity
from twostage.cache.reader import open_cache
from twostage.cache.writer import CacheWriter, opened
from twostage.encoder import settings
from twostage.encoder.processor import has_bfloat16
from twostage.encoder.settings import encoder_settings
from twostage.errors import BadInput
from twostage.extraction import windows
from twostage.finetuning.init_head import start_head

POOLINGS, LAYERS = ("cls", "mean", "max"), (-1, -3)
VIEWS = [(pooling, layer) for layer in LAYERS for pooling in POOLINGS]  # in the order of the lines
SEVERAL = ("--pooling", *POOLINGS, "--layer", *map(str, LAYERS))


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """Four layers with biases, which the forward moves from layer to layer."""
    folder = make_bert(tmp_path_factory.mktemp("model") / "bert", layers=4)
    weights = load_file(folder / "model.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, weight in weights.items():
            if name.endswith("bias"):
                weight.normal_(std=0.3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_news(folder: Path) -> Path:
    """210 documents, ten of them with the text of another that stands far before it."""
    make_tree(folder, per_class=70, seed=5)
    files = sorted(folder.glob("*/*.txt"))
    for a, b in zip(files[:10], files[-10:], strict=True):
        b.write_bytes(a.read_bytes())
    return folder


@pytest.fixture(scope="module")
def news(tmp_path_factory) -> Path:
    return make_news(tmp_path_factory.mktemp("corpus") / "news")


@pytest.fixture
def run(bert, tmp_path, capsys):
    """run(corpus, *options) -> the caches that extract.py's main printed, and its log."""

    def call(corpus, *options, cache="cache", dtype="float32"):
        capsys.readouterr()
        argv = [
            str(corpus),
            "--model",
            str(bert),
            "--max-length",
            "64",
            "--cache-dir",
            str(tmp_path / cache),
            "--device",
            "cpu",
        ]
        assert extract.main([*argv, "--dtype", dtype, *options]) == 0
        out, log = capsys.readouterr()
        return [Path(line) for line in out.split()], log

    return call


def alone(run, corpus, pooling, layer, dtype="float32") -> Path:
    (path,), _ = run(corpus, "--pooling", pooling, "--layer", str(layer), cache="alone", dtype=dtype)
    return path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_view_of_one_pass_is_byte_equal_to_an_extraction_of_its_own(run, news, dtype):
    if dtype == "bfloat16" and not has_bfloat16():
        pytest.skip("this processor does not multiply in bfloat16")
    paths, log = run(news, *SEVERAL, dtype=dtype)
    assert log.count("200 of 210 documents to encode") == 1
    for path, (pooling, layer) in zip(paths, VIEWS, strict=True):
        with open_cache(path) as cache:
            assert (cache.encoder["pooling"], cache.encoder.get("layer", "-1")) == (pooling, str(layer))
        assert re.search(rf"certificate of {pooling}, layer {layer}: \d+ documents", log)
        facts = read_json(Path(f"{path}.json"))
        assert facts["certificate"]["largest_relative_error"] < facts["certificate"]["bound"] / 2
        assert facts["documents"]["encoded"] == 200 and facts["caches_of_the_pass"] == [one.name for one in paths]
        single = alone(run, news, pooling, layer, dtype)
        assert single.name == path.name
        assert single.read_bytes() == path.read_bytes()
    assert len({open_cache(path).vectors().tobytes() for path in paths}) == len(VIEWS)


def test_the_last_layer_leaves_no_trace_in_settings_and_fingerprint(bert, run, news):
    asked = {"max_length": 64, "truncation": "head", "pooling": "cls", "compute_dtype": "float32"}
    assert encoder_settings(bert, **asked, layer="-1") == encoder_settings(bert, **asked)
    assert encoder_settings(bert, **asked, layer="-2") == encoder_settings(bert, **asked) | {"layer": "-2"}
    (path,), _ = run(news, "--pooling", "mean")
    assert "layer" not in open_cache(path).encoder
    assert f"{path.name} differs (layer: cache none, asked -2)" in run(news, "--pooling", "mean", "--layer", "-2")[1]


KILLED = """
import os, signal, sys
import extract
from twostage.extraction import windows
from twostage.finetuning.init_head import start_head
from twostage.cache.writer import CacheWriter
windows.WINDOW_SECONDS, real, seen = 0, CacheWriter.commit, []
def commit(self, *window):
    real(self, *window)
    seen.append(window)
    if len(seen) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
CacheWriter.commit = commit
sys.exit(extract.main(sys.argv[1:]))
"""


def test_killed_when_some_views_are_further_than_others_it_ends_with_the_same_bytes(run, news, bert, tmp_path):
    words = [
        news,
        "--model",
        bert,
        "--max-length",
        "64",
        "--cache-dir",
        tmp_path / "cache",
        "--device",
        "cpu",
        "--dtype",
        "float32",
    ]
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, words), *SEVERAL], cwd=ROOT, timeout=300)
    assert killed.returncode == -9
    whole = [alone(run, news, *view) for view in VIEWS]
    partials = [tmp_path / "cache" / f"{path.name}.partial" for path in whole]
    partials[4].unlink()  # one that has nothing
    assert run(news, "--pooling", "cls")[0][0].read_bytes() == whole[0].read_bytes()  # and one that is complete
    before = {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir() if path.suffix != ".json"}
    plan = run_script("extract.py", *words, *SEVERAL, "--plan").stdout
    assert {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir() if path.suffix != ".json"} == before
    assert all(path.name in plan for path in whole)
    paths, log = run(news, *SEVERAL)
    assert log.count("64 of 210 documents found and verified") + log.count("128 of 210 documents found and verified") == 4
    assert "complete already" in log
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in whole]
    told = [read_json(Path(f"{path}.json"))["documents"]["committed_before"] for path in paths]
    assert sorted(told[1:]) == [0, 64, 64, 128, 128] and told[4] == 0


def test_after_a_kill_between_two_caches_the_rest_appear_without_encoding(run, news, monkeypatch):
    real = CacheWriter.publish

    def publish(self):
        if "layer" in self.identity.encoder:
            raise BadInput("stopped before the second layer")
        return real(self)

    monkeypatch.setattr(CacheWriter, "publish", publish)
    with pytest.raises(BadInput, match="stopped"):
        run(news, *SEVERAL)
    monkeypatch.undo()
    monkeypatch.setattr("twostage.extraction.job.load_encoder", None)
    paths, log = run(news, *SEVERAL)
    assert log.count("complete already") == 3
    assert "0 of 210 documents to encode, 210 committed before" in log
    assert all("certificate" in read_json(Path(f"{path}.json")) for path in paths)


def test_each_view_takes_what_finished_caches_of_it_hold_and_the_pass_encodes_what_one_lacks(run, tmp_path, monkeypatch):
    news = make_news(tmp_path / "news")
    run(news, "--pooling", "cls", "mean", "--layer", "-3")
    for i, (text, _) in enumerate(make_texts(3, 2, seed=99)):
        (news / "科技" / f"new{i}.txt").write_text(text, encoding="utf-8")
    monkeypatch.setattr(windows, "WINDOW_SECONDS", 0)
    paths, log = run(news, "--pooling", "cls", "mean", "--layer", "-3")
    assert "6 of 216 documents to encode, 210 lent by finished caches" in log
    more, log = run(news, "--pooling", "mean", "max", "--layer", "-3", "-4")
    assert "206 of 216 documents to encode" in log and "complete already" in log
    told = [read_json(Path(f"{path}.json"))["documents"] for path in more]
    assert [(one["encoded"], one["lent_by_caches"]) for one in told] == [(6, 210), (206, 0), (206, 0), (206, 0)]
    monkeypatch.undo()
    views = [("cls", -3), ("mean", -3), ("mean", -3), ("max", -3), ("mean", -4), ("max", -4)]
    for path, view in zip([*paths, *more], views, strict=True):
        assert path.read_bytes() == alone(run, news, *view).read_bytes()


def test_a_view_that_lends_stands_beside_one_that_is_encoded(run, tmp_path):
    news = make_news(tmp_path / "news")
    run(news, "--pooling", "cls")
    (news / "科技").rename(news / "技术")
    paths, log = run(news, "--pooling", "cls", "mean")
    assert "200 of 210 documents to encode, 10 with the text of another" in log
    told = [read_json(Path(f"{path}.json")) for path in paths]
    assert [one["documents"]["encoded"] for one in told] == [0, 200]
    assert [one["certificate"] is None for one in told] == [True, False]
    for path, pooling in zip(paths, ("cls", "mean"), strict=True):
        assert path.read_bytes() == alone(run, news, pooling, -1).read_bytes()


def test_a_copy_of_a_text_committed_before_is_found_where_the_other_view_has_its_vectors_lent(run, tmp_path, monkeypatch):
    news = make_news(tmp_path / "news")
    run(news, "--pooling", "mean")
    (news / "科技").rename(news / "技术")
    real, committed = CacheWriter.commit, []

    def commit(self, *window):
        if committed:
            raise BadInput("stopped after a page")
        committed.append(real(self, *window))

    monkeypatch.setattr(CacheWriter, "commit", commit)
    monkeypatch.setattr(windows, "WINDOW_SECONDS", 0)
    with pytest.raises(BadInput, match="stopped"):
        run(news, "--pooling", "cls")
    monkeypatch.undo()
    paths, log = run(news, "--pooling", "cls", "mean")
    assert "64 of 210 documents found and verified" in log and "136 of 210 documents to encode" in log
    for path, pooling in zip(paths, ("cls", "mean"), strict=True):
        assert path.read_bytes() == alone(run, news, pooling, -1).read_bytes()


def test_from_python_single_values_give_a_cache_and_lists_give_lists_to_sweep_over(news, bert, tmp_path):
    how = {"model": bert, "max_length": 64, "device": "cpu", "cache_dir": tmp_path / "cache"}
    caches = ts.extract(news, pooling=["cls", "max"], layer=[-2], **how)
    assert [(cache.encoder["pooling"], cache.encoder["layer"]) for cache in caches] == [("cls", "-2"), ("max", "-2")]
    one = ts.extract(news, layer=-2, **how)
    assert one.path == caches[0].path
    found = ts.sweep(caches, lr=[0.01], seeds=1, epochs=2, runs_dir=tmp_path / "runs")
    assert [(view["pooling"], view["layer"]) for view in found.record["views"]] == [("cls", -2), ("max", -2)]
    assert found.record["encoder"]["layer"] == "-2"
    last = {name: value for name, value in one.encoder.items() if name != "layer"}
    with pytest.raises(BadInput, match="another encoder: .*layer: head -2, asked -1"):  # finetune.py trains all layers
        start_head(found.path, found.record["head"], last, one.label_names)
    assert found.predict_proba(["的一是了"]).shape == (1, 3)
    found.close()


def test_caches_that_do_not_fit_on_the_disk_together_are_refused_before_anything_is_written(tmp_path):
    n = 3
    rows = (np.zeros((n, 32), np.uint8), np.zeros(n, int), np.zeros(n, int), ["a", "b", "c"])
    settings = dict.fromkeys(("weights", "config", "tokenizer"), "aa") | {"truncation": "head", "compute_dtype": "float32"}
    settings |= {"max_length": 8, "format": 1}
    huge = [Identity(settings | {"pooling": name}, "float32", 10**12, ["x"], *rows) for name in ("cls", "mean")]
    writers = [CacheWriter(tmp_path / "cache" / f"{i}.h5", identity) for i, identity in enumerate(huge)]
    with pytest.raises(BadInput, match=r"the 2 caches need 24,\d+,\d+,\d+,\d+ bytes.*--cache-dir"), opened(writers):
        pass
    assert not (tmp_path / "cache").exists()


def test_the_corpus_may_stand_after_the_pooling_as_it_could_when_there_was_one(news, bert, tmp_path, capsys):
    words = ["--model", str(bert), "--max-length", "64", "--cache-dir", str(tmp_path), "--dtype", "float32"]
    assert extract.main([*words, "--pooling", "mean", str(news)]) == 0
    assert open_cache(capsys.readouterr().out.strip()).encoder["pooling"] == "mean"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layer", "-1", "99"], "--layer 99: .* has 4 layers; give -1 .* to -4"),
        (["--layer", "0"], "--layer 0: .* has 4 layers"),
        (["--layer", "-5"], "--layer -5: .* has 4 layers"),
        (["--layer", "-1", "-2", "-1"], "--layer -1 -2 -1: give one value, or several different ones"),
        (["--pooling", "cls", "cls"], "--pooling cls cls: give one value"),
        (["--pooling", "mean", "pooler", "--layer", "-2"], "--pooling pooler --layer -2: the pooler belongs to the last layer"),
    ],
)
def test_views_that_cannot_be_are_refused_in_a_line_before_the_corpus_is_read(run, tmp_path, options, said):
    (tmp_path / "news.jsonl").write_text("no corpus, which would be said next\n", encoding="utf-8")
    with pytest.raises(BadInput, match=said):
        run(tmp_path / "news.jsonl", *options)
    assert not (tmp_path / "cache").exists()


def test_a_wrong_view_is_exit_2_and_one_line(bert, news, tmp_path):
    words = ["extract.py", news, "--model", bert, "--cache-dir", tmp_path / "cache", "--max-length", "64"]
    expect_refusal(run_script(*words, "--layer", "0", "99"), "--layer 0", "4 layers; give -1 (the last) to -4")
    for options in (["--layer", "last"], ["--pooling", "median"]):
        refused = run_script(*words, *options)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert not (tmp_path / "cache").exists()


def test_the_poolings_that_extract_py_takes_are_those_of_an_encoder():
    assert extract.POOLINGS == settings.POOLINGS
