"""What may enter a cache: finite numbers that the stored dtype can hold."""

import numpy as np

from twostage.cache.identity import shown
from twostage.errors import BadInput


def storable(vectors: np.ndarray, dtype: np.dtype, sources: list[str]) -> np.ndarray:
    """(n, D) vectors -> the same in `dtype`. BadInput naming the document of the first number that does not survive."""
    with np.errstate(over="ignore", invalid="ignore"):
        stored = np.ascontiguousarray(vectors, dtype)
    wrong = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if not len(wrong):
        return stored
    at = int(wrong[0])
    if np.isfinite(vectors[at]).all():
        raise BadInput(
            f"{shown(sources[at])}: its vector reaches {float(np.abs(vectors[at]).max()):,.0f}, more than float16 holds "
            "(65,504); use --store-dtype float32"
        )
    raise BadInput(
        f"{shown(sources[at])}: the encoder gives a number that is not finite; check that document and the weights, "
        "or try --dtype float32"
    )
