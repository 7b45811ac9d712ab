"""Write a cache so that a kill, a full disk or a power cut loses at most the window that was under way.

It grows as <name>.h5.partial. A window is committed as rows, fsync, digests and marks, fsync; the finished file is
verified, renamed and its folder fsynced. Its bytes depend on identity and vectors alone.
"""

import contextlib
import os
from pathlib import Path

import numpy as np

from twostage.cache.columns import read_facts_checked
from twostage.cache.differences import explain
from twostage.cache.format import PAGE_ROWS, facts_digest, pages_of, storable, vectors_digest
from twostage.cache.identity import Identity
from twostage.cache.pages import CacheBytes, page_rows, write_fully
from twostage.cache.reader import FeatureCache
from twostage.cache.structure import build, create_partial
from twostage.cache.validation import open_safely
from twostage.errors import BadInput
from twostage.files import disk_trouble, free_space, release_lock, sweep, sync, take_lock
from twostage.progress import say

REFUSED = "the disk refuses it"
AGAIN = "fix that and run the same command again: what is committed is kept"


@contextlib.contextmanager
def opened(writers: "list[CacheWriter]"):
    """All of these, in the order of their names: of two processes that want the same caches one gets them all.

    BadInput, before anything is written, where the disk has no room for all that are not begun."""
    new = [one for one in writers if not os.path.lexists(one.path) and not os.path.lexists(one.partial)]
    if len(new) > 1:
        folder, needed = new[0].path.parent, sum(build(one.identity)[2] for one in new)
        if needed > (free := free_space(folder)):
            raise BadInput(
                f"{folder}: the {len(new)} caches need {needed:,} bytes, {free:,} are free; make room there or give another --cache-dir"
            )
    with contextlib.ExitStack() as stack:
        for writer in sorted(writers, key=lambda one: one.path):
            stack.enter_context(writer)
        yield


