"""Vectors against BertModel, tokens against the tokenizer alone, and model folders that must be refused."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from tests.conftest import CHARACTERS, make_bert, make_texts
from twostage.encoder.checkpoint import find_model, model_name
from twostage.encoder.encoder import Encoder, load_bert, load_tokenizer, load_tokens
from twostage.encoder.settings import encoder_settings
from twostage.errors import BadInput

TEXTS = [text for text, _ in make_texts(5, 12, seed=3, length=(1, 120))] + ["", "hello 世界 world"]


def one_at_a_time(folder, texts, pooling, truncation, max_length):
    """Vectors (N, D) of plain BertModel, and token counts: the definition that the encoder must meet."""
    tokenizer, model = load_tokenizer(folder), load_bert(folder, pooler=pooling == "pooler")
    tokenizer.truncation_side = "left" if truncation == "tail" else "right"
    rows, counts = [], []
    for text in texts:
        batch = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.inference_mode():
            output = model(**batch)
        hidden = output.last_hidden_state[0]
        rows.append({"cls": hidden[0], "mean": hidden.mean(0), "pooler": output.pooler_output}[pooling].reshape(-1).numpy())
        counts.append(batch["input_ids"].shape[1])
    return np.stack(rows), counts


@pytest.mark.parametrize("truncation", ["head", "tail"])
@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean"])
def test_vectors_are_those_of_bertmodel_fed_one_document_at_a_time(tiny_bert, pooling, truncation):
    wanted, counts = one_at_a_time(tiny_bert, TEXTS, pooling, truncation, 48)
    encoder = Encoder(tiny_bert, max_length=48, truncation=truncation, pooling=pooling, device="cpu", dtype="float32")
    vectors, token_count, truncated = encoder.encode(TEXTS)
    encoder.close()
    assert np.abs(vectors - wanted).max() < 1e-5
    assert token_count.tolist() == counts
    assert truncated.tolist() == [len(ids) > 48 for ids in load_tokenizer(tiny_bert)(TEXTS)["input_ids"]]


def test_a_document_has_the_same_bits_whatever_is_beside_it(tiny_bert):
    encoder = Encoder(tiny_bert, max_length=100, device="cpu", dtype="float32")
    together = encoder.encode(TEXTS)[0]
    alone = np.concatenate([encoder.encode([text])[0] for text in TEXTS])
    assert alone.tobytes() == together.tobytes()
    for tokens, seed in ((1, 0), (70, 1), (5000, 2)):
        encoder.lanes.tokens_per_batch = tokens
        order = random.Random(seed).sample(range(len(TEXTS)), len(TEXTS))
        shuffled = encoder.encode([TEXTS[i] for i in order])[0]
        assert shuffled.tobytes() == together[order].tobytes()
    encoder.close()


@pytest.fixture(scope="module")
def real_tokens(tmp_path_factory):
    """A tokenizer with words of several pieces, so that cutting a text inside a word would show."""
    folder = make_bert(tmp_path_factory.mktemp("pieces") / "bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcde", *(f"##{c}" for c in "abcde"), "ab", "##cd", "e\u0301"]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*words, *CHARACTERS[:40], "、", ".", "##e"]) + "\n", encoding="utf-8")
    return load_tokenizer(folder, vocab_size=10**6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text("abcde \u3000\n的一是了我\u0301\u0300é.、\u200b\x00[", max_size=30),
            st.sampled_from(["a" * 130, "[SEP]", "[MASK] ", "\u3099", " " * 50, "e\u0301", "的\u0301"]),
        ),
        min_size=20,
        max_size=60,
    ),
    st.sampled_from([3, 4, 7, 16]),
)
def test_a_text_cut_before_tokenizing_has_the_tokens_of_the_whole_text(real_tokens, parts, max_length):
    from twostage.encoder.tokenizer import Tokens

    text = "".join(parts) * 3
    for side, truncation in (("right", "head"), ("left", "tail")):
        tokens = Tokens(real_tokens, max_length, truncation)
        assert tokens.can_cut
        real_tokens.truncation_side = side
        wanted = real_tokens(text, truncation=True, max_length=max_length)["input_ids"]
        ids, truncated = tokens([text])
        assert ids[0].tolist() == wanted
        assert truncated[0] == (len(real_tokens(text)["input_ids"]) > max_length)


def test_long_texts_really_are_cut_before_tokenizing(tiny_bert):
    tokens = load_tokens(tiny_bert, 16, "head")
    assert tokens.promising("好" * 5000) == "好" * len(tokens.promising("好" * 5000))
    assert len(tokens.promising("好" * 5000)) < 60
    assert len(load_tokens(tiny_bert, 16, "tail").promising("好" * 5000)) < 60


def test_settings_follow_the_contents_of_the_files_and_nothing_else(tiny_bert, tmp_path):
    def asked(folder, **changed):
        return encoder_settings(
            folder, **{"max_length": 32, "truncation": "head", "pooling": "cls", "compute_dtype": "float32"} | changed
        )

    moved = tmp_path / "another name"
    shutil.copytree(tiny_bert, moved)
    assert asked(moved) == asked(tiny_bert)
    for name, field in (("model.safetensors", "weights"), ("config.json", "config"), ("tokenizer.json", "tokenizer")):
        changed = tmp_path / field
        shutil.copytree(tiny_bert, changed)
        path = changed / name
        path.write_bytes(path.read_bytes() + b" ")
        differing = {key for key, value in asked(changed).items() if value != asked(tiny_bert)[key]}
        assert differing == {field}


def test_checkpoints_of_other_tasks_and_older_or_sharded_files_give_the_same_vectors(tiny_bert, tmp_path):
    plain = load_bert(tiny_bert)
    wanted = plain(torch.tensor([[2, 7, 9, 3]])).last_hidden_state
    config = BertConfig.from_pretrained(tiny_bert)
    for task in (BertForSequenceClassification, BertForMaskedLM):
        model = task(config)
        model.bert.load_state_dict(plain.state_dict(), strict=False)
        model.save_pretrained(tmp_path / task.__name__)
    plain.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert not (tmp_path / "sharded" / "model.safetensors").exists()
    (tmp_path / "older").mkdir()
    torch.save(plain.state_dict(), tmp_path / "older" / "pytorch_model.bin")
    for folder in tmp_path.iterdir():
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            if not (folder / name).exists():
                shutil.copy(tiny_bert / name, folder / name)
        assert torch.equal(load_bert(find_model(folder))(torch.tensor([[2, 7, 9, 3]])).last_hidden_state, wanted), folder


def test_weights_stay_what_they_were_when_their_file_is_written_over_in_place(tiny_bert, tmp_path):
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    encoder = Encoder(folder, max_length=48, device="cpu", dtype="float32")
    before = encoder.encode(TEXTS)[0]
    with open(folder / "model.safetensors", "r+b") as file:  # of the same size: a shorter one would end a process that maps it
        size = file.seek(0, 2)
        file.seek(size // 4)
        file.write(bytes(size - size // 4))
    assert encoder.encode(TEXTS)[0].tobytes() == before.tobytes()
    encoder.close()


def test_a_checkpoint_without_a_pooler_serves_cls_and_is_refused_for_pooler(tiny_bert, tmp_path):
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    load_bert(tiny_bert).save_pretrained(folder)
    load_bert(folder)
    with pytest.raises(BadInput, match="lacks pooler.*--pooling cls, mean or max"):
        load_bert(folder, pooler=True)


def test_a_checkpoint_that_lacks_an_encoder_weight_is_refused_not_filled_at_random(tiny_bert, tmp_path):
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    state = load_bert(tiny_bert).state_dict()
    del state["encoder.layer.1.output.dense.weight"]
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"lacks encoder\.layer\.1\.output\.dense\.weight"):
        load_bert(folder)


def test_a_checkpoint_that_holds_code_is_refused(tiny_bert, tmp_path):
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"w": print}, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="cannot be loaded"):
        load_bert(folder)


def edit_config(folder, **changed):
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **changed}), encoding="utf-8")


BROKEN = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "not JSON": (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
    "another class": (
        lambda f: edit_config(f, model_type="gpt2"),
        "'gpt2', which computes differently; bert, roberta.* and ernie can be read",
    ),
    "relative positions": (lambda f: edit_config(f, position_embedding_type="relative_key"), "relative positions"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights"),
    "no tokenizer": (lambda f: [(f / n).unlink(missing_ok=True) for n in ("tokenizer.json", "vocab.txt")], "no tokenizer"),
    "broken weights": (lambda f: (f / "model.safetensors").write_bytes(b"torn"), "cannot be loaded"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer cannot be loaded"),
    "small embedding": (
        lambda f: edit_config(f, vocab_size=50),
        r"differ in shape: embeddings.word\S+ is \d+ x 32, not 50 x 32",
    ),
    "other shapes": (
        lambda f: edit_config(f, intermediate_size=96),
        "differ in shape: encoder.layer.0.* 128 x 32, not 96 x 32",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_model_folder_is_refused_in_one_line(tiny_bert, tmp_path, what):
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    break_it, message = BROKEN[what]
    break_it(folder)
    with pytest.raises(BadInput, match=message) as refused:
        load_tokenizer(find_model(folder))
        load_bert(folder)
    assert "\n" not in str(refused.value)
    assert str(folder) in str(refused.value)


def test_a_model_that_is_nowhere_is_refused_in_one_line(tmp_path):
    for name in (str(tmp_path / "absent"), "./absent", "no-such-owner/no-such-bert"):
        with pytest.raises(BadInput, match="no such") as refused:
            find_model(name)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("max_length", [2, 129])
def test_a_max_length_that_the_model_cannot_take_is_refused(tiny_bert, max_length):
    with pytest.raises(BadInput, match=f"--max-length {max_length}: .* 128 positions"):
        load_tokens(tiny_bert, max_length, "head")


def test_a_model_name_is_the_last_part_and_safe_in_a_file_name(tmp_path):
    assert model_name("hfl/chinese-roberta-wwm-ext") == "chinese-roberta-wwm-ext"
    (tmp_path / "my bert").mkdir()
    assert model_name(tmp_path / "my bert") == "my-bert"
