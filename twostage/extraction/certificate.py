"""The numerical certificate: how far the stored vectors are from plain BertModel in float32, one document at a time."""

import hashlib
import time

import numpy as np

from twostage.encoder.encoder import load_bert, load_tokenizer
from twostage.encoder.settings import view_of
from twostage.encoder.tokenizer import head_tokens

DOCUMENTS = 32  # at most
SHARE = 0.02  # of the extraction's seconds, at most
SECONDS = 3.0  # always granted
BOUNDS = {
    "float32": 2e-3,
    "float16": 2e-2,
    "bfloat16": 5e-2,
}  # of the largest relative error, by compute dtype: cache/README.md


def certificate_rows(digest: np.ndarray, many: int = DOCUMENTS) -> np.ndarray:
    """The documents to look at: those with the smallest sha256(b"certificate\\0" + text digest), each text once."""
    texts, first = np.unique(np.ascontiguousarray(digest).view("V32").ravel(), return_index=True)
    rank = [hashlib.sha256(b"certificate\0" + text.tobytes()).digest() for text in texts]
    return first[sorted(range(len(rank)), key=rank.__getitem__)[:many]]


def certify(folder, corpus, each: list[dict], device: str, stored: list, extraction_seconds: float) -> list[dict]:
    """Encode a sample anew, one document at a time, unpadded, in float32, and compare with what the caches hold.

    The model is loaded anew: what was folded and packed for speed has no part in it.
    each, stored: the settings of each cache, and what gives its vectors: stored[i](rows) -> (n, D).
    Stops early when it would cost more than 2 % of the extraction or three seconds.
    -> of each cache documents, largest_absolute_error, largest_cosine_error (1 - cosine), largest_relative_error (length of the
    difference by that of the vector), its bound, seconds.
    """
    import torch

    start = time.perf_counter()
    rows = certificate_rows(corpus.digest)
    held = np.array([vectors(rows) for vectors in stored], np.float64)  # (V, n, D)
    settings, views = each[0], [view_of(one) for one in each]
    tokenizer = load_tokenizer(folder)
    tokenizer.truncation_side = "left" if settings["truncation"] == "tail" else "right"
    model = load_bert(folder, pooler=("pooler", -1) in views).to(device)
    began, wanted = time.perf_counter(), []
    for text in corpus.texts(rows):
        ids = torch.tensor([token_ids(tokenizer, text, settings)], device=device)
        with torch.inference_mode():
            output = model(input_ids=ids, output_hidden_states=any(layer != -1 for _, layer in views))
            wanted.append([pooled(output, *view)[0].double().cpu().numpy() for view in views])
        if time.perf_counter() - began > max(SECONDS, SHARE * extraction_seconds):
            break
    seconds = round(time.perf_counter() - start, 3)
    wanted = np.swapaxes(wanted, 0, 1)  # (V, n, D)
    return [
        errors(want, have[: len(want)]) | {"bound": BOUNDS[settings["compute_dtype"]], "seconds": seconds}
        for want, have in zip(wanted, held, strict=True)
    ]


def errors(want: np.ndarray, have: np.ndarray) -> dict:
    """The largest over n vectors (n, D) each, as certify gives them."""
    length, norms = np.linalg.norm(want, axis=1), np.linalg.norm(want, axis=1) * np.linalg.norm(have, axis=1)
    cosine = np.where(norms > 0, (want * have).sum(1) / np.maximum(norms, 1e-300), 1.0)
    return {
        "documents": len(want),
        "largest_absolute_error": float(np.abs(want - have).max()),
        "largest_cosine_error": max(0.0, float((1 - cosine).max())),
        "largest_relative_error": float((np.linalg.norm(want - have, axis=1) / np.maximum(length, 1e-12)).max()),
    }


def token_ids(tokenizer, text: str, settings: dict) -> list[int]:
    """The tokens kept of one text, by transformers' own tokenizer."""
    text, most = settings.get("prefix", "") + text, settings["max_length"]
    if settings["truncation"] != "head-tail":
        return tokenizer(text, truncation=True, max_length=most)["input_ids"]
    ids, first = tokenizer(text, verbose=False)["input_ids"], 1 + head_tokens(most)
    return ids if len(ids) <= most else ids[:first] + ids[first - most :]


def pooled(output, pooling: str, layer: int):
    """(1, D) out of what BertModel gives for one document."""
    if pooling == "pooler":
        return output.pooler_output
    tokens = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
    return {"cls": tokens[:, 0], "mean": tokens.mean(1), "max": tokens.amax(1)}[pooling]
