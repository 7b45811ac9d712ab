"""The numerical certificate: how far the stored vectors are from plain BertModel in float32, one document at a time."""

import hashlib
import time

import numpy as np

from twostage.encoder.encoder import load_bert, load_tokenizer
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


def certify(folder, corpus, settings: dict, device: str, stored, extraction_seconds: float) -> dict:
    """Encode a sample anew, one document at a time, unpadded, in float32, and compare with what is stored.

    The model is loaded anew: what was folded and packed for speed has no part in it.
    stored(rows) -> vectors (n, D) as the cache holds them.
    Stops early when it would cost more than 2 % of the extraction or three seconds.
    -> documents, largest_absolute_error, largest_cosine_error (1 - cosine), largest_relative_error (length of the difference
    by that of the vector), its bound, seconds.
    """
    import torch

    start = time.perf_counter()
    rows = certificate_rows(corpus.digest)
    held = np.asarray(stored(rows), np.float64)
    tokenizer = load_tokenizer(folder)
    tokenizer.truncation_side = "left" if settings["truncation"] == "tail" else "right"
    model = load_bert(folder, pooler=settings["pooling"] == "pooler").to(device)
    began, absolute, relative, cosine, looked = time.perf_counter(), 0.0, 0.0, 0.0, 0
    for text, have in zip(corpus.texts(rows), held, strict=True):
        ids = torch.tensor([token_ids(tokenizer, text, settings)], device=device)
        with torch.inference_mode():
            want = pooled(model(input_ids=ids), settings["pooling"])[0].double().cpu().numpy()
        absolute = max(absolute, float(np.abs(want - have).max()))
        relative = max(relative, float(np.linalg.norm(want - have)) / max(float(np.linalg.norm(want)), 1e-12))
        norms = float(np.linalg.norm(want) * np.linalg.norm(have))
        cosine = max(cosine, 1 - float(want @ have) / norms if norms else 0.0)
        looked += 1
        if time.perf_counter() - began > max(SECONDS, SHARE * extraction_seconds):
            break
    return {
        "documents": looked,
        "largest_absolute_error": absolute,
        "largest_cosine_error": max(0.0, cosine),
        "largest_relative_error": relative,
        "bound": BOUNDS[settings["compute_dtype"]],
        "seconds": round(time.perf_counter() - start, 3),
    }


def token_ids(tokenizer, text: str, settings: dict) -> list[int]:
    """The tokens kept of one text, by transformers' own tokenizer."""
    text, most = settings.get("prefix", "") + text, settings["max_length"]
    if settings["truncation"] != "head-tail":
        return tokenizer(text, truncation=True, max_length=most)["input_ids"]
    ids, first = tokenizer(text, verbose=False)["input_ids"], 1 + head_tokens(most)
    return ids if len(ids) <= most else ids[:first] + ids[first - most :]


def pooled(output, pooling: str):
    """(1, D) out of what BertModel gives for one document."""
    if pooling == "pooler":
        return output.pooler_output
    return output.last_hidden_state.mean(1) if pooling == "mean" else output.last_hidden_state[:, 0]
