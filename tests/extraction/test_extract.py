"""extract.py from the command line to the cache: the same bytes whatever happens on the way, and one line for bad input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import extract
from tests.conftest import ROOT, expect_refusal, make_bert, make_texts, make_tree, read_json, run_script
from twostage.cache.reader import open_cache
from twostage.cache.writer import CacheWriter
from twostage.encoder import processor
from twostage.encoder.encoder import resolve_dtype
from twostage.errors import BadInput
from twostage.extraction import pipeline, windows
from twostage.extraction.plan import Plan


@pytest.fixture
def corpus(tmp_path):
    """300 documents in a tree, twenty of them with the text of another."""
    folder = make_tree(tmp_path / "news", per_class=100, seed=5)
    files = sorted(folder.glob("*/*.txt"))
    for a, b in zip(files[:20], files[-20:], strict=True):
        b.write_bytes(a.read_bytes())
    return folder


@pytest.fixture
def run(tiny_bert, tmp_path, capsys):
    """run(corpus, *options) -> the cache that extract.py's main printed, and its log."""

    def call(corpus, *options, cache="cache", model=tiny_bert):
        argv = [str(corpus), "--model", str(model), "--max-length", "64", "--cache-dir", str(tmp_path / cache), *options]
        capsys.readouterr()
        assert extract.main([*argv, "--device", "cpu", "--dtype", "float32"]) == 0
        out, log = capsys.readouterr()
        assert out.count("\n") == 1
        return Path(out.strip()), log

    return call


def test_a_dtype_without_a_unit_of_its_own_is_computed_all_the_same_and_remarked_on(corpus, tiny_bert, tmp_path, capsys):
    argv = [str(corpus), "--model", str(tiny_bert), "--max-length", "16", "--per-class", "2", "--cache-dir", str(tmp_path)]
    for dtype, unit in (("float16", processor.has_float16()), ("bfloat16", processor.has_bfloat16()), ("float32", True)):
        assert extract.main([*argv, "--device", "cpu", "--dtype", dtype]) == 0
        remark = (
            f"--dtype {dtype}: this processor has no unit for it; auto takes {resolve_dtype('auto', 'cpu')}, which is faster"
        )
        assert (remark in capsys.readouterr().err) != (unit or not processor.is_x86())


