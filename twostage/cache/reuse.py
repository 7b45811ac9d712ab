"""Vectors that finished caches of the same encoder settings already hold, lent to a new cache."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from twostage.cache.columns import read_facts_checked
from twostage.cache.differences import explain, rows_as_keys, settings
from twostage.cache.format import PAGE_ROWS, pages_of
from twostage.cache.identity import Identity
from twostage.cache.reader import FeatureCache, list_caches, open_cache
from twostage.cache.validation import open_safely
from twostage.encoder.settings import differences
from twostage.errors import BadInput
from twostage.progress import say


@dataclass
class Lent:
    """Which of N documents finished caches hold, and where.

    have    (N,) bool
    donors  the caches, open
    """

    have: np.ndarray
    donor: np.ndarray  # (N,) index into donors, -1 without one
    row: np.ndarray  # (N,) row in that donor
    donors: list[FeatureCache] = field(default_factory=list)

    def rows(self, indices) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Documents of `have` -> vectors (n, D) float32, token_count (n,), truncated (n,) bool; each page is checked.

        Ask in large portions: every page touched is read and hashed whole.
        """
        indices = np.asarray(indices, np.int64)
        if not self.have[indices].all():
            raise ValueError("a document that no cache holds")
        width = self.donors[0].hidden_size if self.donors else 0
        vectors = np.empty((len(indices), width), np.float32)
        token_count, truncated = np.empty(len(indices), np.int32), np.empty(len(indices), bool)
        for number, cache in enumerate(self.donors):
            at = np.flatnonzero(self.donor[indices] == number)
            if len(at):
                rows = self.row[indices[at]]
                vectors[at] = cache.vectors(rows=rows)
                token_count[at], truncated[at] = cache.token_count[rows], cache.truncated[rows]
        return vectors, token_count, truncated


def find_vectors(cache_dir: str | Path, identity: Identity) -> Lent:
    """Look through the finished caches of the folder for texts of `identity` under equal encoder settings.

    A donor stores the same dtype or a wider one. Its pages are verified first; what is damaged is said and not used.
    """
    n = len(identity.sources)
    lent = Lent(np.zeros(n, bool), np.full(n, -1, np.int32), np.zeros(n, np.int64))
    asked = None
    for path in list_caches(cache_dir):
        if not may_lend(path, identity):
            continue
        try:
            cache = open_cache(path)
        except BadInput as error:
            say(f"not reused: {error}")
            continue
        asked = rows_as_keys(identity.digest) if asked is None else asked
        held = rows_as_keys(cache.digest)
        order = np.argsort(held, kind="stable")
        at = np.minimum(np.searchsorted(held[order], asked), len(held) - 1)
        rows = order[at]
        found = (held[rows] == asked) & ~lent.have
        touched = np.unique(rows[found] // PAGE_ROWS)
        bad = cache.file.bad_pages(cache.fingerprint, touched)
        if bad:
            say(f"{path}: {len(bad)} of {pages_of(len(cache))} pages are damaged; none of them is reused")
            found &= ~np.isin(rows // PAGE_ROWS, bad)
        if found.any():
            lent.have |= found
            lent.donor[found], lent.row[found] = len(lent.donors), rows[found]
            lent.donors.append(cache)
    return lent


def may_lend(path: Path, identity: Identity) -> bool:
    """Whether the head of the file says that its vectors mean the same."""
    try:
        file, header = open_safely(path)
    except BadInput as error:
        say(f"not reused: {error}")
        return False
    file.close()
    return (
        header.encoder == identity.encoder
        and header.hidden_size == identity.hidden_size
        and header.store_dtype in (identity.store_dtype, "float32")
    )


def nearest_cache(cache_dir: str | Path, identity: Identity) -> tuple[Path, list[str]] | None:
    """The cache of the folder, finished or not, that differs least, and how; None where there is none to compare."""
    folder = Path(cache_dir)
    best = None
    for path in [*list_caches(folder), *sorted(folder.glob("*.h5.partial"))]:
        try:
            file, header = open_safely(path)
        except BadInput:
            continue
        try:
            facts, faults = read_facts_checked(file, header, done=np.zeros(pages_of(header.documents), bool))
            if faults:
                continue
            cache = FeatureCache(path, file, header, facts)
            fields = len(differences(settings(cache), settings(identity)))
            shared = np.isin(rows_as_keys(cache.digest), rows_as_keys(identity.digest)).sum()
            if best is None or (fields, -shared) < best[0]:
                best = (fields, -shared), path, explain(cache, identity)
        except BadInput:
            continue
        finally:
            file.close()
    return None if best is None else best[1:]