class CacheWriter:
    """The one writer of the cache at `path`. Use as a context manager; raises BadInput while another process has it.

    .done   (N,) bool, the documents whose vectors are committed
    """

    def __init__(self, path: str | Path, identity: Identity):
        self.path, self.identity = Path(path), identity
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.lock_path = self.path.with_name(self.path.name + ".lock")
        self.finished = False  # there already, or published
        self.file: CacheBytes | None = None
        self.lock = None

    def __enter__(self) -> "CacheWriter":
        with disk_trouble(self.path.parent, "cannot be the cache folder", "give another --cache-dir"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = take_lock(self.lock_path, self.path, "--cache-dir")
        try:
            sweep(self.path.parent)
            if os.path.lexists(self.path):
                self._adopt_finished()
            else:
                if not os.path.lexists(self.partial):
                    with disk_trouble(self.path.parent, "cannot take a new cache", "give another --cache-dir"):
                        create_partial(self.partial, self.identity)
                self._resume()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception) -> None:
        if self.file is not None:
            self.file.close()
        if self.lock is not None:
            release_lock(self.lock)
            self.lock = None

    @property
    def done(self) -> np.ndarray:
        return np.repeat(self.page_done == 1, PAGE_ROWS)[: len(self.identity.sources)]

    def look(self) -> np.ndarray:
        """(N,) bool: the documents that a writer would find committed. Takes no lock and writes nothing."""
        if os.path.lexists(self.path):
            return np.ones(len(self.identity.sources), bool)
        if not os.path.lexists(self.partial):
            return np.zeros(len(self.identity.sources), bool)
        try:
            self._open(self.partial, writable=False)
            self._find_pages()
        finally:
            if self.file is not None:
                self.file.close()
        return self.done

    def commit(self, first: int, vectors: np.ndarray, token_count: np.ndarray, truncated: np.ndarray) -> None:
        """Keep a window of whole pages for good: it survives whatever happens after the return.

        first        row of the first vector, a multiple of 64
        vectors      (n, D) float32; n a multiple of 64, unless the window reaches the last document
        token_count  (n,) tokens encoded; truncated (n,) bool
        Pages committed before keep what they hold. BadInput for a number that is not finite or that float16 cannot
        hold, naming its document, and for a disk that refuses.
        """
        n, total, fingerprint = len(vectors), len(self.identity.sources), self.identity.fingerprint
        if first % PAGE_ROWS or (n % PAGE_ROWS and first + n != total) or not 0 < n <= total - first:
            raise ValueError(f"rows {first}..{first + n - 1} are not whole pages")
        if vectors.shape != (n, self.identity.hidden_size) or not len(token_count) == len(truncated) == n:
            raise ValueError(f"{vectors.shape} vectors, {len(token_count)} counts, {len(truncated)} flags do not fit")
        stored = storable(vectors, self.file.tables["vectors"].dtype, self.identity.sources[first : first + n])
        pages = np.arange(first // PAGE_ROWS, pages_of(first + n))
        fresh = pages[self.page_done[pages] == 0]
        if not len(fresh):
            return
        with disk_trouble(self.partial, REFUSED, AGAIN):
            for run in np.split(fresh, np.flatnonzero(np.diff(fresh) != 1) + 1):
                start, stop = int(run[0]) * PAGE_ROWS, min((int(run[-1]) + 1) * PAGE_ROWS, total)
                own = slice(start - first, stop - first)
                self.facts["token_count"][start:stop] = token_count[own]
                self.facts["truncated"][start:stop] = truncated[own]
                self.file.write("vectors", start, stored[own])
                self.file.write("token_count", start, self.facts["token_count"][start:stop])
                self.file.write("truncated", start, self.facts["truncated"][start:stop])
                for page in map(int, run):
                    rows = stored[page * PAGE_ROWS - first : (page + 1) * PAGE_ROWS - first]
                    digests = (vectors_digest(fingerprint, page, rows), facts_digest(fingerprint, page, self.facts))
                    for name, digest in zip(self.digests, digests, strict=True):
                        self.digests[name][page] = np.frombuffer(digest, np.uint8)
            os.fsync(self.file.fd)
            self.page_done[fresh] = 1
            self._write_marks(int(pages[0]), int(pages[-1]) + 1)

    def rows(self, indices) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Committed documents again -> vectors (n, D) in the stored dtype, token_count (n,), truncated (n,) bool."""
        indices = np.asarray(indices, np.int64)
        if not self.done[indices].all():
            raise ValueError("a row that is not committed")
        vectors = self.reader.vectors(rows=indices)
        return vectors, self.facts["token_count"][indices], self.facts["truncated"][indices].astype(bool)

    def publish(self) -> Path:
        """Verify every page, then let the file appear under its name -> that path. BadInput for a damaged page."""
        if self.finished:
            return self.path
        if not self.done.all():
            raise ValueError(f"{int((~self.done).sum())} documents are not committed")
        faults = self.reader.verify() + read_facts_checked(self.file, self.reader.header)[1]
        if faults:
            raise BadInput(f"{self.partial}: damaged: {faults[0]}; run the same command again to encode it once more")
        with disk_trouble(self.partial, REFUSED, AGAIN):
            os.fsync(self.file.fd)
            if os.path.lexists(self.path):
                self._adopt_finished()
                return self.path
            os.rename(self.partial, self.path)
            sync(self.path.parent)
        self.finished = True
        return self.path

    def discard(self) -> None:
        """Remove what was encoded so far: it is wrong, and nobody must go on from it."""
        with disk_trouble(self.partial, "cannot be removed"):
            self.partial.unlink(missing_ok=True)

    def _open(self, path: Path, writable: bool) -> None:
        """Open what stands at `path`, if it is the cache asked for."""
        file, header = open_safely(path, writable)
        self.file = file
        self.facts, faults = read_facts_checked(file, header, done=np.zeros(pages_of(header.documents), bool))
        self.reader = FeatureCache(path, file, header, self.facts)
        if faults:
            raise BadInput(f"{path}: damaged: {faults[0]}; delete it and run the same command again")
        if header.fingerprint != self.identity.fingerprint:
            differing = "; ".join(explain(self.reader, self.identity))
            raise BadInput(f"{path}: a different cache ({differing}); delete it, or give another --cache-dir")

    def _adopt_finished(self) -> None:
        if self.file is not None:
            self.file.close()
        self._open(self.path, writable=False)
        faults = read_facts_checked(self.file, self.reader.header)[1] + self.reader.verify()
        if faults:
            raise BadInput(f"{self.path}: damaged: {faults[0]}; delete it and run the same command again")
        self.page_done = np.ones(pages_of(len(self.reader)), np.uint8)
        self.finished = True
        self.discard()

    def _resume(self) -> None:
        self._open(self.partial, writable=True)
        self._restore_structure()
        total = len(self.reader)
        marked, good = self._find_pages()
        if not marked.any():
            return
        with disk_trouble(self.partial, REFUSED, AGAIN):
            self._write_marks(0, len(good))  # again: a failed fsync may have left them in memory only
        say(f"resuming {self.partial}: {int(self.done.sum()):,} of {total:,} documents found and verified")
        lost = np.flatnonzero(marked & ~good).tolist()
        if lost:
            say(f"encoding again what does not match its digest: {page_rows(lost, total)}")

    def _find_pages(self) -> tuple[np.ndarray, np.ndarray]:
        """Which pages are marked as committed, and which of them match their digests."""
        fingerprint, marked = self.identity.fingerprint, self.file.read("page_done") == 1
        self.digests = {name: self.file.read(name) for name in ("vectors_digest", "facts_digest")}
        good = marked.copy()
        for page in np.flatnonzero(marked).tolist():
            good[page] = facts_digest(fingerprint, page, self.facts) == self.digests["facts_digest"][page].tobytes()
        good[self.file.bad_pages(fingerprint, np.flatnonzero(marked))] = False
        self.page_done = good.astype(np.uint8)
        return marked, good

    def _restore_structure(self) -> None:
        """Write the bytes between the tables again where they are not as at the start: readers may overlook such
        damage, but the finished file is the same to the last byte."""
        tables, gaps, size = build(self.identity)
        if tables == self.file.tables and size == os.fstat(self.file.fd).st_size:
            with disk_trouble(self.partial, REFUSED, AGAIN):
                for at, data in gaps:
                    if os.pread(self.file.fd, len(data), at) != data:
                        write_fully(self.file.fd, data, at)

    def _write_marks(self, first: int, stop: int) -> None:
        """Digests and marks of these pages, fsynced."""
        for name, digests in self.digests.items():
            self.file.write(name, first, digests[first:stop])
        self.file.write("page_done", first, self.page_done[first:stop])
        os.fsync(self.file.fd)
