"""Why two caches are not the same one, in words."""

import numpy as np

from twostage import SPLITS
from twostage.encoder.settings import differences, short


def explain(have, asked, names: tuple[str, str] = ("cache", "asked")) -> list[str]:
    """The same for whole identities (an Identity or a FeatureCache each): settings, documents, order, labels, splits,
    sources and label_names. Empty for equal ones."""
    lines = differences(settings(have), settings(asked), names)
    if list(have.label_names) != list(asked.label_names):
        lines.append(differing_names(list(have.label_names), list(asked.label_names), names))
    have_key, asked_key = rows_as_keys(have.digest), rows_as_keys(asked.digest)
    if len(have_key) != len(asked_key) or (have_key != asked_key).any():
        new, gone = multiset_difference(asked_key, have_key), multiset_difference(have_key, asked_key)
        counts = f"{names[0]} {len(have_key):,}, {names[1]} {len(asked_key):,}"
        if new or gone:
            lines.append(f"documents: {counts} ({new:,} new, {gone:,} gone)")
        else:
            lines.append(f"order: the same {len(asked_key):,} documents in a different order")
    mine, theirs = matched_rows(have_key, asked_key)
    lines += changed("label", column(have, "label", mine), column(asked, "label", theirs), asked, theirs, names)
    lines += changed("split", column(have, "split", mine), column(asked, "split", theirs), asked, theirs, names)
    if len(have_key) == len(asked_key) and (have_key == asked_key).all():
        lines += changed("source", have.sources, asked.sources, asked, theirs, names)
    return lines


def settings(one) -> dict:
    return {**one.encoder, "store_dtype": one.store_dtype, "hidden_size": one.hidden_size}


def differing_names(have: list[str], asked: list[str], names: tuple[str, str]) -> str:
    new, gone = [n for n in asked if n not in have], [n for n in have if n not in asked]
    if not new and not gone:
        return "label_names: the same names in a different order"
    parts = [f"{word} {', '.join(short(n) for n in few[:3])}" for word, few in (("new", new), ("gone", gone)) if few]
    return f"label_names: {names[0]} {len(have)}, {names[1]} {len(asked)} ({'; '.join(parts)})"


def rows_as_keys(digest: np.ndarray) -> np.ndarray:
    """(N, 32) bytes -> (N,) strings of 33 bytes that numpy sorts and compares whole: a last byte that is never zero."""
    whole = np.concatenate([digest, np.ones((len(digest), 1), np.uint8)], axis=1)
    return np.ascontiguousarray(whole).view("S33").reshape(-1)


def multiset_difference(some: np.ndarray, other: np.ndarray) -> int:
    """How many of `some` have no partner in `other`, each partner serving once."""
    values, counts = np.unique(some, return_counts=True)
    others, other_counts = np.unique(other, return_counts=True)
    at = np.minimum(np.searchsorted(others, values), len(others) - 1)
    partners = np.where(others[at] == values, other_counts[at], 0)
    return int(np.maximum(counts - partners, 0).sum())


def matched_rows(have: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the same text on both sides, paired: all rows where the order is equal, else each text's first."""
    if len(have) == len(asked) and (have == asked).all():
        rows = np.arange(len(have))
        return rows, rows
    return np.intersect1d(have, asked, return_indices=True)[1:]


def column(one, name: str, rows: np.ndarray) -> list[str]:
    names, numbers = (one.label_names, one.label) if name == "label" else (SPLITS, one.split_of)
    return [names[index] for index in numbers[rows].tolist()]


def changed(name: str, have: list[str], asked: list[str], place, rows: np.ndarray, names: tuple[str, str]) -> list[str]:
    """["label: 3 documents differ, first a/1.txt: cache sport, asked politics"], or nothing."""
    where = [at for at, (one, other) in enumerate(zip(have, asked, strict=True)) if one != other]
    if not where:
        return []
    first = where[0]
    word = "document differs," if len(where) == 1 else "documents differ, first"
    source = short(place.sources[int(rows[first])])
    return [f"{name}: {len(where):,} {word} {source}: {names[0]} {short(have[first])}, {names[1]} {short(asked[first])}"]
