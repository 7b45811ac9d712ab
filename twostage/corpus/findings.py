"""What reading a corpus yields: its documents, what was left out or odd, and how that is said."""

import unicodedata
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from twostage.corpus.audit import Audit
from twostage.corpus.encodings import encoding_of
from twostage.corpus.folders import bytes_path
from twostage.errors import BadInput, shown

FILES_NAMED = 10
FILES_TRIED = 1000  # of those that do not decode, for a likelier encoding


@dataclass
class Undecodable:
    """Documents that are not text in the encoding asked for; `files` maps each file to its first bad byte."""

    documents: int = 0
    files: dict[str, int] = field(default_factory=dict)

    def add(self, file: str, offset: int) -> None:
        self.documents += 1
        self.files.setdefault(file, offset)

    def refuse(self, encoding: str, root: Path, all_files: int) -> None:
        """Raise BadInput naming up to ten files with the offset of the first bad byte, a likelier encoding, and the ways out."""
        if not self.files:
            return
        n, found = len(self.files), self._decode(root)
        named = [f"{shown(f)} (byte {offset:,})" for f, offset in list(self.files.items())[:FILES_NAMED]]
        more = f" and {n - len(named):,} more" if n > len(named) else ""
        if set(found) == {encoding}:
            raise BadInput(
                f"half of a character (a lone surrogate, as \\ud83d alone) in {', '.join(named)}{more}: no text can hold it; "
                "mend that, or pass --on-undecodable skip or replace"
            )
        raise BadInput(
            f"{n:,} file{'s are' if n > 1 else ' is'} not {encoding}: {', '.join(named)}{more}; "
            f"{self._likelier(found, all_files)}, or pass --on-undecodable skip or replace"
        )

    def _decode(self, root: Path) -> Counter:
        """As what the first of the files decode."""
        found = Counter()
        for file in list(self.files)[:FILES_TRIED]:
            with suppress(OSError), open(bytes_path(root, file), "rb") as stream:
                found[encoding_of(stream)] += 1
        found.pop(None, None)
        return found

    def _likelier(self, found: Counter, all_files: int) -> str:
        tried = min(len(self.files), FILES_TRIED)
        if not found:
            return "name the encoding (--encoding NAME)"
        best, n = found.most_common(1)[0]
        some = "it decodes" if tried == 1 else f"all {n:,} decode" if n == len(self.files) else f"{n:,} decode"
        if n == tried and 2 * len(self.files) > all_files:
            return f"{some} as {best}: --encoding {best}"
        return f"{some} as {best}: --encoding auto takes each file in its own"


def encodings_said(taken: Counter, first: dict[str, str]) -> list[str]:
    """What encodings the files of a corpus were taken to be in, `first` names a file of each."""
    said = [f"{name} in {n:,} file{'s' * (n > 1)} (the first: {shown(first[name])})" for name, n in taken.most_common()]
    return [f"encodings used: {', '.join(said)}"] if said else []


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
    files: int = 1  # that were read
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