def small_windows(monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_SECONDS", 0)  # every page its own window


def test_help_answers_without_the_heavy_imports():
    result = run_script("-X", "importtime", "extract.py", "--help")
    assert result.returncode == 0
    assert "--tokens-per-batch" in result.stdout
    assert not any(name in result.stderr for name in (" torch", " transformers", " h5py", " numpy"))


def test_standard_output_is_the_path_and_the_rows_are_in_corpus_order(run, corpus, tiny_bert):
    from twostage.corpus.reader import read_corpus
    from twostage.encoder.encoder import Encoder

    path, log = run(corpus, "--store-dtype", "float32")
    read = read_corpus(corpus)
    encoder = Encoder(tiny_bert, max_length=64, device="cpu", dtype="float32")
    vectors, count, truncated = encoder.encode(read.texts(range(len(read))))
    encoder.close()
    with open_cache(path) as cache:
        assert cache.vectors().tobytes() == vectors.tobytes()
        assert cache.token_count.tolist() == count.tolist()
        assert cache.truncated.tolist() == truncated.tolist()
        assert cache.digest.tobytes() == read.digest.tobytes()
    assert "20 with the text of another" in log
    for word in ("read", "tokenize", "encode", "write", "idle", "documents/s", "tokens/s", "planned", "certificate"):
        assert word in log
    facts = read_json(Path(f"{path}.json"))
    assert facts["encoding"] == "utf-8"
    assert facts["documents"] == {
        "all": 300, "encoded": 280, "committed_before": 0, "lent_by_caches": 0, "copied_from_same_text": 20
    }  # fmt: skip
    assert facts["certificate"]["largest_absolute_error"] < 1e-5
    assert facts["certificate"]["same_bits_alone_and_in_a_batch"] is True


def test_another_place_time_batch_size_or_window_gives_the_same_bytes(run, corpus, tiny_bert, tmp_path, monkeypatch):
    first, _ = run(corpus)
    again, log = run(corpus)
    assert again == first
    assert "complete already" in log
    moved, model = tmp_path / "elsewhere" / "news", tmp_path / "elsewhere" / "tiny-bert"
    shutil.copytree(corpus, moved)
    shutil.copytree(tiny_bert, model)
    for path in moved.glob("*/*.txt"):
        os.utime(path, (1, 1))
    small_windows(monkeypatch)
    second, _ = run(moved, "--tokens-per-batch", "90", cache="other", model=model)
    assert second.name == first.name
    assert second.read_bytes() == first.read_bytes()


def test_encoding_begins_with_the_first_part_of_a_window_not_with_its_last(run, corpus, monkeypatch):
    from twostage.corpus.reader import Corpus
    from twostage.encoder.lanes import Lanes

    happened, texts, submit = [], Corpus.texts, Lanes.submit

    def noted(what, real):
        def call(self, rows):
            happened.append((what, len(rows)))
            return real(self, rows)

        return call

    monkeypatch.setattr(pipeline, "READ_ROWS", 100)
    monkeypatch.setattr(Corpus, "texts", noted("read", texts))
    monkeypatch.setattr(Lanes, "submit", noted("encode", submit))
    run(corpus)
    parts = [what for what, documents in happened if documents in (100, 80)]
    assert parts == ["read", "encode"] * 3


KILLED = """
import os, signal, sys
import extract
from twostage.extraction import windows
from twostage.cache.writer import CacheWriter
windows.WINDOW_SECONDS, real, seen = 0, CacheWriter.commit, []
def commit(self, *window):
    real(self, *window)
    seen.append(window)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.{signal})
CacheWriter.commit = commit
from twostage.cli import run
sys.exit(run(extract.main, sys.argv[1:]))
"""


@pytest.mark.parametrize("sign", ["SIGKILL", "SIGINT"])
def test_killed_in_the_middle_and_run_again_it_ends_with_the_same_bytes(run, corpus, tiny_bert, tmp_path, sign, capsys):
    whole, _ = run(corpus)
    target = tmp_path / "killed"
    options = [corpus, "--model", tiny_bert, "--max-length", "64", "--cache-dir", target, "--device", "cpu"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(signal=sign), *map(str, options), "--dtype", "float32"],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    if sign == "SIGKILL":
        assert killed.returncode == -signal.SIGKILL
    else:
        assert killed.returncode == 130, killed.stderr
        assert "run the same command again" in killed.stderr
        assert "Traceback" not in killed.stderr
    assert killed.stdout == ""
    assert not (target / whole.name).exists()
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    plan = run_script("extract.py", *options, "--dtype", "float32", "--plan").stdout
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    resumed, log = run(corpus, cache="killed")
    assert "resuming" in log and "committed before" in log
    assert resumed.read_bytes() == whole.read_bytes()
    done = read_json(Path(f"{resumed}.json"))["documents"]
    assert done["committed_before"] >= 192
    assert re.search(rf"^to encode +{done['encoded']}$", plan, re.M)
    assert re.search(rf"^committed before +{done['committed_before']}$", plan, re.M)


def test_a_kill_between_the_cache_and_the_facts_beside_it_is_made_good_by_the_same_command(run, corpus):
    path, _ = run(corpus)
    told = read_json(Path(f"{path}.json"))
    Path(f"{path}.json").unlink()
    run(corpus)
    again = read_json(Path(f"{path}.json"))
    assert {key: again[key] for key in ("cache", "corpus", "model", "encoding")} == {
        key: told[key] for key in ("cache", "corpus", "model", "encoding")
    }


def test_relabelled_or_fewer_documents_encode_nothing_and_load_no_model(run, corpus, monkeypatch):
    run(corpus)
    (corpus / "体育").rename(corpus / "运动")

    def refuse(*arguments, **options):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("twostage.extraction.job.load_encoder", refuse)
    monkeypatch.setattr("twostage.extraction.certificate.load_bert", refuse)
    path, log = run(corpus)
    assert "0 of 300 documents to encode, 300 lent" in log
    assert open_cache(path).label_names == ["科技", "财经", "运动"]
    assert "encoded nothing" in run(corpus, "--per-class", "10")[1]


def test_added_documents_are_the_only_ones_encoded(run, corpus):
    run(corpus)
    for i, (text, _) in enumerate(make_texts(3, 2, seed=99)):
        (corpus / "科技" / f"new{i}.txt").write_text(text, encoding="utf-8")
    assert "6 of 306 documents to encode, 300 lent" in run(corpus)[1]


def test_where_a_cache_does_not_fit_the_log_says_which_settings_differ(run, corpus):
    first, _ = run(corpus)
    assert f"{first.name} differs (pooling: cache cls, asked mean)" in run(corpus, "--pooling", "mean")[1]


def change_after_two_windows(monkeypatch, change):
    small_windows(monkeypatch)
    real, seen = CacheWriter.commit, []

    def commit(self, *window):
        real(self, *window)
        seen.append(window)
        if len(seen) == 2:
            change()

    monkeypatch.setattr(CacheWriter, "commit", commit)


@pytest.mark.parametrize("which", [0, -25])  # one encoded long before, one perhaps not yet read
def test_a_text_that_changes_during_the_run_is_refused_and_the_rest_kept(run, corpus, tmp_path, monkeypatch, which):
    last = sorted(corpus.glob("*/*.txt"))[which]
    old = last.read_bytes()
    change_after_two_windows(monkeypatch, lambda: last.write_text("另一篇", encoding="utf-8"))
    with pytest.raises(BadInput, match="changed while"):
        run(corpus)
    assert [path.suffix for path in (tmp_path / "cache").iterdir() if path.suffix == ".h5"] == []
    monkeypatch.undo()
    last.write_bytes(old)
    assert "committed before" in run(corpus)[1]


@pytest.mark.parametrize(
    ("name", "field"), [("model.safetensors", "weights"), ("config.json", "config"), ("tokenizer.json", "tokenizer")]
)
def test_a_model_that_changes_during_the_run_is_refused(run, corpus, tiny_bert, tmp_path, monkeypatch, name, field):
    model = tmp_path / "bert"
    shutil.copytree(tiny_bert, model)
    path = model / name
    change_after_two_windows(monkeypatch, lambda: path.write_bytes(path.read_bytes() + b" "))
    with pytest.raises(BadInput, match=f"its {field} changed while it was in use"):
        run(corpus, model=model)
    assert not list((tmp_path / "cache").glob("*.h5"))


def test_a_model_that_gives_nan_is_refused_naming_the_document(run, corpus, tiny_bert, tmp_path):
    from safetensors.torch import load_file, save_file

    model = tmp_path / "bert"
    shutil.copytree(tiny_bert, model)
    weights = load_file(model / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][0, 0] = torch.nan
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"(体育|科技|财经)/\d+\.txt"):
        run(corpus, model=model)
    assert not list((tmp_path / "cache").glob("*.h5"))


