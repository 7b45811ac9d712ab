"""What is exported or fine-tuned, against transformers' own classes and its pipeline, for each architecture and kind of head."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, pipeline

import finetune
from tests.conftest import make_bert, make_texts, make_tree
from tests.family_models import make_checkpoint
from twostage.encoder.checkpoint import find_model
from twostage.encoder.encoder import Encoder, load_bert, load_tokenizer
from twostage.encoder.family import FAMILY
from twostage.errors import BadInput
from twostage.finetuning.lean_bert import make_lean
from twostage.models.classifier import load_classifier, save_classifier
from twostage.models.folding import EPS, small_factors
from twostage.models.head import build_head, load_head, save_head
from twostage.models.saved import load_folder, load_run

NAMES = ["体育", "财经", "科技"]
TEXTS = [text for text, _ in make_texts(3, 4, seed=9, length=(1, 60))]


def save(checkpoint, folder, head="1C", pooling="cls", times=1.0, truncation="head"):
    """A head on that checkpoint's vectors, saved; and the probabilities (n, C) of the two parts as they were."""
    bert, module = load_bert(checkpoint, pooler=pooling == "pooler"), build_head(head, 32, 3, "gelu", seed=4)
    with torch.no_grad():
        module[-1].weight.mul_(times)
    about = {"head": head, "activation": "gelu", "pooling": pooling, "max_length": 24, "truncation": truncation}
    save_classifier(bert, module, NAMES, load_tokenizer(checkpoint), folder, about)
    encoder = Encoder(checkpoint, max_length=24, truncation=truncation, pooling=pooling, device="cpu", dtype="float32")
    vectors = torch.from_numpy(encoder.encode(TEXTS)[0])
    encoder.close()
    return module(vectors).softmax(1).detach().numpy()


def by_pipeline(folder, **more):
    classify = pipeline("text-classification", model=str(folder), top_k=None, device="cpu", **more)
    found = [{one["label"]: one["score"] for one in every} for every in classify(TEXTS, truncation=True, batch_size=5)]
    return np.array([[one[name] for name in NAMES] for one in found])


def by_predict(folder):
    trained = load_folder(folder, device="cpu", dtype="float32")
    found = trained.probabilities(TEXTS)
    trained.close()
    return found


@pytest.mark.parametrize("kind", FAMILY)
def test_each_architecture_is_saved_as_transformers_own_class_and_answers_as_the_two_parts(kind, tiny_bert, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "checkpoint", kind, tiny_bert, **({"use_task_id": True} if kind == "ernie" else {}))
    for pooling, truncation in (("cls", "tail"), ("pooler", "head")):
        folder = tmp_path / pooling
        wanted = save(checkpoint, folder, pooling=pooling, truncation=truncation)
        assert json.loads((folder / "config.json").read_text())["architectures"] == [f"{FAMILY[kind]}ForSequenceClassification"]
        assert np.abs(by_pipeline(folder) - wanted).max() < 1e-5
        assert np.abs(by_predict(folder) - wanted).max() < 1e-5
    wanted = save(checkpoint, tmp_path / "deep", "3C", "mean")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "deep").eval()
    batch = load_tokenizer(checkpoint)(TEXTS, truncation=True, max_length=24, padding=True, return_tensors="pt")
    with torch.inference_mode():
        assert np.abs(model(**batch).logits.softmax(1).numpy() - wanted).max() < 1e-5
    assert np.abs(by_predict(tmp_path / "deep") - wanted).max() < 1e-5


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "ernie"])
def test_each_architecture_is_fine_tuned_and_its_model_answers_as_it_did_on_test(kind, tiny_bert, tmp_path, capfd):
    checkpoint = make_checkpoint(tmp_path / "checkpoint", kind, tiny_bert)
    news = make_tree(tmp_path / "news", per_class=20)
    options = ["--max-length", 24, "--dtype", "float32", "--device", "cpu", "--runs-dir", tmp_path / "runs", "--lr-scale", 100]
    finetune.main([str(one) for one in (news, "--model", checkpoint, "--recipe", "B4C3", "--epochs", 1, *options)])
    run = next((tmp_path / "runs").glob("B4C3*"))
    assert (
        load_bert(checkpoint).config.model_type == kind == json.loads((run / "model" / "config.json").read_text())["model_type"]
    )
    trained = load_run(run, device="cpu", dtype="float32")
    with np.load(run / "predictions.npz") as saved:
        texts = {__import__("hashlib").sha256(path.read_bytes()).digest(): path.read_text("utf-8") for path in news.glob("*/*")}
        found = trained.probabilities([texts[digest.tobytes()] for digest in saved["digest"]])
        calibrated = saved["probabilities"].astype(float) ** (1 / saved["temperature"])
        assert np.abs(found - calibrated / calibrated.sum(1, keepdims=True)).max() < 1e-5
    trained.close()
    weights = load_file(run / "model" / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    assert not torch.equal(weights[name], load_bert(checkpoint).embeddings.word_embeddings.weight)  # it did train


@pytest.mark.parametrize("kind", FAMILY)
def test_the_lean_forward_is_that_of_each_architecture(kind, tiny_bert, tmp_path):
    bert = load_bert(make_checkpoint(tmp_path / "checkpoint", kind, tiny_bert))
    ids = torch.randint(5, 90, (4, 12))
    ids[0, 8:] = bert.config.pad_token_id
    mask = (torch.arange(12) < torch.tensor([[8], [12], [12], [12]])).long()
    wanted = bert(ids, attention_mask=mask).last_hidden_state[:, :1]
    assert make_lean(bert)
    torch.testing.assert_close(bert(ids, attention_mask=mask).last_hidden_state, wanted, atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    "left", [{"problem_type": "multi_label_classification"}, {"problem_type": "regression"}, {"return_dict": False}]
)
def test_what_the_encoder_was_before_does_not_show_in_the_classifier(left, tiny_bert, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(tiny_bert, checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, **left, "num_labels": 7, "id2label": {"0": "x"}}))
    wanted = save(checkpoint, tmp_path / "model")
    assert np.abs(by_pipeline(tmp_path / "model") - wanted).max() < 1e-5
    assert json.loads((tmp_path / "model" / "config.json").read_text())["problem_type"] == "single_label_classification"


