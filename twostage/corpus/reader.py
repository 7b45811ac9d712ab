"""A labelled corpus in any of its forms: what is known of each document, and its text when asked for."""

import os
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from twostage import SPLITS
from twostage.corpus.again import open_parts, texts_by_row
from twostage.corpus.audit import absent_classes, audit
from twostage.corpus.columns import Asked
from twostage.corpus.decoding import Decoder
from twostage.corpus.findings import Documents, Findings, encodings_said
from twostage.corpus.folders import name_of
from twostage.corpus.layout import Layout, recognise
from twostage.corpus.memory_table import held
from twostage.corpus.splits import TRAIN, by_position, carve, pick_per_class
from twostage.corpus.table import TablePart, choose_columns, read_class_txt, read_tables
from twostage.corpus.tree import class_name, read_tree
from twostage.errors import BadInput, shown

FEW = 10  # documents below which nearly as many classes are no sign of anything
LONG = 12  # characters of a label that could be a text


@dataclass
class Corpus:
    """N documents. label (N,) int32 into label_names, split (N,) uint8 into SPLITS, digest (N, 32) uint8 of the text,
    characters (N,) int32, sources relative to `root` ("体育/12.txt", "train.csv:17"). path and root are None for tables
    that the caller holds."""

    name: str
    path: Path | None
    root: Path | None
    format: str
    label_names: list[str]
    label: np.ndarray
    split: np.ndarray
    digest: np.ndarray
    sources: list[str]
    characters: np.ndarray
    findings: Findings
    n_read: int  # documents before --per-class
    decoder: Decoder
    parts: list[TablePart]  # of tables
    places: tuple[np.ndarray, ...] | None  # of rows: (part, offset or row, length), each (N,); None for a tree
    told: dict = field(default_factory=dict)  # how it was read: path, per_class, encoding, on_undecodable, columns
    model: str | None = None  # an encoder that comes with the corpus, taken where none is named

    def __len__(self) -> int:
        return len(self.sources)

    def texts(self, rows) -> list[str]:
        """The texts of these rows (numbers, a slice or a mask), read again in order. BadInput where one changed since `read_corpus`."""
        return texts_by_row(self, rows, "changed while it was in use; run the command again")

    def classes_without_train(self) -> list[str]:
        """Return the names of the classes that no document in train has."""
        return absent_classes(self.label, self.split, self.label_names, "train")

    def describe(self) -> list[str]:
        """Return what there is to say of the corpus, a line each, for the log."""
        n = np.bincount(self.split, minlength=len(SPLITS))
        sizes = ", ".join(f"{name} {count:,}" for name, count in zip(SPLITS, n, strict=True))
        part = f" of {self.n_read:,}" if self.n_read != len(self) else ""
        said = [
            f"corpus {shown(self.name)}: {self.format}",
            f"{len(self):,}{part} documents in {len(self.label_names)} classes: {sizes}",
        ]
        return said + self.findings.lines()


