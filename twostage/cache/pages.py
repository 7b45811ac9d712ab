"""Bytes of a cache file by dataset and row: whole reads and writes at known offsets, and pages checked by their digest."""

import os
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from twostage.cache.format import PAGE_ROWS, Table, vectors_digest
from twostage.errors import BadInput
from twostage.files import disk_trouble
from twostage.progress import Progress

CHUNK_PAGES = 32  # read in one call: 3 MB of float16 at D = 768
THREADS = min(4, max(2, os.cpu_count() or 1))


class CacheBytes:
    """An open file with the place of each table in it."""

    def __init__(self, fd: int, path: Path, tables: dict[str, Table]):
        self.fd, self.path, self.tables = fd, path, tables
        self._closed = weakref.finalize(self, os.close, fd)  # once: when told to, or when nobody holds this any more

    def close(self) -> None:
        self.fd = -1
        self._closed()

    def read(self, name: str, first: int = 0, count: int | None = None) -> np.ndarray:
        """Rows first, first + 1, … of one dataset."""
        table = self.tables[name]
        count = table.shape[0] - first if count is None else count
        out = np.empty((count, *table.shape[1:]), table.dtype)
        self.read_into(out, name, first)
        return out

    def read_into(self, out: np.ndarray, name: str, first: int) -> None:
        if self.fd < 0:
            raise BadInput(f"{self.path}: was closed; open it again with open_cache")
        table = self.tables[name]
        rest = memoryview(out.reshape(-1).view(np.uint8))
        at = table.offset + first * table.row_bytes
        with disk_trouble(self.path, "cannot be read"):
            while rest:
                got = os.preadv(self.fd, [rest], at)
                if not got:
                    raise BadInput(f"{self.path}: became shorter while it was read; extract it again")
                rest, at = rest[got:], at + got

    def write(self, name: str, first: int, rows: np.ndarray) -> None:
        """Write rows from `first` on; OSError as the operating system says it."""
        table = self.tables[name]
        write_fully(self.fd, np.ascontiguousarray(rows, table.dtype), table.offset + first * table.row_bytes)

    def pages(self, fingerprint: str, wanted: np.ndarray, out: np.ndarray | None = None) -> Iterator:
        """Read and hash the wanted pages (ascending numbers) in several threads.

        Yields (first row, rows read (n, D), numbers of pages that do not match their digest) in order. Rows go
        straight to their place in `out` (N, D) where it has the stored dtype, else through a buffer each.
        """
        low = int(wanted[0]) if len(wanted) else 0
        digests = self.read("vectors_digest", low, int(wanted[-1]) + 1 - low if len(wanted) else 0)
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1) if len(wanted) else []
        chunks = [run[at : at + CHUNK_PAGES] for run in runs for at in range(0, len(run), CHUNK_PAGES)]

        def read(chunk: np.ndarray):
            first = int(chunk[0]) * PAGE_ROWS
            stop = min((int(chunk[-1]) + 1) * PAGE_ROWS, self.tables["vectors"].shape[0])
            if out is None:
                rows = self.read("vectors", first, stop - first)
            else:
                rows = out[first:stop]
                self.read_into(rows, "vectors", first)
            bad = []
            for page in map(int, chunk):
                own = rows[page * PAGE_ROWS - first : (page + 1) * PAGE_ROWS - first]
                if vectors_digest(fingerprint, page, own) != digests[page - low].tobytes():
                    bad.append(page)
            return first, rows, bad

        if len(chunks) < 2:
            yield from map(read, chunks)
            return
        with ThreadPoolExecutor(THREADS) as pool:
            waiting = []
            for chunk in chunks:
                waiting.append(pool.submit(read, chunk))
                if len(waiting) > 2 * THREADS:  # bounded memory
                    yield waiting.pop(0).result()
            for one in waiting:
                yield one.result()

    def bad_pages(self, fingerprint: str, wanted: np.ndarray) -> list[int]:
        """Those of the wanted pages whose vectors do not match their digest."""
        bad, rows = [], min(len(wanted) * PAGE_ROWS, self.tables["vectors"].shape[0])
        with Progress(rows, "documents", f"verifying {self.path.name}") as progress:
            for _, part, wrong in self.pages(fingerprint, wanted):
                bad += wrong
                progress.advance(len(part))
        return bad


def write_fully(fd: int, data: np.ndarray | bytes, at: int) -> None:
    rest = memoryview(data).cast("B") if isinstance(data, bytes) else memoryview(data.reshape(-1).view(np.uint8))
    while rest:
        wrote = os.pwrite(fd, rest, at)
        rest, at = rest[wrote:], at + wrote


def page_rows(pages: list[int], documents: int) -> str:
    """ "page 3 (rows 192-255)", or the first few of many."""
    shown = [f"page {p} (rows {p * PAGE_ROWS}-{min((p + 1) * PAGE_ROWS, documents) - 1})" for p in pages[:3]]
    return ", ".join(shown) + (f" and {len(pages) - 3} more" if len(pages) > 3 else "")
