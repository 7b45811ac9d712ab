"""A corpus as tables: the documents of every row, and the place of each."""

from array import array
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from twostage import SPLITS
from twostage.corpus.columnar import ArrowRows, ParquetRows
from twostage.corpus.columns import HEADING, Asked, Columns, choose, fold, missing, no_label, numbers_without_fraction
from twostage.corpus.decoding import RECORD, Decoder, record
from twostage.corpus.delimited import Delimited
from twostage.corpus.findings import Documents, Undecodable, numbered_labels
from twostage.corpus.folders import SPLIT_NAMES
from twostage.corpus.json_records import JsonRecords
from twostage.corpus.lines import TabLines, decoded_lines
from twostage.corpus.memory_table import Held
from twostage.errors import BadInput, shown
from twostage.progress import Progress

FEW = 10  # documents below which a class of one document is no sign of a header
SAMPLE = 100  # rows that show what a column holds
WAY_OUT = "if that is not what the columns hold, name them: --text-column NAME --label-column NAME"


@dataclass
class TablePart:
    """One table of a corpus. split: None where its rows or the texts decide; columns: None where it has no labels."""

    split: str | None
    table: TabLines | Delimited | JsonRecords | ParquetRows | ArrowRows | Held
    columns: Columns | None = None

    @property
    def in_file(self) -> bool:
        """Whether rows have a place in bytes."""
        return hasattr(self.table, "again")

    def source(self, number: int) -> str:
        """Where a row stands: "train.csv:17", or "train[17]" of a table that the caller holds."""
        return f"{self.table.name}[{number}]" if isinstance(self.table, Held) else f"{self.table.name}:{number}"


def choose_columns(parts: list[TablePart], asked: Asked, class_txt: list[str] | None) -> list[str]:
    """Choose the columns of every part; return what there is to say of it."""
    notes = []
    for part in parts:
        table = part.table
        where = table.form if isinstance(table, Held) and part.split is None else shown(table.name)
        if not table.columns:  # an empty file
            continue
        columns = choose(table.columns, asked, where)
        if columns is None and part.split != "test":
            raise no_label(table.columns, where)
        if columns is not None and part.split is None and not asked.split:
            columns = _with_split(columns, table)
        labels = [row[len(columns.text)] for row in _sample(table, columns)] if columns else []
        names = None if columns is None else table.features.get(columns.label)
        unlabelled = all(missing(one) or one == "" or (names and one == -1) for one in labels)
        if part.split == "test" and (unlabelled or _withheld(labels, parts)):
            notes.append(f"{where} has no labels{'' if unlabelled else ' but -1'}: left out")
            continue
        if names:
            columns = replace(columns, names=names, names_from="its features")
        elif class_txt and (table.ids or (table.guessed and all(_is_number(one) for one in labels))):
            columns = replace(columns, names=class_txt)
        part.columns = columns
        said = columns.said()
        if said and said not in notes and "<TAB>" not in table.form and table.form != "texts and labels":
            notes.append(said)
    return notes


def _with_split(columns: Columns, table) -> Columns:
    """Take the column called split as such where it holds nothing else, so far as can be seen."""
    found = [name for name in table.columns if fold(name) == "split"]
    if len(found) != 1 or found[0] in columns.all:
        return columns
    wider = replace(columns, split=found[0], guessed=[*columns.guessed, f'split from "{shown(found[0])}"'])
    values = [row[-1] for row in _sample(table, wider)]
    return wider if values and all(isinstance(v, str) and fold(v) in SPLIT_NAMES for v in values) else columns


def _sample(table, columns: Columns) -> list[list]:
    return [values for *_, values, _ in islice(table.read(columns.all), SAMPLE) if values is not None]


def _is_minus_one(value) -> bool:
    return str(value).strip() in ("-1", "-1.0")


def _withheld(labels: list, parts: list[TablePart]) -> bool:
    """Whether a test table has -1 alone for a label, and train never: what competitions keep to themselves."""
    train = next((one for one in parts if one.split == "train" and one.columns), None)
    if train is None or not all(map(_is_minus_one, labels)):
        return False
    n = len(train.columns.text)
    return not any(_is_minus_one(row[n]) for *_, row, _ in train.table.read(train.columns.all) if row is not None)


