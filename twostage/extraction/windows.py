"""What of a corpus is to be encoded, and in which windows it is committed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from twostage.cache.format import PAGE_ROWS

WINDOW_SECONDS = 15  # of work between two commits
WINDOW_ROWS = 65536  # vectors at most, whatever they cost: those of a window are held in memory


@dataclass
class Todo:
    """What each of N documents needs.

    encode   (N,) bool, documents to put through the encoder
    lent     (N,) bool, documents that another cache lends
    twin     (N,) the first document with the same text; the document itself where it is the first
    """

    done: np.ndarray
    encode: np.ndarray
    lent: np.ndarray
    twin: np.ndarray

    @property
    def copies(self) -> int:
        """Documents whose vector is that of an earlier document with the same text."""
        return int((~self.done & ~self.encode & ~self.lent).sum())


def twins(digest: np.ndarray) -> np.ndarray:
    """digest (N, 32) of the texts -> (N,) the first document with the same text."""
    keys = np.ascontiguousarray(digest).view("V32").ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse]


def what_to_do(twin: np.ndarray, done: np.ndarray, lent: np.ndarray) -> Todo:
    """For one cache; twin, done and lent (N,): every text that nobody has yet is encoded once."""
    own = twin == np.arange(len(twin))
    return Todo(done, ~done & ~lent & own, lent & ~done, twin)


def in_one_pass(todos: list[Todo]) -> Todo:
    """For several caches of the same documents: what one of them lacks goes through the encoder, for all."""
    done, encode = np.all([t.done for t in todos], axis=0), np.any([t.encode for t in todos], axis=0)
    have = np.all([t.done | t.lent for t in todos], axis=0)
    return Todo(done, encode, have & ~done & ~encode, todos[0].twin)


@dataclass
class Window:
    """Rows first..stop-1 of the cache, committed together. rows: those of them that are to be encoded."""

    first: int
    stop: int
    rows: np.ndarray


class Windows:
    """Cuts the pages that are not done into windows of neighbours, of about WINDOW_SECONDS each at `tokens_per_second`.

    tokens (N,) is a guess of each document's length; views, how many vectors a document has."""

    def __init__(self, todo: Todo, tokens: np.ndarray, tokens_per_second: float, views: int = 1):
        self.todo, self.tokens, self.tokens_per_second, self.views = todo, tokens, tokens_per_second, views

    def __iter__(self) -> Iterator[Window]:
        n = len(self.tokens)
        cost = np.add.reduceat(np.where(self.todo.encode, self.tokens, 0), np.arange(0, n, PAGE_ROWS))
        open_pages = np.flatnonzero(~self.todo.done[::PAGE_ROWS])
        at = 0
        while at < len(open_pages):
            page, total, end = int(open_pages[at]), 0.0, at
            while end < len(open_pages) and open_pages[end] == page + end - at:
                if end > at and (
                    total + cost[open_pages[end]] > WINDOW_SECONDS * self.tokens_per_second
                    or (end - at + 1) * PAGE_ROWS * self.views > WINDOW_ROWS
                ):
                    break
                total += cost[open_pages[end]]
                end += 1
            first, stop = page * PAGE_ROWS, min((page + end - at) * PAGE_ROWS, n)
            yield Window(first, stop, first + np.flatnonzero(self.todo.encode[first:stop]))
            at = end
