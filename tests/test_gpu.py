"""Whole commands on a GPU: make gpu runs these. TWOSTAGE_TEST_DEVICE=cpu walks them where there is none."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import extract
import finetune
import train_head
from tests.conftest import make_bert, make_tree, read_json
from twostage.cache.reader import open_cache
from twostage.encoder.encoder import Encoder

DEVICE = os.environ.get("TWOSTAGE_TEST_DEVICE", "cuda")
pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    base = tmp_path_factory.mktemp("gpu")
    return make_tree(base / "news", per_class=60), make_bert(base / "bert", hidden=128)


def extracted(parts, folder: Path, device: str, *more) -> Path:
    news, bert = parts
    words = [news, "--model", bert, "--max-length", 48, "--cache-dir", folder, "--device", device, *more]
    assert extract.main([str(word) for word in words]) == 0
    (path,) = folder.glob("*.h5")
    return path


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-3), ("auto", 0.1)])
def test_vectors_are_within_the_certificate(parts, tmp_path, dtype, bound):
    path = extracted(parts, tmp_path, DEVICE, "--dtype", dtype)
    facts = read_json(Path(f"{path}.json"))
    assert facts["certificate"]["largest_absolute_error"] < bound
    assert facts["seconds"]["encode"] > 0
    with open_cache(path) as cache:
        assert np.isfinite(cache.vectors()).all()


def test_an_interrupted_extraction_goes_on_within_the_certificate(parts, tmp_path, monkeypatch):
    from twostage.cache.writer import CacheWriter
    from twostage.extraction import windows

    monkeypatch.setattr(windows, "WINDOW_SECONDS", 0)
    real, seen = CacheWriter.commit, []

    def commit(self, *window):
        real(self, *window)
        seen.append(window)
        if len(seen) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(CacheWriter, "commit", commit)
    with pytest.raises(KeyboardInterrupt):
        extracted(parts, tmp_path, DEVICE)
    path = extracted(parts, tmp_path, DEVICE)
    assert read_json(Path(f"{path}.json"))["certificate"]["largest_absolute_error"] < 0.1


def test_heads_learn_what_they_learn_on_a_cpu(parts, tmp_path):
    path = extracted(parts, tmp_path / "cache", "cpu", "--dtype", "float32")
    accuracy = {}
    for device in ("cpu", DEVICE):
        runs = tmp_path / f"runs on {device}"
        words = [path, "--recipe", "1C3", "3C4", "--lr-scale", 30, "--runs-dir", runs, "--device", device]
        assert train_head.main([str(word) for word in words]) == 0
        found = [read_json(runs / name / "run.json") for name in ("1C3-x30", "3C4-x30")]
        accuracy[device] = [[epoch["train_loss"] for epoch in run["epochs"]] for run in found]
    for mine, wanted in zip(accuracy[DEVICE], accuracy["cpu"], strict=True):
        assert mine == pytest.approx(wanted, rel=1e-2)


@pytest.mark.parametrize("more", [[], ["--activation-checkpointing"], ["--dtype", "float32", "--micro-batch", "5"]])
def test_fine_tuning_trains(parts, tmp_path, more):
    news, bert = parts
    words = [news, "--model", bert, "--max-length", 48, "--batch-size", 16, "--lr-scale", 30, "--epochs", 2, "--device", DEVICE]
    assert finetune.main([str(word) for word in [*words, "--runs-dir", tmp_path, *more]]) == 0
    record = read_json(tmp_path / "B4C3-x30" / "run.json")
    losses = [epoch["train_loss"] for epoch in record["epochs"]]
    assert losses[1] < losses[0]
    assert record["peak_memory_bytes"] > 0


def test_the_largest_micro_batch_is_found_and_named_where_memory_is_short(parts, tmp_path, capsys):
    if DEVICE == "cpu":
        pytest.skip("a GPU's own limit")
    news, bert = parts
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 120e6 / total))
    try:
        encoder = Encoder(bert, max_length=48, device=DEVICE, dtype="float32", tokens_per_batch=10_000_000)
        texts = ["的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得"] * 60_000
        vectors, _, _ = encoder.encode(texts)
        assert encoder.lanes.tokens_per_batch < 10_000_000
        assert np.isfinite(vectors).all()
        encoder.close()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_the_second_gpu_is_used_where_it_is_asked_for(parts, tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU here")
    news, bert = parts
    path = extracted(parts, tmp_path / "cache", "cuda:1")
    assert read_json(Path(f"{path}.json"))["certificate"]["largest_absolute_error"] < 0.1
    words = [news, "--model", bert, "--max-length", 48, "--batch-size", 16, "--epochs", 1, "--device", "cuda:1"]
    torch.cuda.reset_peak_memory_stats("cuda:1")
    assert finetune.main([str(word) for word in [*words, "--runs-dir", tmp_path / "runs"]]) == 0
    assert torch.cuda.max_memory_allocated("cuda:1") > 1e6
