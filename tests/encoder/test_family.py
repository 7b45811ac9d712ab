"""BERT's relatives: the same forward, other embeddings. Their own models in transformers say what is right."""

import numpy as np
import pytest
import torch
import transformers

from twostage.encoder.attention import EqualSpan, PaddedSpan
from twostage.encoder.family import FAMILY
from twostage.encoder.forward import FoldedBert

SHAPE = dict(vocab_size=90, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, type_vocab_size=2)


def family_model(kind, seed=0, **settings):
    """A tiny random model of that architecture whose biases and norms count too."""
    config = getattr(transformers, f"{FAMILY[kind]}Config")(max_position_embeddings=64, **SHAPE, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, f"{FAMILY[kind]}Model")(config).eval().requires_grad_(False)
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return model


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
