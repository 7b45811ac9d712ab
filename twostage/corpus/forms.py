"""Which form one file of a corpus has: Parquet, Arrow, JSON, CSV or TSV with a header, lines with tabs."""

import json
import os
import re
from pathlib import Path

from twostage.corpus.columnar import ArrowRows, ParquetRows, arrow, class_label_names
from twostage.corpus.columns import Asked
from twostage.corpus.decoding import Decoder
from twostage.corpus.delimited import Delimited, delimited
from twostage.corpus.folders import readable
from twostage.corpus.json_records import JsonRecords
from twostage.corpus.lines import TabLines, tab_lines
from twostage.errors import BadInput, shown

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
HEAD = 1 << 16  # bytes
PANDAS = re.compile(
    r'\{\s*("[^"]*"\s*:\s*\{\s*"0"\s*:|"0"\s*:\s*\{|"columns"\s*:\s*\[|"schema"\s*:\s*\{\s*"fields")'
)  # its to_json
WRAPPED = re.compile(r'\{\s*(?:"[^"]*"\s*:\s*(?:"[^"]*"|[\w.+-]+)\s*,\s*)*"([^"]*)"\s*:\s*\[')  # an array inside an object
OTHER = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it, or save it as CSV",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"BZh": "compressed with bzip2; unpack it first",
    b"\xfd7zXZ": "compressed with xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it first",
    b"\xd0\xcf\x11\xe0": "an old Office file; save it as CSV",
    b"version https://git-lfs.github.com/": "a Git LFS pointer, not the file itself; run git lfs pull",
    b"<!DOCTYPE": "a web page; download the file again",
    b"<html": "a web page; download the file again",
}


def open_table(
    root: Path, name: str, decoder: Decoder, asked: Asked
) -> TabLines | Delimited | JsonRecords | ParquetRows | ArrowRows:
    """The table that a file holds. Raises BadInput, in one line, for what is none."""
    file, suffix = root / name, Path(name).suffix.lower()
    with readable(name), open(file, "rb") as stream:
        head = stream.read(HEAD)
    for magic, what in OTHER.items():
        if head.startswith(magic):
            raise BadInput(f"{shown(name)}: {what}")
    if head.startswith(b"PAR1"):
        arrow()
        return ParquetRows(file, name)
    if suffix == ".arrow" or head.startswith(b"ARROW1"):
        return ArrowRows(file, name, _features(file))
    decoder = decoder.of_file(file)
    decoder.refuse_binary(head, name)
    start = decoder.lenient(head, start=True).lstrip()
    if suffix in JSON_SUFFIXES or _is_object(start.split("\n")[0]) or re.match(r"\[\s*\{", start):
        if PANDAS.match(start):
            raise BadInput(
                f"{shown(name)}: JSON by columns or by index, as pandas writes it; write rows: to_json(…, orient='records')"
            )
        found = WRAPPED.match(start)
        if found and ("\n" not in start.rstrip() or not _is_object(start.split("\n")[0])):  # and not an object a line
            raise BadInput(
                f'{shown(name)}: one JSON object, whose "{shown(found[1][:40])}" is an array; a corpus is an array of objects '
                "by itself, or an object a line"
            )
        return JsonRecords(file, name, decoder, array=start.startswith("["))
    if start.count("\r") > 1 and "\n" not in start and os.path.getsize(file) <= HEAD:
        raise BadInput(
            f"{shown(name)}: lines that end in a carriage return alone, as on an old Macintosh; tr '\\r' '\\n' mends it"
        )
    if suffix == ".csv":
        return delimited(file, name, decoder, asked, certain=True)
    return delimited(file, name, decoder, asked, certain=False) or tab_lines(file, name, decoder, asked)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _features(file: Path) -> dict[str, list[str]]:
    try:
        return class_label_names(json.loads((file.parent / "dataset_info.json").read_text(encoding="utf-8"))["features"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
