"""Parts of a corpus dealt to whoever encodes them, as fast as each takes them."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

AHEAD = 2  # parts that one who encodes has at a time, so that the next is there when one is done


@dataclass
class Encoded:
    """A part of n documents after the encoder.

    vectors  (V, n, D) float32: V views of each document, one for each vector asked of the same pass
    counts   (n,) int32 tokens; cut (n,) bool, whether the text was longer
    read, tokenize, encode: seconds; encode is a lane's average since the part before
    """

    vectors: np.ndarray
    counts: np.ndarray
    cut: np.ndarray
    read: float = 0.0
    tokenize: float = 0.0
    encode: float = 0.0


@dataclass
class Part:
    rows: np.ndarray
    encoded: Future


class Deal:
    """A queue of parts. Those who encode take from it; an error of one of them reaches all who wait."""

    def __init__(self):
        self.queue: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
        self.waiting: set[Future] = set()
        self.lock = threading.Lock()
        self.error: BaseException | None = None
        self.workers = 0  # who take from it

    def encode(self, rows: np.ndarray) -> "Future[Encoded]":
        """Queue the documents of these rows; returns at once. An error of whoever encodes is raised by result()."""
        part = Part(rows, Future())
        with self.lock:
            if self.error:
                part.encoded.set_exception(self.error)
                return part.encoded
            self.waiting.add(part.encoded)
        self.queue.put(part)
        return part.encoded

    def __iter__(self) -> Iterator[Part]:
        """Parts as they come, until the deal ends."""
        while (part := self.take()) is not None:
            yield part

    def take(self, wait: bool = True) -> Part | None:
        """The next part; None at the end, or without `wait` where there is none."""
        try:
            part = self.queue.get(wait)
        except queue.Empty:
            return None
        if part is None:
            self.queue.put(None)  # for the others
        return part

    def give(self, part: Part, encoded: Encoded) -> None:
        with self.lock:
            self.waiting.discard(part.encoded)
        with suppress(InvalidStateError):
            part.encoded.set_result(encoded)

    def end(self, error: BaseException | None = None) -> None:
        """Deal no more. With an error every part that is not encoded fails with it, the first error counts."""
        with self.lock:
            if error and not self.error:
                self.error = error
            failed, self.waiting = self.waiting if error else set(), set() if error else self.waiting
        with suppress(queue.Empty):
            while error and self.queue.get_nowait():
                pass
        self.queue.put(None)
        for future in failed:
            with suppress(InvalidStateError):
                future.set_exception(self.error)


class Here:
    """This process as one who encodes: corpus.texts and encoder.tokens in one thread, encoder.lanes in theirs.

    advance(documents) is called from another thread whenever that many more are encoded.
    """

    def __init__(self, corpus, encoder, deal: Deal, advance: Callable[[int], None] = lambda documents: None):
        self.corpus, self.encoder, self.deal, self.advance = corpus, encoder, deal, advance
        self.room, self.jobs = threading.Semaphore(AHEAD), queue.SimpleQueue()
        self.stopped = False
        self.threads = [threading.Thread(target=self._guarded, args=(work,)) for work in (self._read, self._collect)]
        deal.workers += 1
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        """Drop what is not encoded yet, and wait for the threads."""
        self.stopped = True
        self.room.release()
        self.encoder.close()
        for thread in self.threads:
            thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # what was cancelled, too: whoever waits must hear of it
            self.stopped = True
            self.deal.end(error)
        finally:
            self.jobs.put(None)
            self.room.release()

    def _read(self) -> None:
        for part in self.deal:
            began = time.perf_counter()
            texts = self.corpus.texts(part.rows)
            read = time.perf_counter()
            ids, cut = self.encoder.tokens(texts)
            spent = {"read": read - began, "tokenize": time.perf_counter() - read}
            self.room.acquire()
            if self.stopped:
                return
            self.jobs.put((part, ids, cut, spent, self.encoder.lanes.submit(ids)))

    def _collect(self) -> None:
        lanes = self.encoder.lanes
        busy = lanes.busy_seconds
        while (job := self.jobs.get()) is not None:
            part, ids, cut, spent, vectors = job
            done = vectors.wait(self.advance)
            if self.stopped:  # lanes that were stopped leave rows as they found them
                return
            before, busy = busy, lanes.busy_seconds
            counts = np.array([len(one) for one in ids], np.int32)
            self.deal.give(part, Encoded(done, counts, cut, **spent, encode=(busy - before) / lanes.lanes))
            self.room.release()
