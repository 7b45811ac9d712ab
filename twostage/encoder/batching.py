"""Which documents go through the encoder together."""

import bisect
import itertools

import numpy as np

FEWEST_TOKENS = 64  # a batch, where a lane more could take it: products of few rows wait for the weights


def packed_batches(lengths: np.ndarray, tokens: int, lanes: int = 1, step: int = 1) -> list[np.ndarray]:
    """Batches by best fit: indexes into lengths (N,), longest documents first, at most `tokens` tokens a batch (or one document).

    As many batches for each of the lanes, as even as documents allow, so that all lanes end at the same time. A product's rows are a
    multiple of step.
    """
    total = int(lengths.sum())
    wanted = lanes * max(1, -(-total // (lanes * tokens)))
    each = min(tokens, -(-max(FEWEST_TOKENS, -(-total // wanted)) // step) * step)
    batches, room = [], []  # room: (tokens left of `each`, batch), sorted
    for row in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[row])
        at = bisect.bisect_left(room, (length, -1))
        if at == len(room) >= wanted and length - room[-1][0] <= tokens - each:
            at -= 1  # not a batch more but the emptiest
        left, batch = room.pop(at) if at < len(room) else (each, len(batches))
        if batch == len(batches):
            batches.append([])
        batches[batch].append(row)
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
