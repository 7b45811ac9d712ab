"""What is said when something is wrong."""

import contextlib


class BadInput(Exception):
    """Something the user can mend, in one line: what is wrong, where, what to do. A script shows it and exits with 2."""


def shown(name: object) -> str:
    """A file's name or a piece of text fit for one line of a message, whatever is in it."""
    text = str(name)
    with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate that stands for no byte stays as it is
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def row_numbers(rows, count: int):
    """(n,) int64 out of row numbers from 0 to count - 1 in any order, a slice of all rows, or a mask of them (count,) bool.

    IndexError where there is no such row, TypeError for what names no rows: nothing is rounded, or taken for what it is not."""
    import numpy as np

    if isinstance(rows, slice):
        return np.arange(count)[rows]
    asked = np.asarray(rows)
    if asked.dtype == bool and asked.ndim == 1:
        if len(asked) != count:
            raise IndexError(f"a mask of {len(asked):,} rows: it must say yes or no to each of the {count:,}")
        return np.flatnonzero(asked)
    if asked.ndim != 1 or (asked.size and asked.dtype.kind not in "iu"):
        raise TypeError("rows are a list of whole numbers, a slice or a mask")
    if asked.size and not 0 <= asked.min() <= asked.max() < count:
        raise IndexError(f"rows outside 0..{count - 1}")
    return asked.astype(np.int64)
