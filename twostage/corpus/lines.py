"""Lines of a file, and tables without a header: label<TAB>text, text<TAB>label, text<TAB>id."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from twostage.corpus.columns import HEADING, HOW, Asked, listed
from twostage.corpus.decoding import Decoder
from twostage.corpus.folders import readable
from twostage.errors import BadInput, shown

BLOCK = 1 << 20
SAMPLE = 1000  # lines that show where the label stands
FEW = 4  # lines that show nothing
NUMBER = re.compile(r"\s*[-+]?\d+(\.0*)?\s*")
IDS = re.compile(r"\t *[-+]?\d+(\.0*)? *\t? *$")
QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def raw_lines(file: Path, encoding: str = "utf-8") -> Iterator[tuple[int, bytes]]:
    """Yield (offset in bytes, bytes with their end); lines end at \\n alone, whatever the width of a character."""
    with readable(file), open(file, "rb") as stream:
        yield from lines_of(stream, encoding)


def lines_of(stream: BinaryIO, encoding: str) -> Iterator[tuple[int, bytes]]:
    """The same of a stream that is open."""
    newline, offset = "\n".encode(encoding), 0
    for raw in stream if len(newline) == 1 else _wide_lines(stream, newline):
        yield offset, raw
        offset += len(raw)


def _wide_lines(stream, newline: bytes) -> Iterator[bytes]:
    width, rest = len(newline), b""
    while block := stream.read(BLOCK):
        rest, start, at = rest + block, 0, 0
        while (at := rest.find(newline, at)) >= 0:
            if at % width:  # across two characters
                at += 1
                continue
            at += width
            yield rest[start:at]
            start = at
        rest = rest[start:]
    if rest:
        yield rest


def decoded_lines(file: Path, decoder: Decoder, *, ends: bool = False) -> Iterator[tuple[int, int, str | None, int | None]]:
    """Yield (offset, length, text, undecodable byte or None). The text of a line that does not decode is None, or with
    `ends`, where lines keep their ends, has U+FFFD: its quotes and line ends count."""
    for offset, raw in raw_lines(file, decoder.encoding):
        decoder.refuse_binary(raw, file.name, offset)
        text, bad = decoder(raw, start=offset == 0)
        if ends:
            text = decoder.lenient(raw, start=offset == 0) if text is None else text
        elif text is not None:
            text = text.removesuffix("\n").removesuffix("\r")
        yield offset, len(raw), text, None if bad is None else offset + bad


class TabLines:
    """Lines with tabs and no header. first: the label stands first and the rest is text, else it stands last; `cells`:
    every tab divides, and columns are called by number."""

    def __init__(self, file: Path, name: str, decoder: Decoder, *, columns: list[str], form: str, quoted: bool):
        self.file, self.name, self.decoder, self.columns, self.form, self.quoted = file, name, decoder, columns, form, quoted
        self.features, self.header, self.ids = {}, False, form.startswith("text<TAB>id")
        self.guessed = not columns[0].isdigit()

    def read(self, names: list[str]):
        """Yield (line number, offset, length, the values of these columns or None, undecodable byte or None)."""
        for number, (offset, length, line, bad) in enumerate(decoded_lines(self.file, self.decoder), 1):
            if line is None or not line.strip():
                yield number, offset, length, None, bad
            else:
                yield number, offset, length, self._values(line, names, number), bad

    def again(self, raw: bytes, names: list[str], first: bool) -> list | None:
        """The values of a record read before, None where it is one no longer."""
        line, _ = self.decoder(raw, start=first)
        try:
            return None if line is None else self._values(line.removesuffix("\n").removesuffix("\r"), names, 0)
        except BadInput:
            return None

    def _values(self, line: str, names: list[str], number: int) -> list[str]:
        where = f"{shown(self.name)}:{number}"
        if "\t" not in line:
            raise BadInput(f"{where}: no tab in the line; a line is {self.form.removesuffix(' lines').split(' lines')[0]}")
        if not self.guessed:
            cells = line.split("\t")
            if len(cells) != len(self.columns):
                raise BadInput(f"{where}: {len(cells)} columns where the first line has {len(self.columns)}")
        elif self.columns[0] == "label":
            cells = line.split("\t", 1)
        else:
            cells = line.rsplit("\t", 1)
        if self.quoted:
            cells = [unquoted(cell) for cell in cells]
        values = dict(zip(self.columns, cells, strict=True))
        if self.guessed and self.columns[0] == "label" and not cells[0].strip():
            raise BadInput(f"{where}: no label before the tab; a line is label<TAB>text")
        return [values[name] for name in names]


def unquoted(cell: str) -> str:
    """A field as a CSV writer meant it: without the quotes around it, "" inside as one."""
    found = QUOTED.fullmatch(cell)
    return found[1].replace('""', '"') if found else cell


def tab_lines(file: Path, name: str, decoder: Decoder, asked: Asked) -> TabLines:
    """Find out where the label stands. Raises BadInput where that is not plain."""
    lines = [line for _, _, line, _ in islice(decoded_lines(file, decoder), SAMPLE) if line and line.strip() and "\t" in line]
    rows, where = [line.split("\t") for line in lines], shown(name)
    quoted = _writer_quotes(file, decoder)
    if asked.names:
        columns = [str(i + 1) for i in range(len(rows[0]) if rows else 0)]
        return TabLines(file, name, decoder, columns=columns, form="lines of columns by number", quoted=quoted)
    if (file.parent / "class.txt").is_file() and 2 * sum(bool(IDS.search(line)) for line in lines) >= len(lines):
        form = "text<TAB>id lines with class.txt"
        return TabLines(file, name, decoder, columns=["text", "label"], form=form, quoted=quoted)
    label_first = _label_first(rows, where)
    columns = ["label", "text"] if label_first else ["text", "label"]
    return TabLines(file, name, decoder, columns=columns, form="<TAB>".join(columns) + " lines", quoted=quoted)


def _label_first(rows: list[list[str]], where: str) -> bool:
    """A label repeats and is short. Where lines have three columns or more, only one of them may look like one."""
    if len(rows) < FEW:
        return True
    widths = {len(row) for row in rows}
    if len(widths) == 1 and widths != {2}:
        columns = list(zip(*rows, strict=True))
        if all(column[0].isascii() and HEADING.fullmatch(column[0]) and column.count(column[0]) == 1 for column in columns):
            raise BadInput(f"{where}: no column is plainly the text: {HOW['text']} {HOW['label']}; {listed(rows[0])}")
        repeat = [i for i, column in enumerate(columns) if 1 < len(set(column)) <= len(rows) // 2 or not any(column)]
        row_numbers = any(all(map(NUMBER.fullmatch, column)) for i, column in enumerate(columns) if i not in repeat)
        if repeat in ([0], [len(columns) - 1]) and not row_numbers:
            return repeat == [0]
        raise BadInput(
            f"{where}: lines of {len(columns)} columns and no header; say which they are, by number: "
            "--text-column N --label-column N"
        )
    first, last = [row[0] for row in rows], [row[-1] for row in rows]
    if len(set(last)) >= len(set(first)) or _mean(last) >= _mean(first):
        return True
    if all(NUMBER.fullmatch(cell) for cell in last):
        raise BadInput(
            f"{where}: lines are text<TAB>id, but no class.txt beside it names the ids; add it, or take the numbers as names: "
            "--text-column 1 --label-column 2"
        )
    return False


def _mean(cells: list[str]) -> float:
    return sum(map(len, cells)) / len(cells)


def _writer_quotes(file: Path, decoder: Decoder) -> bool:
    """Whether fields are quoted as a CSV writer does it: doubled quotes inside some, and every quote at a start closed."""
    doubled = False
    for _, _, line, _ in decoded_lines(file, decoder):
        if line and '"' in line:
            for cell in line.split("\t"):
                if cell.startswith('"'):
                    found = QUOTED.fullmatch(cell)
                    if not found:
                        return False
                    doubled = doubled or '""' in found[1]
    return doubled