@pytest.mark.parametrize("times", [1, 100, 500])  # the largest weight: 0.18, 18, 88
def test_large_weights_fit_into_half_precision_and_single_precision_stays_exact(times, tiny_bert, tmp_path):
    wanted = save(tiny_bert, tmp_path / "model", times=times)
    assert np.abs(by_predict(tmp_path / "model") - wanted).max() < 1e-6  # to the bit: predict takes the factors out again
    assert np.abs(by_pipeline(tmp_path / "model") - wanted).max() < (1e-5 if times < 100 else 2e-3)
    half = by_pipeline(tmp_path / "model", dtype=torch.float16)
    assert np.isfinite(half).all()
    sure = np.sort(wanted)[:, -1] - np.sort(wanted)[:, -2] > 0.1
    assert sure.any() and (half.argmax(1) == wanted.argmax(1))[sure].all()


def test_factors_are_powers_of_two_that_keep_weights_below_what_float16_holds():
    weight = torch.tensor([[0.01, 7.9, 8.1, -100.0, 1e6], [0.0, 1.0, 1.0, 1.0, 1.0]])
    eps = small_factors(weight)
    assert eps.tolist() == [EPS, EPS, 2 * EPS, 16 * EPS, 16 * EPS]
    assert (weight[:, :4] / eps[:4]).abs().max() < 2**15 and torch.equal(weight / eps * eps, weight)


