"""Which documents go through the encoder together."""

import bisect
import itertools

import numpy as np


def packed_batches(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """As few batches as best fit gives: indexes into lengths (N,), longest documents first, at most `tokens` tokens a batch (or one
    document)."""
    batches, room = [], []  # room: (tokens left, batch) of those not full, sorted
    for row in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[row])
        at = bisect.bisect_left(room, (length, -1))
        left, batch = room.pop(at) if at < len(room) else (tokens, len(batches))
        if batch == len(batches):
            batches.append([])
        batches[batch].append(row)
        if left > length:
            bisect.insort(room, (left - length, batch))
    return [np.array(batch) for batch in batches]


def equal_length_groups(lengths: list[int]) -> list[tuple[int, int]]:
    """(documents, tokens) of each run of equal lengths."""
    return [(len(list(run)), length) for length, run in itertools.groupby(lengths)]


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
