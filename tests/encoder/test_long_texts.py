"""Head-tail truncation and the prefix: what is kept of a long text, and that both are part of what a vector is."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import extract
import finetune
from tests.conftest import read_json
from tests.trained_run import train
from twostage import export, predict
from twostage.cache.reader import open_cache, verify_cache
from twostage.encoder.encoder import load_tokenizer, load_tokens
from twostage.encoder.settings import OPTIONAL, encoder_settings
from twostage.encoder.tokenizer import Tokens, head_tokens
from twostage.errors import BadInput
from twostage.models.saved import load_run


def test_of_512_tokens_the_first_128_and_the_last_382_are_kept_as_sun_et_al_have_it(tiny_bert):
    assert head_tokens(512) == head_tokens(256) == 128 and head_tokens(64) == 32
    tokens = Tokens(load_tokenizer(tiny_bert), 512, "head-tail")
    text = "".join("甲乙丙丁"[i % 4] if i % 7 else "球" for i in range(2000))
    whole = load_tokenizer(tiny_bert)(text, verbose=False)["input_ids"]
    (ids,), (cut,) = tokens([text])
    assert cut and ids.tolist() == whole[:129] + whole[-383:]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["球队", "a goal", "x" * 9, " ", "　", "股市。", "\n"]), max_size=80),
    st.sampled_from([3, 4, 9, 16, 40]),
    st.sampled_from(["", "query: ", "查询"]),
)
def test_head_tail_keeps_both_ends_of_the_tokens_of_the_whole_text(tiny_bert, parts, max_length, prefix):
    text, tokenizer = "".join(parts), load_tokenizer(tiny_bert)
    whole, first = tokenizer(prefix + text, verbose=False)["input_ids"], 1 + max_length // 2
    tokens = Tokens(tokenizer, max_length, "head-tail", prefix)
    ids, cut = tokens([text, "", text])
    fits = len(whole) <= max_length
    assert ids[0].tolist() == ids[2].tolist() == (whole if fits else whole[:first] + whole[first - max_length :])
    assert cut[0] == (not fits) and tokens.full_lengths([text]).tolist() == [len(whole)]


@pytest.mark.parametrize("truncation", ["head", "tail", "head-tail"])
def test_a_prefix_makes_the_tokens_of_the_longer_text(truncation, tiny_bert):
    texts = ["球队", "好" * 90, "a b c"]
    with_prefix = load_tokens(tiny_bert, 24, truncation, "query: ")(texts)
    longer = load_tokens(tiny_bert, 24, truncation)([f"query: {text}" for text in texts])
    assert [one.tolist() for one in with_prefix[0]] == [one.tolist() for one in longer[0]]
    assert with_prefix[1].tolist() == longer[1].tolist()


def test_a_setting_that_has_its_default_leaves_no_trace(tiny_bert):
    plain = {"max_length": 32, "truncation": "head", "pooling": "cls", "compute_dtype": "float32"}
    assert encoder_settings(tiny_bert, **plain, **OPTIONAL) == encoder_settings(tiny_bert, **plain)
    assert encoder_settings(tiny_bert, **plain, prefix="q ")["prefix"] == "q "
    for bad in ("a\0b", "x" * 5000, "\ud800"):
        with pytest.raises(BadInput, match="--prefix"):
            encoder_settings(tiny_bert, **plain, prefix=bad)


@pytest.fixture
def options(tiny_bert, tmp_path):
    encoder = ["--model", tiny_bert, "--max-length", 20, "--truncation", "head-tail", "--prefix", "查询: "]
    return [str(one) for one in [*encoder, "--device", "cpu", "--dtype", "float32", "--cache-dir", tmp_path / "cache"]]


def test_a_cache_keeps_both_and_a_head_run_predicts_with_them(options, tiny_tree, tiny_bert, tmp_path, capsys):
    assert extract.main([str(tiny_tree), *options]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert verify_cache(path) == []
    with open_cache(path) as cache:
        assert (cache.encoder["truncation"], cache.encoder["prefix"]) == ("head-tail", "查询: ")
        texts = [(tiny_tree / source).read_text(encoding="utf-8") for source in cache.sources]
        test = np.flatnonzero(cache.split_of == 2)
    facts = read_json(Path(f"{path}.json"))
    assert facts["certificate"]["largest_absolute_error"] < 5e-3
    without = options[: options.index("--prefix")] + options[options.index("--prefix") + 2 :]
    assert extract.main([str(tiny_tree), *without]) == 0
    assert "prefix: cache 查询: , asked none" in capsys.readouterr().err

    run = train(path, tmp_path / "runs", capsys, "--head", "1C", "--lr", "0.01", "--epochs", "2")
    with np.load(run / "predictions.npz") as saved:
        at_one = np.log(saved["probabilities"])
    found = []
    for exported in (False, True):
        if exported:
            assert export.main([str(run)]) == 0
            assert "pipeline() knows neither a prefix" in capsys.readouterr().err
        trained = load_run(run, device="cpu", dtype="float32")
        found.append(np.log(trained.probabilities([texts[row] for row in test])))
        trained.close()
    assert np.abs(found[0] - found[1]).max() < 5e-3
    # One temperature divides all logits: differences between classes of a document keep their proportion to those in training.
    spread, trained_spread = (one - one.mean(1, keepdims=True) for one in (found[0], at_one))
    scale = (spread * trained_spread).sum() / (trained_spread**2).sum()
    assert np.abs(spread - scale * trained_spread).max() < 0.02 * np.abs(spread).max()


def test_finetuning_trains_and_predicts_with_both(options, tiny_tree, tmp_path, capsys):
    runs = tmp_path / "runs"
    assert finetune.main([str(tiny_tree), *options, "--epochs", "1", "--runs-dir", str(runs)]) == 0
    record = read_json(runs / "B4C3" / "run.json")
    assert (record["encoder"]["truncation"], record["encoder"]["prefix"]) == ("head-tail", "查询: ")
    about = json.loads((runs / "B4C3" / "model" / "config.json").read_text(encoding="utf-8"))["twostage"]
    assert about["encoder"]["prefix"] == "查询: "
    trained = load_run(runs / "B4C3", device="cpu", dtype="float32")
    assert (trained.tokens.prefix, trained.tokens.max_length, trained.tokens.last is not None) == ("查询: ", 20, True)
    trained.close()
    assert predict.main([str(runs / "B4C3"), "球赛" * 50, "--top-k", "1"]) == 0
