"""Which document is train, val or test: decided by the text alone, so the same text always lands on the same side."""

import hashlib

import numpy as np

from twostage import SPLITS

TRAIN, VAL, TEST = range(3)
VAL_FROM = 0.8
TEST_FROM = 0.9


def split_position(utf8: bytes) -> int:
    """Return the first 8 bytes, big-endian, of sha256(b"split\\0" + text): u = position / 2**64 decides the split."""
    return int.from_bytes(hashlib.sha256(b"split\0" + utf8).digest()[:8], "big")


def pick_key(utf8: bytes) -> bytes:
    """Return the 32 bytes by which `--per-class` ranks documents: the smallest are taken."""
    return hashlib.sha256(b"pick\0" + utf8).digest()


def by_position(position: np.ndarray) -> np.ndarray:
    """Assign splits to documents (N,) uint64 positions -> (N,) uint8: u < .8 train, u < .9 val, else test."""
    u = position.astype(np.float64) / 2.0**64
    return np.where(u < VAL_FROM, TRAIN, np.where(u < TEST_FROM, VAL, TEST)).astype(np.uint8)


def carve(split: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Carve the splits that have no document from train, by the same u; return the splits and the names carved."""
    wanted = by_position(position)
    lacking = [s for s in (VAL, TEST) if not (split == s).any()]
    moved = (split == TRAIN) & np.isin(wanted, lacking)
    return np.where(moved, wanted, split).astype(np.uint8), tuple(SPLITS[s] for s in lacking)


def pick_per_class(pick: np.ndarray, label: np.ndarray, split: np.ndarray, per_class: int) -> np.ndarray:
    """Return the sorted rows of the `per_class` smallest picks (N, 32) of each class in each split.

    Copies of a text have equal keys; corpus order decides among them. A larger `per_class` keeps all rows of a smaller.
    """
    columns = np.ascontiguousarray(pick).view(">u8")  # (N, 4), most significant first
    order = np.lexsort((columns[:, 3], columns[:, 2], columns[:, 1], columns[:, 0], split, label))
    new_group = (np.diff(label[order]) != 0) | (np.diff(split[order].astype(np.int16)) != 0)
    starts = np.flatnonzero(np.concatenate(([True], new_group)))
    sizes = np.diff(np.append(starts, len(order)))
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    return np.sort(order[rank < per_class])
