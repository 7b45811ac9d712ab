"""Texts of a corpus read again: by row while it is in use, in this process or another, and by source and digest long after."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twostage.corpus.columns import Asked, Columns
from twostage.corpus.decoding import Decoder, text_digest
from twostage.corpus.folders import bytes_path, readable
from twostage.corpus.forms import open_table
from twostage.corpus.layout import Layout, recognise
from twostage.corpus.table import TablePart, choose_columns
from twostage.corpus.tree import tree_texts
from twostage.errors import BadInput, row_numbers, shown

ONE = "the same corpus must be on every machine"


def open_parts(path: Path, layout: Layout, decoder: Decoder, asked: Asked) -> list[TablePart]:
    """Open every table of a corpus; they are of one form."""
    parts = [TablePart(split, open_table(layout.root, name, decoder, asked)) for split, name in layout.parts]
    full = [part for part in parts if not part.in_file or os.path.getsize(part.table.file)]
    if len({part.table.form for part in full}) > 1:
        names = ", ".join(shown(part.table.name) for part in full)
        raise BadInput(f"{shown(path)}: {names} are in different formats; keep those of one corpus in the folder")
    return full or parts


def texts_by_row(corpus, rows, otherwise: str) -> list[str]:
    """The texts of these rows, in their order. BadInput saying `otherwise` where one is not the text that its digest is of.

    corpus: a Corpus or an Elsewhere."""
    rows = row_numbers(rows, len(corpus.digest)).tolist()
    if corpus.places is None:
        texts = tree_texts(corpus.root, [corpus.sources[r] for r in rows], corpus.decoder)
    else:
        columns = (column[rows].tolist() for column in corpus.places)
        texts = table_texts(corpus.parts, list(zip(*columns, strict=True)))
    for row, text in zip(rows, texts, strict=True):
        if text is None or text_digest(text) != corpus.digest[row].tobytes():
            raise BadInput(f"{shown(corpus.sources[row])}: {otherwise}")
    return texts


@dataclass
class Elsewhere:
    """A corpus that another process has read: what it takes to read its texts here. The fields are those of Corpus."""

    root: Path
    decoder: Decoder
    parts: list[TablePart]
    places: tuple[np.ndarray, ...] | None
    sources: list[str]
    digest: np.ndarray

    def texts(self, rows) -> list[str]:
        """As Corpus.texts."""
        return texts_by_row(self, rows, f"not as rank 0 has read it: {ONE}")


def packed(corpus) -> tuple[dict, dict]:
    """A corpus for another process, without its texts -> (what JSON holds, arrays by name)."""
    about = {
        "encoding": corpus.decoder.encoding, "replace": corpus.decoder.replace, "columns": corpus.told.get("columns", {}),
        "parts": [[p.split, p.table.name, list(p.columns.text) if p.columns else []] for p in corpus.parts],
    }  # fmt: skip
    sources = "\0".join(corpus.sources).encode("utf-8", "surrogateescape")
    arrays = {"digest": corpus.digest, "sources": np.frombuffer(sources, np.uint8)}
    return about, arrays | {f"place{i}": column for i, column in enumerate(corpus.places or ())}


def unpacked(own, about: dict, arrays: dict):
    """The corpus that `packed` gave, for its texts. own: its path here, or the Corpus itself where it lies in memory.

    BadInput where they plainly differ; each text is checked when it is read."""
    if not isinstance(own, Path):
        if not np.array_equal(own.digest, arrays["digest"]):
            raise BadInput(f"{shown(own.name)}: not as rank 0 has it: {ONE}")
        return own
    decoder, named, parts = Decoder(about["encoding"], about["replace"]), about["columns"], []
    asked, root = Asked.of(named.get("text"), named.get("label"), named.get("split")), own if own.is_dir() else own.parent
    for split, name, text in about["parts"]:
        table = open_table(root, name, decoder, asked)
        if not set(text) <= set(table.columns):
            raise BadInput(f"{shown(name)}: its columns are not as rank 0 has read them: {ONE}")
        parts.append(TablePart(split, table, Columns(tuple(text), "") if text else None))
    places = tuple(arrays[f"place{i}"] for i in range(3)) if parts else None
    sources = arrays["sources"].tobytes().decode("utf-8", "surrogateescape").split("\0")
    return Elsewhere(root, decoder, parts, places, sources, arrays["digest"])


def table_texts(parts: list[TablePart], places: list[tuple[int, int, int]]) -> list[str | None]:
    """Read rows again -> texts, from (part, offset, length) of each, in order; None where it is no text now."""
    texts: list[str | None] = [None] * len(places)
    for number in sorted({place[0] for place in places}):
        part, at = parts[number], [i for i, place in enumerate(places) if place[0] == number]
        names = list(part.columns.text)
        if part.in_file:
            values = _pread(part.table, [places[i][1:] for i in at], names)
        else:
            values = part.table.rows([places[i][1] for i in at], names)
        for i, one in zip(at, values, strict=True):
            texts[i] = None if one is None else text_again(part.columns, one)
    return texts


def text_again(columns: Columns, values: list) -> str | None:
    try:
        return columns.text_from(values, "")
    except BadInput:
        return None


def _pread(table, places: list[tuple[int, int]], names: list[str]) -> list[list | None]:
    values: list[list | None] = [None] * len(places)
    with readable(table.name), open(table.file, "rb", buffering=0) as file:
        for i in sorted(range(len(places)), key=places.__getitem__):
            offset, length = places[i]
            values[i] = table.again(os.pread(file.fileno(), length, offset), names, offset == 0)
    return values


def rows_found(part: TablePart, numbers: set[int]):
    """Yield (number, text) of rows by their numbers, for a corpus that was read before."""
    names = list(part.columns.text)
    if not part.in_file:
        inside = sorted(number for number in numbers if 0 < number <= len(part.table))
        for number, values in zip(inside, part.table.rows([number - 1 for number in inside], names), strict=True):
            yield number, text_again(part.columns, values)
        return
    left = len(numbers)
    for number, _, _, values, _ in part.table.read(names):
        if number in numbers:
            if values is not None:
                yield number, text_again(part.columns, values)
            left -= 1
            if not left:
                return


def texts_of(path, sources, digests, encoding: str = "utf-8-sig", *, text=None, label=None, split=None) -> list[str | None]:
    """Read texts again by source and digest (N, 32) uint8; None where a document changed, moved or is gone."""
    wanted = {(str(s), np.asarray(d, np.uint8).tobytes()) for s, d in zip(sources, digests, strict=True)}
    found: dict[tuple[str, bytes], str] = {}
    with suppress(BadInput):
        layout, decoder, asked = recognise(path), Decoder.named(encoding, replace=True), Asked.of(text, label, split)
        if layout.folders:
            found = dict(_tree_found(layout, decoder, wanted))
        else:
            parts = open_parts(Path(path), layout, decoder, asked)
            choose_columns(parts, asked, None)
            for part in parts:
                with suppress(BadInput):
                    found |= dict(_rows_found(part, wanted))
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


def _rows_found(part: TablePart, wanted):
    pattern = re.compile(re.escape(part.table.name) + r":(\d{1,12})")
    asked = {(int(m[1]), digest): source for source, digest in wanted if (m := pattern.fullmatch(source))}
    if asked and part.columns:
        for number, text in rows_found(part, {number for number, _ in asked}):
            if text is not None and (number, digest := text_digest(text)) in asked:
                yield (asked[number, digest], digest), text
