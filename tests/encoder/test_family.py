"""BERT's relatives: the same forward, other embeddings. Their own models in transformers say what is right."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.conftest import make_texts
from tests.family_models import family_model, make_checkpoint
from twostage.encoder.attention import EqualSpan, PaddedSpan
from twostage.encoder.checkpoint import find_model
from twostage.encoder.encoder import Encoder, load_bert, load_tokenizer, load_tokens
from twostage.encoder.family import FAMILY
from twostage.encoder.forward import FoldedBert
from twostage.encoder.remarks import remarks
from twostage.errors import BadInput


@pytest.mark.parametrize("kind", [*FAMILY, "ernie with tasks", "roberta with another pad"])
@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean"])
def test_one_forward_gives_the_vectors_of_each_architecture(kind, pooling):
    kind, *more = kind.split(" ", 1)
    model = family_model(
        kind, **{"with tasks": {"use_task_id": True}, "with another pad": {"pad_token_id": 7}}.get("".join(more), {})
    )
    ids = np.random.default_rng(0).integers(8, 90, (5, 30))
    ids[:, [3, 4, 20]] = model.config.pad_token_id  # a text may spell the pad token out
    out = model(torch.from_numpy(ids))
    hidden = out.last_hidden_state
    wanted = {"cls": hidden[:, 0], "pooler": out.pooler_output, "mean": hidden.mean(1)}[pooling]
    bert, flat = FoldedBert(model, pooling), torch.from_numpy(ids.astype(np.int32).ravel())
    torch.testing.assert_close(bert(flat, EqualSpan(5, 30)), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(bert(flat, PaddedSpan(torch.tensor([30] * 5), 30, "cpu")), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [kind for kind in FAMILY if kind != "bert"])
def test_an_encoder_of_each_architecture_gives_the_vectors_of_transformers_own_model(kind, tiny_bert, tmp_path):
    folder = find_model(make_checkpoint(tmp_path / kind, kind, tiny_bert, **({"use_task_id": True} if kind == "ernie" else {})))
    tokenizer, model = load_tokenizer(folder), transformers.AutoModel.from_pretrained(folder)
    texts = [text for text, _ in make_texts(3, 4, seed=1, length=(1, 80))] + ["", "hello world <pad> 世界"]
    for truncation, pooling in (("head", "cls"), ("tail", "mean"), ("head", "pooler")):
        tokenizer.truncation_side = "left" if truncation == "tail" else "right"
        encoder = Encoder(folder, max_length=24, truncation=truncation, pooling=pooling, device="cpu", dtype="float32")
        vectors = encoder.encode(texts)[0]
        encoder.close()
        for text, vector in zip(texts, vectors, strict=True):
            out = model(**tokenizer(text, truncation=True, max_length=24, return_tensors="pt", return_token_type_ids=False))
            hidden = out.last_hidden_state[0]
            wanted = {"cls": hidden[0], "mean": hidden.mean(0), "pooler": out.pooler_output[0]}[pooling]
            assert np.abs(wanted.detach().numpy() - vector).max() < 1e-5


def test_positions_that_padding_takes_are_none_for_tokens(tiny_bert, tmp_path):
    folder = make_checkpoint(tmp_path / "roberta", "roberta", tiny_bert)
    load_tokens(folder, 62, "head")
    with pytest.raises(BadInput, match="--max-length 63: .* has 62 positions"):
        load_tokens(folder, 63, "head")


def renamed(folder, rename, file="model.safetensors", write=save_file):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    write({rename(name): tensor.clone() for name, tensor in tensors.items()}, folder / file)


def edited(folder, drop=(), name="config.json", **changed):
    config = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps({k: v for k, v in {**config, **changed}.items() if k not in drop}), encoding="utf-8")


def as_sentence_transformers(folder, old=False):
    """Moves the model into a subfolder and writes what sentence-transformers writes above it."""
    inside = folder.with_name("inside")
    folder.rename(inside)
    folder.mkdir()
    inside.rename(folder / "0_Transformer")
    parts = [
        ("sentence_transformers.models.Transformer", "0_Transformer"),
        ("sentence_transformers.models.Pooling", "1_Pooling"),
    ]
    (folder / "modules.json").write_text(
        json.dumps([{"idx": i, "type": kind, "path": at} for i, (kind, at) in enumerate(parts)])
    )
    (folder / "config.json").write_text('{"__version__": "0.2.0"}')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}')


def as_google(folder):
    (folder / "config.json").rename(folder / "bert_config.json")
    edited(folder, ("model_type", "architectures", "transformers_version", "dtype"), "bert_config.json")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


AS_FOUND = {
    "prefix of data parallel": lambda f: renamed(f, lambda name: f"module.bert.{name}"),
    "gamma and beta": lambda f: renamed(f, lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma")),
    "torch.save with prefix": lambda f: renamed(f, lambda name: f"module.{name}", "pytorch_model.bin", torch.save),
    "bert_config.json": as_google,
    "no model_type but a class": lambda f: edited(f, ("model_type",)),
    "sentence-transformers": as_sentence_transformers,
    "modelscope": lambda f: (f / "configuration.json").write_text('{"framework": "pytorch", "task": "fill-mask"}'),
    "settings of another task": lambda f: edited(f, return_dict=False, output_hidden_states=True, problem_type="regression"),
}


@pytest.mark.parametrize("how", AS_FOUND)
def test_a_folder_as_people_have_it_gives_the_same_vectors(how, tiny_bert, tmp_path):
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    AS_FOUND[how](folder)
    wanted, found = (Encoder(find_model(one), max_length=48, device="cpu", dtype="float32") for one in (tiny_bert, folder))
    texts = [text for text, _ in make_texts(3, 4)]
    assert found.encode(texts)[0].tobytes() == wanted.encode(texts)[0].tobytes()
    found.close()
    wanted.close()


def pointer(size):
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize {size}\n"


def sparse(path, start=b""):
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(3 * 10**9)


def grown(path):
    with open(path, "r+b") as file:
        file.truncate(3 * 10**9)


def with_adapter_weights(folder):
    renamed(folder, lambda name: name.replace("query.weight", "query.base_layer.weight"))


REFUSED = {
    "an adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "adapter_config.json belongs to an adapter.*merge it"),
    "an adapter's weights": (lambda f: (f / "adapter_model.bin").write_bytes(b""), "adapter_model.bin belongs to an adapter"),
    "an adapter inside": (with_adapter_weights, "hold an adapter"),
    "weights left to LFS": (lambda f: (f / "model.safetensors").write_text(pointer(411553788)), "LFS pointer.*411,553,788 bytes"),
    "vocabulary left to LFS": (lambda f: (f / "tokenizer.json").write_text(pointer(9)), "tokenizer.json: a Git LFS pointer"),
    "settings left to LFS": (lambda f: (f / "config.json").write_text(pointer(9)), "config.json: a Git LFS pointer"),
    "distilbert": (lambda f: edited(f, model_type="distilbert"), "'distilbert', which computes differently; bert, roberta"),
    "another class and no type": (lambda f: edited(f, ("model_type",), architectures=["AlbertModel"]), "'AlbertModel'"),
    "deep settings": (lambda f: (f / "config.json").write_text('{"a":' * 100000 + "1" + "}" * 100000), "nested too deeply"),
    "a config of another kind": (lambda f: (f / "config.json").write_text('{"pooling_mode": "mean"}'), "has no model_type"),
    "a type that is a list": (lambda f: edited(f, model_type=["bert"]), "model_type is"),
    "many layers": (lambda f: edited(f, num_hidden_layers=10**9), "num_hidden_layers is 1000000000, not 1 to 1,000"),
    "more layers than weights": (lambda f: edited(f, num_hidden_layers=900), "lacks encoder.layer.2.* and 14,367 more"),
    "layers in words": (lambda f: edited(f, num_hidden_layers="2"), "num_hidden_layers is '2'"),
    "true as a number": (lambda f: edited(f, type_vocab_size=True), "type_vocab_size is True"),
    "an unknown activation": (lambda f: edited(f, hidden_act="magic"), "cannot be loaded"),
    "dropout in words": (lambda f: edited(f, hidden_dropout_prob="some"), "cannot be loaded|hidden_dropout_prob"),
    "zeros for weights": (lambda f: sparse(f / "model.safetensors"), "cannot be loaded"),
    "zeros behind the weights": (lambda f: grown(f / "model.safetensors"), "cannot be loaded"),
    "zeros for old weights": (lambda f: ((f / "model.safetensors").unlink(), sparse(f / "pytorch_model.bin")), "not a file of torch"),
    "zeros for settings": (lambda f: sparse(f / "config.json"), "3,000,000,000 bytes, too many"),
    "zeros for a vocabulary": (lambda f: sparse(f / "vocab.txt"), "3,000,000,000 bytes, too many"),
    "a pipe for settings": (lambda f: ((f / "config.json").unlink(), os.mkfifo(f / "config.json")), "not a file"),
    "the model a folder below": (
        lambda f: (shutil.copytree(f, f / "snapshots" / "1"), (f / "config.json").unlink()), "there is one in .*snapshots.1: give"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_folder_that_is_no_whole_model_is_refused_in_one_line(what, tiny_bert, tmp_path):
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    REFUSED[what][0](folder)
    with pytest.raises(BadInput, match=REFUSED[what][1]) as refused:
        load_bert(find_model(folder))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
    assert str(folder) in str(refused.value)


def test_what_a_model_was_trained_with_is_said_where_another_pooling_is_asked(tiny_bert, tmp_path):
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    backend = load_tokenizer(folder).backend_tokenizer
    assert remarks(folder, backend, ["cls"]) == []
    as_sentence_transformers(folder)
    assert remarks(find_model(folder), backend, ["max", "mean"]) == []
    (line,) = remarks(find_model(folder), backend, ["cls"])
    assert "trained with mean pooling, but cls is asked for: --pooling mean" in line


def test_a_vocabulary_that_disagrees_with_its_tokenizer_about_capitals_is_said(tiny_bert, tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "ball", "goal", "##es"]
    for name, more, lowers, said in (
        ("cased", ["London", "Ball"], True, "2 words of its vocabulary have capitals"),
        ("uncased", [], False, "words with capitals become [UNK]"),
        ("right", ["London", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"], False, None),
        ("right too", [], True, None),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vocab.txt").write_text("\n".join(words + more), encoding="utf-8")
        backend = transformers.BertTokenizerFast(
            vocab=str(tmp_path / name / "vocab.txt"), do_lower_case=lowers
        ).backend_tokenizer
        found = remarks(tmp_path / name, backend, "cls")
        assert (said in found[0] and len(found) == 1) if said else found == []