def read_corpus(
    source, *, text: str | int | list | None = None, label: str | int | None = None, split: str | int | None = None,
    per_class: int | None = None, encoding: str = "utf-8-sig", on_undecodable: str = "fail", name: str | None = None,
) -> Corpus:  # fmt: skip
    """Read a labelled corpus in any form; what is kept is a digest per document, not the text.

    source: a path (docs/corpora.md lists what it may hold), a data frame (pandas, polars), a datasets.Dataset or
    DatasetDict, a pyarrow.Table, a dict of columns, a dict of these by split, or a tuple (texts, labels).
    text: the column of the texts, or several, joined with a newline; label, split: theirs (None: by their usual names, where
    that is plain). per_class: that many documents per class in each split (None: all). encoding: of the files, or "auto".
    on_undecodable: fail, skip or replace. name: what the corpus is called (None: after its path, else "data").
    Raises BadInput, in one line, for whatever is wrong with it.
    """
    decoder, asked = Decoder.named(encoding, replace=on_undecodable == "replace"), Asked.of(text, label, split)
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    by = "its splits" if path is None else "its files"
    layout = Layout("", Path()) if path is None else recognise(path)
    if layout.folders:
        if asked.names:
            raise BadInput(f"{shown(path)}: a tree of class folders has no columns; leave out --text-column and --label-column")
        parts, found, form = [], read_tree(layout, decoder), layout.phrase
    else:
        parts = (
            [TablePart(split, table) for split, table in held(source)]
            if path is None
            else open_parts(path, layout, decoder, asked)
        )
        class_txt = layout.root / "class.txt"
        names = read_class_txt(class_txt, decoder.of_file(class_txt)) if path is not None and class_txt.is_file() else None
        notes = layout.notes + _encodings(parts, decoder) + choose_columns(parts, asked, names)
        sizes = [os.path.getsize(layout.root / p.table.name) if p.in_file else len(p.table) for p in parts]
        found = read_tables(parts, notes, sum(sizes))
        form = layout.phrase + parts[0].table.form
        by = next((f'column "{shown(p.columns.split)}"' for p in parts if p.columns and p.columns.split), by)
    if on_undecodable == "fail":
        found.undecodable.refuse(decoder.encoding, layout.root, found.files)
    _refuse_hopeless("the corpus" if path is None else path, found)
    found.notes.extend(_nearly_equal(found.label_names))

    position = found.records["position"].astype(np.uint64)
    if found.split is None:
        of_each, carved = by_position(position), SPLITS
    else:
        of_each, carved = carve(found.split, position)
    if not (of_each == TRAIN).any():
        raise BadInput(f"{shown(path or 'the corpus')}: {len(of_each):,} documents leave train empty; more are needed")
    rows = np.arange(len(of_each))
    if per_class is not None:
        rows = pick_per_class(found.records["pick"], found.label, of_each, per_class)
    digest, of_each, classes = np.ascontiguousarray(found.records["digest"][rows]), of_each[rows], found.label[rows]
    sources = [found.sources[row] for row in rows.tolist()] if len(rows) < len(found.sources) else found.sources
    audited = audit(digest, classes, of_each, sources, found.label_names)
    return Corpus(
        name=_name(path, name),
        path=path,
        root=None if path is None else layout.root,
        format=_form(form, found, carved, by, decoder),
        label_names=found.label_names,
        label=classes,
        split=of_each,
        digest=digest,
        sources=sources,
        characters=found.records["characters"][rows].astype(np.int32),
        findings=Findings(found.empty, found.undecodable, decoder.replace, audited, found.notes),
        n_read=len(found.sources),
        decoder=decoder,
        parts=parts,
        places=None if found.places is None else tuple(column[rows] for column in found.places),
        told={
            "path": None if path is None else str(path.resolve()), "per_class": per_class, "encoding": encoding,
            "on_undecodable": on_undecodable, **({"columns": asked.settings()} if asked.names else {}),
        },
    )  # fmt: skip


def _encodings(parts: list[TablePart], decoder: Decoder) -> list[str]:
    own = [(part.table.decoder.encoding, part.table.name) for part in parts if part.in_file]
    found = [(encoding, name) for encoding, name in own if encoding != decoder.encoding]
    return encodings_said(Counter(encoding for encoding, _ in found), dict(reversed(found)))


def _refuse_hopeless(path, found: Documents) -> None:
    """Refuse what nothing can be learned from, above all texts taken for labels."""
    n = len(found.label)
    counts = np.bincount(found.label, minlength=len(found.label_names))
    classes = np.flatnonzero(counts)
    if not len(classes):
        raise BadInput(f"{shown(path)}: no document in it has text; nothing to learn from")
    if len(classes) == 1:
        name = shown(found.label_names[classes[0]])
        raise BadInput(f"{shown(path)}: a single class, {name}; a classifier needs at least two")
    if n >= FEW and 2 * len(classes) > n:
        example = shown(found.label_names[classes[0]][:40])
        raise BadInput(f"{shown(path)}: {n:,} documents in {len(classes):,} classes ('{example}' is one); {found.way_out}")
    of_labels = sum(len(found.label_names[c]) * int(counts[c]) for c in classes) / n
    of_texts = float(found.records["characters"].mean())
    if found.guessed and of_labels > of_texts and of_labels > LONG:
        raise BadInput(
            f"{shown(path)}: the labels are longer than the texts ({of_labels:.0f} characters beside {of_texts:.0f} on average); "
            f"{found.way_out}"
        )


def _nearly_equal(names: list[str]) -> list[str]:
    """Classes that look like one written in two ways: case, width, spaces."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault("".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    alike = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    return [f"classes whose names differ in case, width or spaces alone: {'; '.join(map(shown, alike[:3]))}"] if alike else []


def _form(form: str, found: Documents, carved: tuple[str, ...], by: str, decoder: Decoder) -> str:
    form = form.replace("a tree of", f"a tree of {len(found.label_names)}")
    if decoder.encoding not in ("utf-8", "auto"):
        form += f" in {decoder.encoding}"
    if not carved:
        return f"{form}, split by {by}"
    how = "split by text digest" if carved == SPLITS else f"{' and '.join(carved)} carved from train by text digest"
    return f"{form}, {how}"


def _name(path: Path | None, name: str | None) -> str:
    if path is not None and name is None:
        path = path.resolve()
        name = class_name(name_of(os.fsencode(path.stem if path.is_file() else path.name)))
    name = re.sub(r"[^\w.+-]+", "-", name or "data")[:60].strip(".-") or "corpus"
    return os.fsdecode(name.encode())  # as this locale writes it
