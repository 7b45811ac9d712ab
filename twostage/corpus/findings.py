"""What reading a corpus yields: its documents, what was left out or odd, and how that is said."""

import unicodedata
from dataclasses import dataclass, field

import numpy as np

from twostage.corpus.audit import Audit
from twostage.errors import BadInput, shown

FILES_NAMED = 10


@dataclass
class Undecodable:
    """Documents that are not text in the encoding asked for; `files` maps each file to its first bad byte."""

    documents: int = 0
    files: dict[str, int] = field(default_factory=dict)

    def add(self, file: str, offset: int) -> None:
        self.documents += 1
        self.files.setdefault(file, offset)

    def refuse(self, encoding: str) -> None:
        """Raise BadInput naming up to ten files with the offset of the first bad byte, and the two ways out."""
        if not self.files:
            return
        named = [f"{shown(f)} (byte {offset:,})" for f, offset in list(self.files.items())[:FILES_NAMED]]
        more = len(self.files) - len(named)
        raise BadInput(
            f"{len(self.files):,} file{'s are' if len(self.files) > 1 else ' is'} not {encoding}: {', '.join(named)}"
            f"{f' and {more:,} more' if more else ''}; name the encoding (--encoding gb18030 is common for Chinese)"
            f", or pass --on-undecodable skip or replace"
        )


@dataclass
class Documents:
    """The N documents that reading a corpus yields, in its order, and what it met on the way."""

    records: np.ndarray  # (N,) RECORD
    sources: list[str]
    label: np.ndarray  # (N,) int32 into label_names
    split: np.ndarray | None  # (N,) uint8 as the corpus has it, None where it has no splits
    label_names: list[str]
    empty: int
    undecodable: Undecodable
    notes: list[str] = field(default_factory=list)
    places: tuple[np.ndarray, ...] | None = None  # of lines: (file, offset, length), each (N,)
    guessed: bool = False  # which column is the text and which the label
    way_out: str = "put the documents of a class into one folder"  # of a corpus that looks misread


@dataclass
class Findings:
    """What reading a corpus brought to light; the audit is of the documents that --per-class leaves."""

    empty: int
    undecodable: Undecodable
    replaced: bool  # undecodable documents: True kept with U+FFFD, False skipped
    audit: Audit
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        said = list(self.notes)
        if self.empty:
            said.append(f"{self.empty:,} empty document{'s' * (self.empty > 1)} skipped")
        if self.undecodable.documents:
            n, what = self.undecodable.documents, "kept with U+FFFD" if self.replaced else "skipped"
            file, offset = next(iter(self.undecodable.files.items()))
            said.append(f"{n:,} undecodable document{'s' * (n > 1)} {what}; the first: {shown(file)}, byte {offset:,}")
        return said + self.audit.lines()


def numbered_labels(names: list[str]) -> tuple[np.ndarray, list[str]]:
    """Class names (K,), equal ones among them -> (number of each (K,) int32, the C names in order).

    Names that are canonically equal (é in one or two characters) are one class, called as it was first seen.
    """
    first, keys = {}, [unicodedata.normalize("NFC", name) for name in names]
    for key, name in zip(keys, names, strict=True):
        first.setdefault(key, name)
    label_names = sorted(first.values())
    number = {name: i for i, name in enumerate(label_names)}
    return np.array([number[first[key]] for key in keys], np.int32), label_names
