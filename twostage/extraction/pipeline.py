"""Reading, tokenizing, encoding and writing a corpus, all at once, in windows that are committed one after another."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from twostage.cache.format import PAGE_ROWS
from twostage.progress import Progress

WINDOW_SECONDS = 15  # of work between two commits
WINDOW_ROWS = 65536  # at most, whatever they cost: the vectors of a window are held in memory
READ_ROWS = 2048  # documents read and tokenized at a time


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


def what_to_do(digest: np.ndarray, done: np.ndarray, lent: np.ndarray) -> Todo:
    """digest (N, 32) of the texts, done and lent (N,) bool: every text that nobody has yet is encoded once."""
    keys = np.ascontiguousarray(digest).view("V32").ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    twin = first[inverse]
    own = twin == np.arange(len(keys))
    return Todo(done, ~done & ~lent & own, lent & ~done, twin)


@dataclass
class Times:
    """Seconds spent in each part; they overlap, so they add up to more than `total`."""

    total: float = 0.0
    read: float = 0.0
    tokenize: float = 0.0
    encode: float = 0.0  # a lane's average
    write: float = 0.0
    documents: int = 0  # encoded
    tokens: int = 0

    @property
    def idle(self) -> float:
        """Seconds in which the encoder had nothing to do."""
        return max(0.0, self.total - self.encode)


class Windows:
    """Cuts the pages that are not done into windows of neighbours, of about WINDOW_SECONDS each at `tokens_per_second`."""

    def __init__(self, todo: Todo, tokens: np.ndarray, tokens_per_second: float):
        self.todo, self.tokens, self.tokens_per_second = todo, tokens, tokens_per_second

    def __iter__(self) -> Iterator[tuple[int, int]]:
        n = len(self.tokens)
        cost = np.add.reduceat(np.where(self.todo.encode, self.tokens, 0), np.arange(0, n, PAGE_ROWS))
        open_pages = np.flatnonzero(~self.todo.done[::PAGE_ROWS])
        at = 0
        while at < len(open_pages):
            first, total, stop = int(open_pages[at]), 0.0, at
            while stop < len(open_pages) and open_pages[stop] == first + stop - at:
                if stop > at and (
                    total + cost[open_pages[stop]] > WINDOW_SECONDS * self.tokens_per_second
                    or (stop - at + 1) * PAGE_ROWS > WINDOW_ROWS
                ):
                    break
                total += cost[open_pages[stop]]
                stop += 1
            yield first * PAGE_ROWS, min((first + stop - at) * PAGE_ROWS, n)
            at = stop


class Pipeline:
    """Fills a CacheWriter: corpus.texts -> encoder.tokens -> encoder.lanes -> writer.commit, each in its own thread.

    encoder may be None when nothing is left to encode. expected_tokens (N,) is a guess of each document's length.
    """

    def __init__(self, corpus, writer, lent, todo: Todo, encoder, expected_tokens: np.ndarray, tokens_per_second: float):
        self.corpus, self.writer, self.lent, self.todo, self.encoder = corpus, writer, lent, todo, encoder
        self.windows = Windows(todo, expected_tokens, tokens_per_second)
        self.times = Times()

    def run(self) -> Times:
        """Encode and commit everything that is not done. Raises BadInput from any of the threads."""
        start, waiting, jobs, writes = time.perf_counter(), deque(), deque(), deque()
        reader, writer = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(1, "write")
        n, done = len(self.todo.done), int(self.todo.done.sum())
        busy_before = self.encoder.lanes.busy_seconds if self.encoder else 0.0
        windows = iter(self.windows)
        try:
            with Progress(n, "documents", "encoding", done=done) as progress:
                while True:
                    while len(waiting) < 2 and (window := next(windows, None)):
                        waiting.append(reader.submit(self._read, *window))
                    if waiting:
                        jobs.append(self._begin(*waiting.popleft().result()))
                    if not jobs:
                        break
                    if len(jobs) > 1 or not waiting:
                        writes.append(writer.submit(self._commit, *self._finish(progress, start, *jobs.popleft())))
                    while len(writes) > 1 or (writes and writes[0].done()):
                        writes.popleft().result()
                for write in writes:
                    write.result()
        finally:
            reader.shutdown(wait=True, cancel_futures=True)
            writer.shutdown(wait=True, cancel_futures=True)
        self.times.total = time.perf_counter() - start
        if self.encoder:
            self.times.encode = (self.encoder.lanes.busy_seconds - busy_before) / self.encoder.lanes.lanes
        return self.times

    def _read(self, first: int, stop: int):
        """Texts and tokens of the documents of a window that are to be encoded."""
        rows = first + np.flatnonzero(self.todo.encode[first:stop])
        ids, cut = [], []
        for at in range(0, len(rows), READ_ROWS):
            began = time.perf_counter()
            texts = self.corpus.texts(rows[at : at + READ_ROWS])
            read = time.perf_counter()
            part, truncated = self.encoder.tokens(texts)
            self.times.read += read - began
            self.times.tokenize += time.perf_counter() - read
            ids += part
            cut.append(truncated)
        return first, stop, rows, ids, np.concatenate(cut) if cut else np.zeros(0, bool)

    def _begin(self, first, stop, rows, ids, cut):
        counts = np.array([len(one) for one in ids], np.int32)
        return first, stop, rows, counts, cut, self.encoder.lanes.submit(ids) if ids else None

    def _finish(self, progress, start, first, stop, rows, counts, cut, job):
        vectors = job.wait(progress.advance) if job else None
        self.times.documents += len(rows)
        self.times.tokens += int(counts.sum())
        elapsed = time.perf_counter() - start
        if self.times.tokens and elapsed > 5:
            self.windows.tokens_per_second = self.times.tokens / elapsed
        progress.advance(stop - first - len(rows))
        return first, stop, rows, vectors, counts, cut

    def _commit(self, first, stop, rows, encoded, counts, cut) -> None:
        """Bring a window together from what was encoded, lent and seen before, and commit it."""
        began, n = time.perf_counter(), stop - first
        vectors = np.zeros((n, self.writer.identity.hidden_size), np.float32)
        token_count, truncated = np.zeros(n, np.int32), np.zeros(n, bool)
        if len(rows):
            vectors[rows - first], token_count[rows - first], truncated[rows - first] = encoded, counts, cut
        lent = np.flatnonzero(self.todo.lent[first:stop])
        if len(lent):
            vectors[lent], token_count[lent], truncated[lent] = self.lent.rows(first + lent)
        same = ~self.todo.encode[first:stop] & ~self.todo.lent[first:stop] & ~self.todo.done[first:stop]
        copies = np.flatnonzero(same)
        twins = self.todo.twin[first + copies]
        inside = twins >= first
        before = copies[~inside]
        if len(before):
            vectors[before], token_count[before], truncated[before] = self.writer.rows(twins[~inside])
        here, there = copies[inside], twins[inside] - first
        vectors[here], token_count[here], truncated[here] = vectors[there], token_count[there], truncated[there]
        self.writer.commit(first, vectors, token_count, truncated)
        self.times.write += time.perf_counter() - began
