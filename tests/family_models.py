"""Tiny random checkpoints of each architecture of BERT's family, with the kind of tokenizer that it comes with."""

import shutil

import torch
import transformers

from tests.conftest import CHARACTERS
from twostage.encoder.family import FAMILY

SHAPE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, type_vocab_size=2)


def family_model(kind, seed=0, vocab_size=90, **settings):
    """A tiny random model of that architecture whose biases and norms count too."""
    config = getattr(transformers, f"{FAMILY[kind]}Config")(
        max_position_embeddings=64, vocab_size=vocab_size, **SHAPE, **settings
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, f"{FAMILY[kind]}Model")(config).eval().requires_grad_(False)
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return model


def make_checkpoint(folder, kind, tiny_bert, **settings):
    """A folder of that architecture with a fast tokenizer: BPE for RoBERTa's, unigram for XLM-R's and CamemBERT's, else BERT's."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder.mkdir(parents=True, exist_ok=True)
    if kind in ("bert", "ernie"):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny_bert / name, folder / name)
        vocabulary = len(transformers.AutoTokenizer.from_pretrained(tiny_bert))
    else:
        special, letters = ["<s>", "<pad>", "</s>", "<unk>"], sorted(set(CHARACTERS)) + list("abcdefghijklmnopqrstuvwxyz ▁")
        if kind in ("roberta", "data2vec-text"):
            letters = special + sorted(pre_tokenizers.ByteLevel.alphabet())
            backend = Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, [], unk_token="<unk>"))
            backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:
            letters = special + letters
            backend = Tokenizer(models.Unigram([(c, -float(i % 7)) for i, c in enumerate(letters)], unk_id=3))
            backend.normalizer, backend.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
        backend.add_special_tokens(special)
        backend.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
        ).save_pretrained(folder)
        vocabulary = len(letters)
    family_model(kind, vocab_size=vocabulary, **settings).save_pretrained(folder)
    return folder
