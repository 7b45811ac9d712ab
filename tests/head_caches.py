"""Small real caches of separable random vectors, for the tests of heads."""

import hashlib
from pathlib import Path

import numpy as np

from twostage.cache.identity import Identity
from twostage.cache.writer import CacheWriter
from twostage.recipes import THUCNEWS_CLASSES

ENCODER = {
    "weights": "aa", "config": "bb", "tokenizer": "cc", "max_length": 512, "truncation": "head", "pooling": "cls",
    "compute_dtype": "float32", "format": 1,
}  # fmt: skip


def make_cache(path: Path, n=600, hidden=16, names=THUCNEWS_CLASSES[:4], store="float16", split=None, label=None) -> Path:
    """n documents in classes that overlap a little; 80 % train, 10 % val, 10 % test unless `split` (n,) says otherwise."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % len(names) if label is None else np.asarray(label)
    vectors = (rng.normal(size=(len(names), hidden))[label] * 0.7 + rng.normal(size=(n, hidden))).astype(np.float32)
    split = rng.permutation(np.repeat([0, 1, 2], [n - 2 * (n // 10), n // 10, n // 10])) if split is None else split
    digest = np.stack([np.frombuffer(hashlib.sha256(str(i).encode()).digest(), np.uint8) for i in range(n)])
    sources = [f"{names[c]}/{i}.txt" for i, c in enumerate(label)]
    with CacheWriter(path, Identity(ENCODER, store, hidden, list(names), digest, label, split, sources)) as writer:
        writer.commit(0, vectors, np.full(n, 9, np.int32), np.zeros(n, bool))
        return writer.publish()
