"""CSV and TSV with a header (RFC 4180), read with the standard library's csv, a record at a time with its place in bytes."""

import csv
import io
import re
from itertools import islice
from pathlib import Path

from twostage.corpus.columns import Asked, is_header
from twostage.corpus.decoding import Decoder
from twostage.corpus.encodings import encoding_of
from twostage.corpus.lines import QUOTED, decoded_lines
from twostage.errors import BadInput, shown

DELIMITERS = (",", ";", "\t", "|")
NAMES = {",": "CSV rows", ";": "CSV rows with semicolons", "\t": "TSV rows", "|": "CSV rows with bars"}
SAMPLE = 1 << 16  # characters that tell one delimiter from another
LONGEST = 2**31 - 1  # characters of a field
LONGEST_QUOTED = 1 << 22  # characters of a record, while it is open whether quotes mean anything
FIELD = re.compile(r'"(?:[^"]|"")*"|[^"\t\r\n]+')
EXCEL = re.compile(r"\ufeff?sep=.\r?\n?")  # a first line that names the delimiter
WRITTEN = re.compile(r'(?:"(?:[^"]|"")*"|[^"\t]*)(?:\t(?:"(?:[^"]|"")*"|[^"\t\r\n]*))*\r?\n?')


class Delimited:
    """Records with a header. quoted: quotes are a writer's, and may hold line ends; else a line is a record."""

    def __init__(self, file: Path, name: str, decoder: Decoder, *, delimiter: str, quoted: bool, header: bool = True):
        self.file, self.name, self.decoder = file, name, decoder
        self.delimiter, self.quoted, self.header = delimiter, quoted, header
        self.form, self.features, self.ids, self.guessed = NAMES[delimiter], {}, False, True
        first, bad = next(((cells, bad) for _, _, _, cells, bad in self._records() if cells), ([], None))
        if header and bad is not None:
            with open(file, "rb") as stream:
                found = encoding_of(stream)
            raise BadInput(
                f"{shown(name)}: its header is not {decoder.encoding} (byte {bad:,}); "
                f"{f'the file decodes as {found}: --encoding {found}' if found else 'name the encoding: --encoding NAME'}"
            )
        self.columns = first if header else [str(i + 1) for i in range(len(first))]

    def read(self, names: list[str]):
        """Yield (record number, offset, length, the values of these columns or None, undecodable byte or None)."""
        at, width = [self.columns.index(name) for name in names], len(self.columns)
        header = self.header
        for number, offset, length, cells, bad in self._records():
            if header and cells:
                header = False
            elif not cells or (bad is not None and not self.decoder.replace):
                yield number, offset, length, None, bad
            elif len(cells) != width:
                raise BadInput(
                    f"{shown(self.name)}:{number}: {len(cells)} column{'s' * (len(cells) > 1)} where the header has {width}; "
                    "fix the line, or its quotes"
                )
            else:
                yield number, offset, length, [cells[i] for i in at], bad

    def again(self, raw: bytes, names: list[str], first: bool) -> list | None:
        """The values of a record read before, None where it is one no longer."""
        text, bad = self.decoder(raw, start=first)
        try:
            (cells,) = self._parse([text]) if bad is None or self.decoder.replace else ([],)
            return [cells[self.columns.index(name)] for name in names]
        except (csv.Error, IndexError, ValueError):
            return None

    def _parse(self, lines):
        if not self.quoted:
            return (line.removesuffix("\n").removesuffix("\r").split(self.delimiter) if line.strip() else [] for line in lines)
        csv.field_size_limit(LONGEST)
        return csv.reader(lines, delimiter=self.delimiter, strict=True)

    def _records(self):
        end, bad = 0, None

        def lines():
            nonlocal end, bad
            for offset, length, text, wrong in decoded_lines(self.file, self.decoder, ends=True):
                end = offset + length
                if wrong is not None:
                    bad = wrong if bad is None else bad
                yield text

        records, start, number = self._parse(lines()), 0, 0
        while True:
            number += 1
            try:
                cells = next(records, None)
            except csv.Error as error:
                reason = "a carriage return outside quotes" if "new-line" in str(error) else error
                raise BadInput(f"{shown(self.name)}:{number}: not CSV ({reason}); fix the quotes of that record") from None
            if cells is None:
                return
            if number > 1 or not EXCEL.fullmatch(self.delimiter.join(cells)):
                yield number, start, end - start, cells, bad
            start, bad = end, None


def delimited(file: Path, name: str, decoder: Decoder, asked: Asked, *, certain: bool) -> Delimited | None:
    """Recognise the delimiter and the header; None where there is no header and `certain` (a .csv) does not say so."""
    head = "".join(text for _, _, text, _ in _head(file, decoder))
    excel = EXCEL.match(head)
    head = head[excel.end() :] if excel else head
    if not head.strip():
        return Delimited(file, name, decoder, delimiter=",", quoted=True) if certain else None
    known = [(d, cells) for d in DELIMITERS if len(cells := _first(head, d)) > 1]
    headed = [d for d, cells in known if is_header(cells, asked)]
    if len(headed) != 1 and not certain:
        return None
    delimiter = headed[0] if len(headed) == 1 else _likeliest(head, [d for d, _ in known] or [","])
    quoted = delimiter != "\t" or excel is not None or _quoted(file, decoder)
    return Delimited(file, name, decoder, delimiter=delimiter, quoted=quoted, header=bool(headed) or not asked.numbers)


def _head(file: Path, decoder: Decoder):
    for line in decoded_lines(file, decoder, ends=True):
        yield line
        if line[0] > SAMPLE:
            return


def _first(head: str, delimiter: str) -> list[str]:
    return next(_rows(head, delimiter), [])


def _rows(head: str, delimiter: str):
    csv.field_size_limit(LONGEST)
    try:
        yield from (cells for cells in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter) if cells)
    except csv.Error:
        return


def _likeliest(head: str, delimiters: list[str]) -> str:
    """The delimiter by which the most of the first records are as wide as the first, and of equals the one that makes
    more columns."""

    def score(delimiter):
        widths = [len(cells) for cells in islice(_rows(head, delimiter), 100)]
        return widths.count(widths[0]) / len(widths), widths[0]

    return max(delimiters, key=score)


def _quoted(file: Path, decoder: Decoder) -> bool:
    """Whether the quotes of a TSV are a writer's. In GLUE's files they mean nothing, and each line is a record.

    A writer quotes every field that holds a quote, and doubles it. That, fields all quoted in the header, or lines that are
    no record alone but make one together show its hand.
    """
    width, record, shown_by = None, "", False
    for _, _, line, _ in decoded_lines(file, decoder, ends=True):
        if width is None and line.strip():
            width = line.count("\t")
            shown_by = all(QUOTED.fullmatch(cell) for cell in line.rstrip("\r\n").split("\t"))
        record += line
        if '"' not in record:
            record = ""
        elif record.count('"') % 2 == 0:
            if not WRITTEN.fullmatch(record):
                return False
            ragged = any(part.count("\t") != width for part in record.removesuffix("\n").split("\n"))
            shown_by = shown_by or ragged or any('""' in field[1:-1] for field in FIELD.findall(record) if field != '""')
            record = ""
        elif len(record) > LONGEST_QUOTED:
            return False
    return shown_by and not record
