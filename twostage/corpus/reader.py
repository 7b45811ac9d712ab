"""A labelled corpus in any of its forms: what is known of each document, and its text when asked for."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from twostage import SPLITS
from twostage.corpus.audit import absent_classes, audit
from twostage.corpus.decoding import Decoder, text_digest
from twostage.corpus.findings import Documents, Findings
from twostage.corpus.folders import bytes_path, name_of
from twostage.corpus.layout import Layout, recognise
from twostage.corpus.line_parser import enumerate_lines, parsed_again
from twostage.corpus.lines import line_texts, read_lines
from twostage.corpus.splits import TRAIN, by_position, carve, pick_per_class
from twostage.corpus.tree import class_name, read_tree, tree_texts
from twostage.errors import BadInput, shown

FEW = 10  # documents below which nearly as many classes are no sign of anything
LONG = 12  # characters of a label that could be a text


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
    n_read: int  # documents before --per-class
    layout: Layout
    decoder: Decoder
    places: tuple[np.ndarray, ...] | None  # line files: (file, offset, length), each (N,)
    told: dict = field(default_factory=dict)  # how it was read: path, per_class, encoding, on_undecodable
    model: str | None = None  # an encoder that comes with the corpus, taken where none is named

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
        part = f" of {self.n_read:,}" if self.n_read != len(self) else ""
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
    found = (read_tree if layout.kind == "tree" else read_lines)(layout, decoder)
    if on_undecodable == "fail":
        found.undecodable.refuse(decoder.encoding)
    _refuse_hopeless(path, found)

    position = found.records["position"].astype(np.uint64)
    if found.split is None:
        split, carved = by_position(position), SPLITS
    else:
        split, carved = carve(found.split, position)
    if not (split == TRAIN).any():
        raise BadInput(f"{shown(path)}: {len(split):,} documents leave train empty; more are needed")
    rows = np.arange(len(split))
    if per_class is not None:
        rows = pick_per_class(found.records["pick"], found.label, split, per_class)
    digest, label, split = np.ascontiguousarray(found.records["digest"][rows]), found.label[rows], split[rows]
    sources = [found.sources[row] for row in rows.tolist()] if len(rows) < len(found.sources) else found.sources
    audited = audit(digest, label, split, sources, found.label_names)
    return Corpus(
        name=_name(path),
        root=layout.root,
        format=_form(layout, found, carved, decoder),
        label_names=found.label_names,
        label=label,
        split=split,
        digest=digest,
        sources=sources,
        characters=found.records["characters"][rows].astype(np.int32),
        findings=Findings(found.empty, found.undecodable, decoder.replace, audited, layout.notes + found.notes),
        n_read=len(found.sources),
        layout=layout,
        decoder=decoder,
        places=None if found.places is None else tuple(column[rows] for column in found.places),
        told={
            "path": str(Path(path).resolve()), "per_class": per_class, "encoding": encoding, "on_undecodable": on_undecodable,
        },
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
        if ".." in source.split("/") or not os.path.isfile(bytes_path(layout.root, source)):
            continue
        with suppress(BadInput):  # one that can't be read is not found
            text = tree_texts(layout.root, [source], decoder)[0]
            if text_digest(text) == digest:
                yield (source, digest), text


def _lines_found(layout, decoder, wanted):
    for _, part in layout.parts:
        matches = [(re.fullmatch(re.escape(part) + r":(\d{1,12})", source), digest) for source, digest in wanted]
        asked = {(int(m[1]), digest): m[0] for m, digest in matches if m}
        numbers = {number for number, _ in asked}
        with suppress(BadInput):
            for number, _, raw in enumerate_lines(layout.root / part) if asked else ():
                text = parsed_again(layout.kind, raw, decoder, first=number == 1) if number in numbers else None
                if text is not None and (number, digest := text_digest(text)) in asked:
                    yield (asked[number, digest], digest), text


def _refuse_hopeless(path, found: Documents) -> None:
    """Refuse what nothing can be learned from, above all texts taken for labels."""
    n = len(found.label)
    counts = np.bincount(found.label, minlength=len(found.label_names))
    classes = np.flatnonzero(counts)
    if not len(classes):
        raise BadInput(f"{shown(path)}: no document in it has text; nothing to learn from")
    if len(classes) == 1:
        name = shown(found.label_names[classes[0]])
        raise BadInput(f"{shown(path)}: a single class, {name}; a classifier needs two to tell apart")
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


def _form(layout: Layout, found: Documents, carved: tuple[str, ...], decoder: Decoder) -> str:
    form = layout.phrase.replace("a tree of", f"a tree of {len(found.label_names)}")
    if decoder.encoding != "utf-8":
        form += f" in {decoder.encoding}"
    if not carved:
        return f"{form}, split by its files"
    how = "split by text digest" if carved == SPLITS else f"{' and '.join(carved)} carved from train by text digest"
    return f"{form}, {how}"


def _name(path) -> str:
    path = Path(path).resolve()
    stem = class_name(name_of(os.fsencode(path.stem if path.is_file() else path.name)))
    name = re.sub(r"[^\w.+-]+", "-", stem)[:60].strip(".-") or "corpus"
    return os.fsdecode(name.encode())  # as this locale writes it
