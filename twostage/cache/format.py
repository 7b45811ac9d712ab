"""The tables of a cache file and the digests of its pages; cache/README.md is the specification."""

import hashlib
from dataclasses import dataclass

import numpy as np

from twostage.encoder.settings import ENCODER_FIELDS, short
from twostage.errors import BadInput

PAGE_ROWS = 64  # rows covered by one digest
ATTRIBUTES = (*ENCODER_FIELDS, "store_dtype", "fingerprint")
SETTLED = ("text_digest", "label", "split", "source_end", "source_bytes")  # known before any encoding
ROW_FACTS = ("text_digest", "label", "split", "token_count", "truncated", "source_end")


@dataclass(frozen=True)
class Table:
    """One dataset: where its bytes lie in the file, and as what."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int = 0

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * (self.shape[1] if len(self.shape) > 1 else 1)

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self.row_bytes


def pages_of(rows: int) -> int:
    """The number of pages that hold so many rows."""
    return -(-rows // PAGE_ROWS)


def tables_of(documents: int, hidden_size: int, store_dtype: str, source_bytes: int) -> dict[str, Table]:
    """Every dataset but label_names, in the order of the file."""
    n, pages, byte = documents, pages_of(documents), np.dtype("u1")
    return {
        "token_count": Table(np.dtype("<i4"), (n,)),
        "truncated": Table(byte, (n,)),
        "label": Table(np.dtype("<i4"), (n,)),
        "split": Table(byte, (n,)),
        "text_digest": Table(byte, (n, 32)),
        "source_end": Table(np.dtype("<i8"), (n,)),
        "source_bytes": Table(byte, (source_bytes,)),
        "vectors_digest": Table(byte, (pages, 32)),
        "facts_digest": Table(byte, (pages, 32)),
        "page_done": Table(byte, (pages,)),
        "vectors": Table(np.dtype(store_dtype).newbyteorder("<"), (n, hidden_size)),
    }


def vectors_digest(fingerprint: str, page: int, data) -> bytes:
    """sha256 of the fingerprint, the page number and the bytes of its vectors: a foreign or moved page is found."""
    total = hashlib.sha256(b"vectors" + bytes.fromhex(fingerprint) + page.to_bytes(8, "little"))
    total.update(data)
    return total.digest()


def facts_digest(fingerprint: str, page: int, facts: dict[str, np.ndarray]) -> bytes:
    """The same over what else is stored for the rows of a page: ROW_FACTS in their order, then their sources.

    `facts` are whole columns, indexed from row 0.
    """
    rows = slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS)
    ends = facts["source_end"]
    start, stop = ends[rows.start - 1] if page else 0, ends[rows][-1]
    parts = [b"facts", bytes.fromhex(fingerprint), page.to_bytes(8, "little")]
    parts += [facts[name][rows].tobytes() for name in ROW_FACTS]
    return hashlib.sha256(b"".join([*parts, facts["source_bytes"][start:stop].tobytes()])).digest()


def storable(vectors: np.ndarray, dtype: np.dtype, sources: list[str]) -> np.ndarray:
    """(n, D) vectors -> the same in `dtype`. BadInput naming the document of the first number that does not survive."""
    with np.errstate(over="ignore", invalid="ignore"):
        stored = np.ascontiguousarray(vectors, dtype)
    wrong = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if not len(wrong):
        return stored
    at = int(wrong[0])
    if np.isfinite(vectors[at]).all():
        raise BadInput(
            f"{short(sources[at])}: its vector reaches {float(np.abs(vectors[at]).max()):,.0f}, more than float16 holds "
            "(65,504); use --store-dtype float32"
        )
    raise BadInput(
        f"{short(sources[at])}: the encoder gives a number that is not finite; check that document and the weights, "
        "or try --dtype float32"
    )
