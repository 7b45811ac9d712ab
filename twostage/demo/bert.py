"""The demo's tiny BERT: single characters for a vocabulary, pretrained on the demo's own texts, without their classes.

Two tasks on the same masked texts: each masked character is told from its own place, as in BERT, and all of them from
the [CLS] vector, so that this vector learns what a text is about.
"""

import string
from pathlib import Path

import torch
from safetensors.torch import save
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

from twostage.progress import Progress

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, MASK = SPECIAL.index("[PAD]"), SPECIAL.index("[MASK]")
SHAPE = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
START = 0.1  # standard deviation of the first weights: BERT's 0.02 suits 768 units, and costs 64 units most of the time
BATCH_SIZE, PEAK_LR, MASKED = 64, 5e-3, 0.3


def write_bert(texts: list[str], folder: Path, *, steps: int, seed: int) -> None:
    """Write a `BertModel` folder (config, safetensors, fast tokenizer) after `steps` steps of pretraining on `texts`.

    One seed gives the same bytes on one machine. One thread: so small a model gains little from a second one, loses much
    where other work holds a core, and its bytes don't depend on how many there are.
    """
    tokenizer = write_vocabulary(texts, folder)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=512, initializer_range=START, **SHAPE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = BertForMaskedLM(config)
            pretrain(model, tokenizer(texts, truncation=True)["input_ids"], steps)
    finally:
        torch.set_num_threads(threads)
    config.architectures = ["BertModel"]
    config.save_pretrained(folder)
    weights = {name: tensor.detach().contiguous() for name, tensor in model.bert.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))  # save_file hides it from others


def write_vocabulary(texts: list[str], folder: Path) -> BertTokenizerFast:
    """Save and return a fast tokenizer: special tokens, digits and letters, the characters of `texts`."""
    plain = string.digits + string.ascii_lowercase
    characters = sorted({character for text in texts for character in text if not character.isspace()} - set(plain))
    tokens = [*SPECIAL, *plain, *(f"##{character}" for character in plain), *characters]
    tokenizer = BertTokenizerFast(vocab={token: number for number, token in enumerate(tokens)}, model_max_length=512)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="\n")
    return tokenizer


def pretrain(model: BertForMaskedLM, documents: list[list[int]], steps: int) -> None:
    """Train `model` on token ids, dropout off (few steps, little to regularise): AdamW, warm-up, then down."""
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.01)
    order = torch.empty(0, dtype=torch.long)
    with Progress(steps, "steps", "pretraining the demo's BERT") as progress:
        for step in range(steps):
            if len(order) < BATCH_SIZE:
                order = torch.randperm(len(documents))
            batch, order = order[:BATCH_SIZE].tolist(), order[BATCH_SIZE:]
            tokens = torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(documents[i]) for i in batch], batch_first=True, padding_value=PAD
            )  # (B, T)
            shown, chosen = mask(tokens, model.config.vocab_size)
            vectors = model.bert(shown, attention_mask=tokens != PAD).last_hidden_state  # (B, T, D)
            rows = chosen.nonzero()[:, 0]  # the document of each masked character
            local = cross_entropy(model.cls(vectors[chosen]), tokens[chosen])
            whole = cross_entropy(model.cls(vectors[:, 0])[rows], tokens[chosen])
            for group in optimizer.param_groups:
                group["lr"] = PEAK_LR * min((step + 1) / (0.1 * steps), (steps - step) / (0.5 * steps), 1)
            optimizer.zero_grad()
            (local + whole).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            progress.advance(1, loss=f"{local.item():.2f}")


def mask(tokens: torch.Tensor, vocab_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(what BERT is shown, what it must tell): of the chosen characters 80 % are hidden, 10 % replaced, 10 % left."""
    chosen = (torch.rand(tokens.shape) < MASKED) & (tokens >= len(SPECIAL))
    fate = torch.rand(tokens.shape)
    shown = torch.where(chosen & (fate < 0.8), MASK, tokens)
    anything = torch.randint(len(SPECIAL), vocab_size, tokens.shape)
    return torch.where(chosen & (fate >= 0.9), anything, shown), chosen
