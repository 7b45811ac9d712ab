"""The HDF5 structure of a new cache: built once by h5py in memory, then laid out by plain writes.

h5py loses the error number on a full disk and crashes the interpreter at exit, so it never writes to one.
"""

import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from twostage.cache.format import SETTLED, Table, tables_of
from twostage.cache.identity import Identity, encode_names
from twostage.cache.pages import CacheBytes, write_fully
from twostage.encoder.settings import NUMBERS
from twostage.errors import BadInput
from twostage.files import discard, partial_of, sync


def build(identity: Identity) -> tuple[dict[str, Table], list[tuple[int, bytes]], int]:
    """-> tables with their offsets, the bytes of the structure between them as (offset, bytes), the file's size."""
    tables = tables_of(len(identity.sources), identity.hidden_size, identity.store_dtype, len(identity.source_bytes[0]))
    raw = Unwritten()
    with h5py.File(raw, "w", libver="earliest") as file:
        for name, table in tables.items():
            dataset = create(file, name, h5py.h5t.py_create(table.dtype), h5py.h5s.create_simple(table.shape))
            tables[name] = replace(table, offset=dataset.get_offset() or 0)
        names = encode_names(identity.label_names)
        dataset = create(file, "label_names", text_type(names), h5py.h5s.create(h5py.h5s.SCALAR))
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(names, f"S{len(names)}"), dataset.get_type())
        fields = {**identity.encoder, "store_dtype": identity.store_dtype, "fingerprint": identity.fingerprint}
        for name, value in fields.items():
            if name in NUMBERS:
                file.attrs.create(name, value, dtype="<i8")
            else:
                data = value.encode()
                attribute = h5py.h5a.create(file.id, name.encode(), text_type(data), h5py.h5s.create(h5py.h5s.SCALAR))
                attribute.write(np.array(data, f"S{len(data)}"), attribute.get_type())
    filled = sorted((table.offset, table.offset + table.nbytes) for table in tables.values() if table.nbytes)
    starts = [0, *(stop for _, stop in filled)]
    stops = [*(start for start, _ in filled), raw.size]
    gaps = [(a, raw.read_at(a, b - a)) for a, b in zip(starts, stops, strict=True) if b > a]
    return tables, gaps, raw.size


def create(file: h5py.File, name: str, kind, space) -> h5py.h5d.DatasetID:
    """A contiguous dataset with its place allocated now, no fill value and no time stamp."""
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_layout(h5py.h5d.CONTIGUOUS)
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    settings.set_obj_track_times(False)
    return h5py.h5d.create(file.id, name.encode(), kind, space, settings)


def text_type(data: bytes):
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(data))
    kind.set_strpad(h5py.h5t.STR_NULLPAD)
    kind.set_cset(h5py.h5t.CSET_UTF8)
    return kind


class Unwritten:
    """A file in memory that keeps only what is written to it, for h5py: its large stretches stay empty."""

    def __init__(self):
        self.at, self.size, self.writes = 0, 0, []

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.size}[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def write(self, data) -> int:
        self.writes.append((self.at, bytes(data)))
        self.at += len(data)
        self.size = max(self.size, self.at)
        return len(data)

    def read_at(self, start: int, count: int) -> bytes:
        out = bytearray(count)
        for at, data in self.writes:
            low, high = max(at, start), min(at + len(data), start + count)
            if low < high:
                out[low - start : high - start] = data[low - at : high - at]
        return bytes(out)

    def read(self, count: int) -> bytes:
        data = self.read_at(self.at, min(count, self.size - self.at))
        self.at += len(data)
        return data

    def readinto(self, buffer) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def truncate(self, size: int) -> int:
        self.size = size
        return size

    def flush(self) -> None:
        pass


def create_partial(partial: Path, identity: Identity) -> None:
    """Write `partial` with its whole space reserved and everything but vectors, token counts and digests in it.

    It appears under its name complete, or not at all. OSError where the disk refuses; nothing is left then.
    """
    tables, gaps, size = build(identity)
    young = partial_of(partial)
    fd = os.open(young, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        file = CacheBytes(fd, young, tables)
        try:
            reserve(fd, size, young)
            for at, data in gaps:
                write_fully(fd, data, at)
            text, ends = identity.source_bytes
            columns = (identity.digest, identity.label, identity.split, ends, text)
            for name, column in zip(SETTLED, columns, strict=True):
                file.write(name, 0, column)
            os.fsync(fd)
        finally:
            file.close()
        os.rename(young, partial)
        sync(partial.parent)
    except BaseException:
        discard(young)
        raise


def reserve(fd: int, size: int, path: Path) -> None:
    """Really occupy the space, so that a full disk is known before any vector is computed."""
    free = os.statvfs(path.parent)
    free_bytes = free.f_bavail * free.f_frsize
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:
            for at in range(0, size, 1 << 20):
                write_fully(fd, bytes(min(1 << 20, size - at)), at)
    except OSError as error:
        raise BadInput(
            f"{path.parent}: {error.strerror}: the cache needs {size:,} bytes, {free_bytes:,} are free; "
            "make room there or give another --cache-dir"
        ) from error
