"""A labelled corpus in any of its forms: what is known of each document, and its text when asked for."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twostage.audit import absent_classes, audit
from twostage.corpus_findings import Findings
from twostage.corpus_layout import Layout, recognise
from twostage.corpus_lines import enumerate_lines, line_texts, parse, read_lines
from twostage.corpus_text import Decoder, shown, text_digest
from twostage.corpus_tree import list_tree, read_tree, tree_texts
from twostage.errors import BadInput
from twostage.splits import SPLITS, by_position, carve, pick_per_class


@dataclass
class Corpus:
    """N documents. label (N,) int32 into label_names, split (N,) uint8 into SPLITS, digest (N, 32) uint8 of the text,
    characters (N,) int32, sources relative to `root` ("体育/12.txt", "train.txt:17")."""

    name: str
    root: Path
    format: str
    label_names: list[str]
    label: np.ndarray
    split: np.ndarray
    digest: np.ndarray
    sources: list[str]
    characters: np.ndarray
    findings: Findings
    read: int  # documents before --per-class
    layout: Layout
    decoder: Decoder
    places: tuple[np.ndarray, ...] | None  # line files: (file, offset, length), each (N,)

    def __len__(self) -> int:
        return len(self.sources)

    def texts(self, rows) -> list[str]:
        """Read the texts of these rows again, in their order. Raises BadInput where one changed since `read_corpus`."""
        rows = np.asarray(rows, np.int64).tolist()
        if self.places is None:
            texts = tree_texts(self.root, [self.sources[r] for r in rows], self.decoder)
        else:
            columns = (column[rows].tolist() for column in self.places)
            texts = line_texts(self.layout, list(zip(*columns, strict=True)), self.decoder)
        for row, text in zip(rows, texts, strict=True):
            if text is None or text_digest(text) != self.digest[row].tobytes():
                raise BadInput(f"{shown(self.sources[row])}: changed while it was in use; start again")
        return texts

    def classes_without_train(self) -> list[str]:
        """Return the names of the classes that no document in train has."""
        return absent_classes(self.label, self.split, self.label_names, "train")

    def describe(self) -> list[str]:
        """Return what there is to say of the corpus, a line each, for the log."""
        n = np.bincount(self.split, minlength=len(SPLITS))
        sizes = ", ".join(f"{name} {count:,}" for name, count in zip(SPLITS, n, strict=True))
        part = f" of {self.read:,}" if self.read != len(self) else ""
        said = [
            f"corpus {shown(self.name)}: {self.format}",
            f"{len(self):,}{part} documents in {len(self.label_names)} classes: {sizes}",
        ]
        return said + self.findings.lines()


def read_corpus(path, *, per_class=None, encoding: str = "utf-8-sig", on_undecodable: str = "fail") -> Corpus:
    """Read a corpus in any of its forms; what is kept is a digest a document, not the text.

    per_class: take that many documents a class in each split (None: all). on_undecodable: fail, skip or replace.
    Raises BadInput, in one line, for whatever is wrong with it.
    """
    decoder = Decoder.named(encoding, replace=on_undecodable == "replace")
    layout = recognise(path)
    places, notes = None, list(layout.notes)
    if layout.kind == "tree":
        sources, label, split, label_names = list_tree(layout)
        records, kept, empty, undecodable = read_tree(layout.root, sources, decoder)
        label, split = label[kept], None if split is None else split[kept]
        sources = [source for source, keep in zip(sources, kept.tolist(), strict=True) if keep]
        phrase = layout.phrase.replace("a tree of", f"a tree of {len(label_names)}")
    else:
        lines = read_lines(layout, decoder)
        records, sources, label, split, label_names = (
            lines.records,
            lines.sources,
            lines.label,
            lines.split,
            lines.label_names,
        )
        empty, undecodable, phrase = lines.empty, lines.undecodable, layout.phrase
        places = tuple(np.array(column) for column in (lines.file, lines.offset, lines.length))
        notes += lines.notes
    if on_undecodable == "fail":
        undecodable.refuse(decoder.encoding)
    _refuse_hopeless(path, label, label_names)

    position = records["position"].astype(np.uint64)
    if split is None:
        split, carved = by_position(position), SPLITS
    else:
        split, carved = carve(split, position)
    phrase += f", {_how_split(carved)}"
    if not (split == 0).any():
        raise BadInput(f"{shown(path)}: {len(label)} documents leave train empty; more are needed")
    digest = np.ascontiguousarray(records["digest"])
    findings = Findings(empty, undecodable, decoder.replace, audit(digest, label, split, sources, label_names), notes)
    read, characters = len(sources), records["characters"].astype(np.int32)
    if per_class is not None:
        rows = pick_per_class(records["pick"], label, split, per_class)
        label, split, digest, characters = label[rows], split[rows], digest[rows], characters[rows]
        sources = [sources[row] for row in rows.tolist()]
        places = None if places is None else tuple(column[rows] for column in places)
    return Corpus(
        _name(path), layout.root, phrase, label_names, label, split, digest, sources, characters, findings, read,
        layout, decoder, places,
    )  # fmt: skip


def texts_of(path, sources, digests, encoding: str = "utf-8-sig") -> list[str | None]:
    """Read texts again by source and digest (N, 32) uint8; None where a document changed, moved or is gone."""
    try:
        layout, decoder = recognise(path), Decoder.named(encoding, replace=True)
    except BadInput:
        return [None] * len(sources)
    wanted = {(str(s), np.asarray(d, np.uint8).tobytes()) for s, d in zip(sources, digests, strict=True)}
    found = dict((_tree_found if layout.kind == "tree" else _lines_found)(layout, decoder, wanted))
    return [found.get((str(s), np.asarray(d, np.uint8).tobytes())) for s, d in zip(sources, digests, strict=True)]


def _tree_found(layout, decoder, wanted):
    for source, digest in wanted:
        # A source may come from a stranger's cache: nothing outside the corpus, and nothing but files, is opened.
        if os.path.isabs(source) or ".." in source.split("/") or not os.path.isfile(f"{layout.root}/{source}"):
            continue
        try:
            text = tree_texts(layout.root, [source], decoder)[0]
        except BadInput:
            continue
        if text_digest(text) == digest:
            yield (source, digest), text


def _lines_found(layout, decoder, wanted):
    by_source = {}
    for source, digest in wanted:
        by_source.setdefault(source, []).append(digest)
    for _, part in layout.parts:
        left = {int(m[1]) for s in by_source if (m := re.fullmatch(re.escape(part) + r":(\d{1,12})", s))}
        for number, _, raw in enumerate_lines(layout.root / part) if left else ():
            if number in left:
                try:
                    text = parse(layout.kind, raw, decoder, first=number == 1)[0]
                except BadInput:
                    continue
                if text is not None and text_digest(text) in by_source[f"{part}:{number}"]:
                    yield (f"{part}:{number}", text_digest(text)), text
                if number == max(left):
                    break


def _refuse_hopeless(path, label, label_names) -> None:
    classes = np.unique(label)
    if not len(classes):
        raise BadInput(f"{shown(path)}: no document in it has text; nothing to learn from")
    if len(classes) == 1:
        raise BadInput(f"{shown(path)}: a single class, {shown(label_names[classes[0]])}; two are needed to tell apart")


def _how_split(carved) -> str:
    if not carved:
        return "split by its files"
    return "split by text digest" if carved == SPLITS else f"{' and '.join(carved)} carved from train by text digest"


def _name(path) -> str:
    path = Path(path).resolve()
    stem = path.stem if path.is_file() else path.name
    return re.sub(r"[^\w.+-]+", "-", stem)[:60].strip(".-") or "corpus"
