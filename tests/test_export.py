import json

import numpy as np
import pytest
import torch

from tests.conftest import expect_refusal, make_bert, make_texts, run_script
from tests.trained_run import extract_cache, train
from twostage.errors import BadInput
from twostage.export import export
from twostage.models.saved import load_run

TEXTS = [text for text, _ in make_texts(3, 4, seed=9, length=(1, 60))]  # some longer than the 24 tokens of training


def head_run(folder, tiny_tree, tiny_bert, capsys, pooling="cls", head="1C", layer="-1"):
    cache = extract_cache(folder / "cache", tiny_tree, tiny_bert, capsys, "--pooling", pooling, "--layer", layer)
    return train(cache, folder / "runs", capsys, "--head", head, "--lr", "0.01", "--epochs", "3")


def by_predict(run):
    trained = load_run(run, dtype="float32", device="cpu")
    try:
        return trained.label_names, trained.probabilities(TEXTS)
    finally:
        trained.close()


@pytest.mark.parametrize(("pooling", "layer"), [("cls", -1), ("pooler", -1), ("cls", -2)])
def test_transformers_own_pipeline_gives_the_probabilities_of_predict(tmp_path, tiny_tree, tiny_bert, capsys, pooling, layer):
    from transformers import pipeline

    run = head_run(tmp_path, tiny_tree, tiny_bert, capsys, pooling, layer=layer)
    names, before = by_predict(run)
    model = export(run)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["num_hidden_layers"] == 3 + layer
    assert ("layer -2" in (model / "README.md").read_text(encoding="utf-8")) == (layer == -2)
    classify = pipeline("text-classification", model=str(model), top_k=None, device="cpu")
    found = [{one["label"]: one["score"] for one in every} for every in classify(TEXTS, truncation=True)]
    theirs = np.array([[one[name] for name in names] for one in found])
    assert sorted(names) == ["体育", "科技", "财经"]
    assert np.abs(theirs - before).max() < 1e-5
    assert np.abs(by_predict(run)[1] - before).max() < 1e-5  # predict now reads model/


@pytest.mark.parametrize(("pooling", "head", "layer"), [("cls", "3C", -1), ("mean", "1C", -1), ("max", "1C", -2)])
def test_what_no_native_class_can_hold_loads_through_our_class(tmp_path, tiny_tree, tiny_bert, capsys, pooling, head, layer):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    import twostage.models.classifier  # noqa: F401 (makes the class known)

    run = head_run(tmp_path, tiny_tree, tiny_bert, capsys, pooling, head, layer)
    _, before = by_predict(run)
    model = AutoModelForSequenceClassification.from_pretrained(export(run)).eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    batch = tokenizer(TEXTS, truncation=True, padding=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = model(**batch).logits.softmax(1).numpy()
    assert np.abs(theirs - before).max() < 1e-5
    assert np.abs(by_predict(run)[1] - before).max() < 1e-5


def test_the_export_holds_no_pickle_and_nothing_half_written(tmp_path, tiny_tree, tiny_bert, capsys):
    run = head_run(tmp_path, tiny_tree, tiny_bert, capsys)
    out = export(run, tmp_path / "deep" / "out")
    assert {path.suffix for path in out.iterdir()} <= {".json", ".safetensors", ".txt", ".md"}
    assert [path.name for path in out.parent.iterdir()] == ["out"] and not (run / "model").exists()


def test_another_encoder_is_refused_and_leaves_nothing(tmp_path, tiny_tree, tiny_bert, capsys):
    run = head_run(tmp_path, tiny_tree, tiny_bert, capsys)
    other = make_bert(tmp_path / "other-bert", seed=1)
    with pytest.raises(BadInput, match="weights: "):
        export(run, model=str(other))
    assert not list(run.glob("model*"))


def test_an_existing_folder_and_a_run_without_a_model_are_refused(tmp_path, tiny_tree, tiny_bert, capsys):
    run = head_run(tmp_path, tiny_tree, tiny_bert, capsys)
    (tmp_path / "taken").mkdir()
    with pytest.raises(BadInput, match="exists already"):
        export(run, tmp_path / "taken")
    (run / "head").rename(tmp_path / "head")
    expect_refusal(run_script("-m", "twostage.export", run), "holds no model")
