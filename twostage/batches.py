"""Which documents go through the encoder together."""

import numpy as np


def equal_length_batches(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Batches of one length each, so that nothing is padded: indexes into lengths (N,), at most `tokens` a batch (or one
    document), longest first."""
    batches = []
    order = np.argsort(-lengths, kind="stable")
    ends = np.flatnonzero(np.diff(lengths[order])) + 1
    for group in np.split(order, ends) if len(order) else ():
        batches += split_evenly(group, max(1, tokens // int(lengths[group[0]])))
    return batches


def sorted_batches(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Batches of neighbours in length, longest first, at most `tokens` a batch counting each document as the longest."""
    order = np.argsort(-lengths, kind="stable")
    batches, at = [], 0
    while at < len(order):
        many = max(1, tokens // int(lengths[order[at]]))
        batches.append(order[at : at + many])
        at += many
    return batches


def split_evenly(rows: np.ndarray, most: int) -> list[np.ndarray]:
    """As few parts of at most `most` as possible, their sizes differing by at most one."""
    return np.array_split(rows, -(-len(rows) // most)) if len(rows) else []