def test_a_plan_is_printed_and_nothing_is_written(corpus, tiny_bert, tmp_path, capsys):
    argv = [str(corpus), "--model", str(tiny_bert), "--max-length", "30", "--cache-dir", str(tmp_path / "cache"), "--plan"]
    assert extract.main(argv) == 0
    plan = capsys.readouterr().out
    for word in ("300 in 3 classes", "to encode", "280", "estimated time", "truncated", "over 30", "free on that disk", "█"):
        assert word in plan
    assert not (tmp_path / "cache").exists()


def test_reading_and_tokenizing_add_to_the_time_on_a_cpu_and_run_along_beside_a_gpu(tmp_path):
    facts = {"documents": 100, "classes": 2, "done": 0, "lent": 0, "copies": 0, "encode": 100, "tokens_per_character": 1.0}
    files = {"caches": [tmp_path / "c.h5"], "cache_bytes": 1, "free_bytes": 2}
    plan = Plan(**facts, **files, tokens=np.array([10, 50]), max_length=30, tokens_per_second=200.0, prepare_seconds=0.04)
    assert (plan.mean_tokens, plan.seconds) == (20.0, 10.0 + 4.0)
    assert plan.rate == pytest.approx(2000 / 14)
    plan.on_gpu = True
    assert plan.seconds == 10.0


def test_verify_prints_the_verdict_and_exits_with_it(run, corpus, capsys):
    path, _ = run(corpus)
    assert extract.main(["--verify", str(path)]) == 0
    assert "intact" in capsys.readouterr().out
    with open_cache(path) as cache:
        vector = cache.vectors(rows=[100])[0].tobytes()
    data = bytearray(path.read_bytes())
    data[data.index(vector)] ^= 1
    path.write_bytes(data)
    assert extract.main(["--verify", str(path)]) == 1
    assert "64" in capsys.readouterr().out


def test_bad_input_is_one_line_exit_2_and_leaves_nothing_behind(tmp_path, tiny_bert, tiny_tree):
    cache = ["--cache-dir", tmp_path / "cache"]
    no_model = run_script("extract.py", tiny_tree, "--model", tmp_path / "absent", *cache)
    expect_refusal(no_model, "absent", "no such")
    too_long = run_script("extract.py", tiny_tree, "--model", tiny_bert, *cache)
    expect_refusal(too_long, "--max-length 512", "128 positions")
    expect_refusal(run_script("extract.py"), "no CORPUS")
    no_corpus = run_script("extract.py", tmp_path / "nowhere")  # the default model is asked of no hub before
    expect_refusal(no_corpus, "no such corpus")
    assert list(tmp_path.iterdir()) == []


def test_the_certificate_looks_at_the_same_documents_wherever_they_stand():
    from twostage.extraction.certificate import certificate_rows

    digest = np.random.default_rng(0).integers(0, 256, (200, 32)).astype(np.uint8)
    digest[150] = digest[3]
    rows = certificate_rows(digest, 20)
    assert len({digest[row].tobytes() for row in rows}) == 20
    backwards = digest[::-1]
    assert [backwards[row].tobytes() for row in certificate_rows(backwards, 20)] == [digest[row].tobytes() for row in rows]


def test_a_resumed_run_with_everything_committed_only_publishes(run, corpus, monkeypatch, tmp_path):
    monkeypatch.setattr(CacheWriter, "publish", lambda self: (_ for _ in ()).throw(BadInput("stopped before publishing")))
    with pytest.raises(BadInput, match="stopped"):
        run(corpus)
    monkeypatch.undo()
    path, log = run(corpus)
    assert "0 of 300 documents to encode, 300 committed before" in log
    assert json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))["certificate"]["documents"] > 0


def test_a_bert_of_another_width_and_odd_head_size_is_encoded_too(run, corpus, tmp_path):
    model = make_bert(tmp_path / "odd", hidden=48, heads=4, layers=1)
    path, _ = run(corpus, "--pooling", "mean", model=model)
    assert open_cache(path).hidden_size == 48