def _is_number(value) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value.strip().isdigit())


def read_tables(parts: list[TablePart], notes: list[str], size: int) -> Documents:
    """Read every row of every part. Raises BadInput naming file and row of what is malformed. size: bytes or rows, of all."""
    records, sources, labels, seen, splits = bytearray(), [], array("i"), {}, array("B")
    file, offsets, lengths = array("H"), array("q"), array("q")
    empty, undecodable, unlabelled, firsts = 0, Undecodable(), [], []
    with Progress(size, "bytes" if parts[0].in_file else "rows", "reading") as progress:
        for number, part in enumerate(parts):
            columns = part.columns
            if columns is None:
                continue
            given, unsaid = SPLITS.index(part.split) if part.split else len(SPLITS), 0
            for row, offset, length, values, bad in part.table.read(columns.all):
                unsaid += length or 1
                if unsaid > 1 << 16:
                    progress.advance(unsaid)
                    unsaid = 0
                if bad is not None:
                    undecodable.add(part.table.name, bad)
                if values is None:
                    empty += bad is None
                    continue
                source = part.source(row)
                text, label, split = columns.take(values, source)
                if text is None:
                    empty += 1
                    continue
                if label is None:
                    unlabelled.append(source)
                    continue
                if row == 1 and isinstance(part.table, TabLines) and part.table.guessed:
                    firsts.append((source, label, text))
                try:
                    label.encode()
                    records += record(text)
                except UnicodeEncodeError:  # in a table that the caller holds
                    raise BadInput(
                        f"{source}: half of a character (a lone surrogate), which no file can hold; take it out"
                    ) from None
                sources.append(source)
                labels.append(seen.setdefault(label, len(seen)))
                splits.append(given if split is None else SPLITS.index(split))
                file.append(number)
                offsets.append(offset)
                lengths.append(length)
    if unlabelled:
        first, n = shown(unlabelled[0]), len(unlabelled)
        more = f", nor in {n - 1:,} more row{'s' * (n > 2)}" if n > 1 else ""
        raise BadInput(f"{first}: no label{more}; fill it in, or take the row out")
    for source, label, text in firsts:
        if len(labels) >= FEW and labels.count(seen[label]) == 1 and HEADING.fullmatch(label) and HEADING.fullmatch(text):
            raise BadInput(
                f"{shown(source)}: a header? No other line has the label '{shown(label)}'; name the columns (--text-column "
                f"{shown(text)} --label-column {shown(label)}), or number them (1, 2) if it is a document"
            )
    names = next((part.columns.names for part in parts if part.columns and part.columns.names_from == "class.txt"), None)
    if names:
        place, label_names = np.array([names.index(name) for name in seen], np.int32), names
    else:
        given = list(seen)
        place, label_names = numbered_labels(numbers_without_fraction(given) if parts[0].table.header else given)
    split = np.array(splits, np.uint8)
    return Documents(
        np.frombuffer(records, RECORD), sources, place[np.array(labels, np.int64)], split if (split < 3).all() else None,
        label_names, empty, undecodable, notes, (np.array(file), np.array(offsets), np.array(lengths)), len(parts),
        any(part.columns and part.columns.guessed for part in parts), WAY_OUT,
    )  # fmt: skip


def read_class_txt(file: Path, decoder: Decoder) -> list[str]:
    """Read class.txt: names by line, from id 0."""
    names = []
    for number, (_, _, name, bad) in enumerate(decoded_lines(file, decoder), 1):
        if bad is not None:
            raise BadInput(f"class.txt:{number}: not {decoder.encoding}; name the encoding with --encoding")
        names.append(name.strip())
    while names and not names[-1]:
        names.pop()
    for number, name in enumerate(names, 1):
        if not name or name in names[: number - 1]:
            what = f"{shown(name)} again" if name else "no name"
            raise BadInput(f"class.txt:{number}: {what}; each line names one id")
    return names