def test_a_classifier_stays_what_it_was_when_its_file_is_written_over_or_cut(tiny_bert, tmp_path):
    wanted = save(tiny_bert, tmp_path / "model")
    trained = load_folder(tmp_path / "model", device="cpu", dtype="float32")
    with open(tmp_path / "model" / "model.safetensors", "r+b") as file:
        size = file.seek(0, 2)
        file.seek(size // 4)
        file.write(bytes(size - size // 4))
        os.ftruncate(file.fileno(), size // 2)  # whoever still maps it dies of it
    assert np.abs(trained.probabilities(TEXTS) - wanted).max() < 1e-6
    trained.close()


def test_a_model_with_old_factors_reads_as_before(tiny_bert, tmp_path):
    wanted = save(tiny_bert, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    old = load_file(path)
    assert torch.equal(old["bert.pooler.dense.weight"], 2.0**-12 * torch.eye(32))  # what 0.1 wrote for every head
    assert np.abs(by_predict(tmp_path / "model") - wanted).max() < 1e-6


def lie(**changed):
    def edit(folder):
        config = json.loads((folder / "config.json").read_text())
        config["twostage"] |= {name: value for name, value in changed.items() if name in config["twostage"]}
        config |= {name: value for name, value in changed.items() if name not in config["twostage"]}
        (folder / "config.json").write_text(json.dumps(config))

    return edit


def trained_on(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["bert.pooler.dense.weight"][0, 1] = 1e-3
    save_file(tensors, folder / "model.safetensors")


def without_classifier(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if name != "classifier.weight"}, folder / "model.safetensors")


DAMAGED = {
    "an adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "belongs to an adapter"),
    "unknown pooling": (lie(pooling="evil"), "pooling is 'evil', not cls"),
    "max_length in words": (lie(max_length="x"), "max_length is 'x'"),
    "labels that are a dict": (lie(label_names={"0": "a"}), "label_names is not a list"),
    "labels that are numbers": (lie(label_names=[1, 2, 3]), "label_names is not a list of names"),
    "a class too many": (lie(label_names=["a", "b", "c", "d"]), r"layer 0.weight is \(3, 32\), not \(4, 32\)"),
    "a billion layers": (lie(num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
    "other sizes": (lie(intermediate_size=96), "differ in shape"),
    "no settings of ours": (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "says nothing about twostage"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "torn weights": (lambda f: (f / "model.safetensors").write_bytes(b"torn"), "cannot be loaded"),
    "a classifier that is gone": (without_classifier, "holds no usable classifier"),
    "trained on by others": (trained_on, "pooler was trained on"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_or_lying_classifier_is_refused_in_one_line(what, tiny_bert, tmp_path):
    save(tiny_bert, tmp_path / "model")
    DAMAGED[what][0](tmp_path / "model")
    with pytest.raises(BadInput, match=DAMAGED[what][1]) as refused:
        load_classifier(tmp_path / "model")
    assert "\n" not in str(refused.value) and str(tmp_path / "model") in str(refused.value)


HEAD = {"head": "1C", "hidden_size": 8, "activation": "relu", "label_names": ["a", "b"]}
LIES = [
    ({"head": "9C"}, "head is '9C', not 1C, 3C or 3C-big"),
    ({"head": ["1C"]}, "head is"),
    ({"hidden_size": 10**12}, "hidden_size is 1000000000000"),
    ({"hidden_size": "8"}, "hidden_size is '8'"),
    ({"hidden_size": 9}, r"layer 0.weight is \(2, 8\), not \(2, 9\)"),
    ({"activation": "evil"}, "activation is 'evil'"),
    ({"label_names": ["a", "a"]}, "names a class twice"),
    ({"label_names": [1, 2]}, "not a list of names"),
    ({"label_names": "ab"}, "not a list of names"),
    ({"encoder": "x"}, "encoder is not a set of settings"),
    ({"encoder": {"max_length": "x"}}, "max_length is 'x'"),
    ({"encoder": {"max_length": 2**62}}, "max_length is 4611686018427387904"),
    ({"encoder": {"pooling": "evil"}}, "pooling is 'evil', not cls"),
    ({"encoder": {"truncation": None}}, "truncation is None"),
    ({"encoder": {"compute_dtype": "int1"}}, "compute_dtype is 'int1'"),
]


@pytest.mark.parametrize(("changed", "said"), LIES)
def test_a_head_whose_settings_lie_is_refused_in_one_line(changed, said, tmp_path):
    save_head(tmp_path / "head", build_head("1C", 8, 2), {**HEAD, **changed})
    with pytest.raises(BadInput, match=said) as refused:
        load_head(tmp_path / "head")
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_head_that_is_not_finite_is_refused(value, tmp_path):
    head = build_head("1C", 8, 2)
    with torch.no_grad():
        head[0].weight[0, 0] = value
    save_head(tmp_path / "head", head, HEAD)
    with pytest.raises(BadInput, match="not finite"):
        load_head(tmp_path / "head")


def test_an_encoder_whose_forward_is_another_is_named(tmp_path):
    folder = make_bert(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    for kind in ("distilbert", "electra", "modernbert", "albert"):
        (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}))
        with pytest.raises(BadInput, match=f"'{kind}', which computes differently; bert, roberta, .* and ernie can be read"):
            find_model(folder)
