"""Which documents go through the encoder together."""

import itertools

import numpy as np


def packed_batches(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Batches of about equal work: indexes into lengths (N,), longest documents first, at most `tokens` tokens a batch (or
    one document)."""
    order = np.argsort(-lengths, kind="stable")
    batches, at, ends = [], 0, np.cumsum(lengths[order])
    while at < len(order):
        before = int(ends[at - 1]) if at else 0
        stop = max(at + 1, int(np.searchsorted(ends, before + tokens, side="right")))
        batches.append(order[at:stop])
        at = stop
    return batches


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
