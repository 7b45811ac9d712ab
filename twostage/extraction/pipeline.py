"""A corpus encoded and written at once: windows are dealt in parts, and committed one after another as their parts come in."""

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from twostage.cache.reuse import Lent
from twostage.cache.writer import CacheWriter
from twostage.extraction.dealing import Deal, Encoded
from twostage.extraction.windows import Todo, Window, Windows
from twostage.progress import Progress

READ_ROWS = 2048  # documents a part, at most
PARTS = 4  # a window, at least, for each who encodes


@dataclass
class Times:
    """Seconds spent in each part of the work; they overlap, so they add up to more than `total`.

    Where several encode, read, tokenize and encode are the average of them."""

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


@dataclass
class CacheView:
    """One of the caches that a pass fills: what it needs, and where its vectors stand in what is encoded (None: it needs none)."""

    writer: CacheWriter
    lent: Lent
    todo: Todo
    place: int | None


class Pipeline:
    """Fills the caches of `views`: each window is dealt in parts, brought together, and committed in a thread of its own.

    todo: theirs together. deal: those who encode take parts from it, and nobody needs to where nothing is left to encode.
    """

    def __init__(self, views: list[CacheView], todo: Todo, windows: Windows, deal: Deal):
        self.views, self.todo, self.windows, self.deal = views, todo, windows, deal
        self.times, self.told, self.lock = Times(), 0, threading.Lock()
        done = int(todo.done.sum())
        self.progress = Progress(len(todo.done), "documents", "encoding", done=done)

    def advance(self, documents: int) -> None:
        """Show that many more documents as done; from any thread."""
        with self.lock:
            self.told += documents
            self.progress.advance(documents)

    def run(self) -> Times:
        """Encode and commit everything that is not done. Raises what went wrong with whoever encodes or writes."""
        start, ahead, writes = time.perf_counter(), deque(), deque()
        windows = iter(self.windows)
        with self.progress, ThreadPoolExecutor(1, "write") as writer:  # what it has begun or been given, it ends
            while True:
                while len(ahead) < 2 and (window := next(windows, None)):
                    ahead.append((window, self._dealt(window)))
                if not ahead:
                    break
                window, parts = ahead.popleft()
                encoded = [part.result() for part in parts]
                self._note(window, encoded, time.perf_counter() - start)
                while len(writes) > 1 or (writes and writes[0].done()):
                    writes.popleft().result()
                writes.append(writer.submit(self._commit, window, encoded))
            for write in writes:
                write.result()
        self.times.total = time.perf_counter() - start
        return self.times

    def _dealt(self, window: Window) -> list[Future]:
        share = len(window.rows) // (PARTS * self.deal.workers) if self.deal.workers > 1 else READ_ROWS
        most = min(READ_ROWS, max(1, share))
        return [self.deal.encode(window.rows[at : at + most]) for at in range(0, len(window.rows), most)]

    def _note(self, window: Window, encoded: list[Encoded], elapsed: float) -> None:
        times, workers = self.times, max(1, self.deal.workers)
        for part in encoded:
            times.documents += len(part.counts)
            times.tokens += int(part.counts.sum())
            times.read += part.read / workers
            times.tokenize += part.tokenize / workers
            times.encode += part.encode / workers
        if times.tokens and elapsed > 5:
            self.windows.tokens_per_second = times.tokens / elapsed
        self.advance(window.stop - window.first - len(window.rows))

    def _commit(self, window: Window, encoded: list[Encoded]) -> None:
        """Commit a window in each cache that still lacks it."""
        began = time.perf_counter()
        for view in self.views:
            if not view.todo.done[window.first : window.stop].all():
                self._commit_view(view, window, encoded)
        self.times.write += time.perf_counter() - began

    def _commit_view(self, view: CacheView, window: Window, encoded: list[Encoded]) -> None:
        """Bring a window together from what was encoded, lent and seen before, and commit it."""
        first, stop, todo = window.first, window.stop, view.todo
        n, rows = stop - first, window.rows - first
        vectors = np.zeros((n, view.writer.identity.hidden_size), np.float32)
        token_count, truncated = np.zeros(n, np.int32), np.zeros(n, bool)
        if encoded and view.place is not None:
            vectors[rows] = np.concatenate([part.vectors[view.place] for part in encoded])
            token_count[rows] = np.concatenate([part.counts for part in encoded])
            truncated[rows] = np.concatenate([part.cut for part in encoded])
        lent = np.flatnonzero(todo.lent[first:stop])
        if len(lent):
            vectors[lent], token_count[lent], truncated[lent] = view.lent.rows(first + lent)
        copies = np.flatnonzero(~(todo.encode | todo.lent | todo.done)[first:stop])
        twins = todo.twin[first + copies]
        inside = (twins >= first) & ~todo.done[twins]
        before = copies[~inside]
        if len(before):
            vectors[before], token_count[before], truncated[before] = view.writer.rows(twins[~inside])
        here, there = copies[inside], twins[inside] - first
        vectors[here], token_count[here], truncated[here] = vectors[there], token_count[there], truncated[there]
        view.writer.commit(first, vectors, token_count, truncated)
