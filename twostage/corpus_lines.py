"""A corpus as files with a document a line: text<TAB>id with class.txt, label<TAB>text, or JSON lines."""

import json
import os
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from twostage.corpus_findings import Undecodable
from twostage.corpus_layout import Layout
from twostage.corpus_text import RECORD, Decoder, record, shown, without_surrogates
from twostage.errors import BadInput
from twostage.progress import Progress
from twostage.splits import SPLITS

TEXT_KEYS = ("sentence", "text")
LABEL_KEYS = ("label_des", "label")


@dataclass
class Lines:
    """What was read of line files: a place for each document, and what was left out."""

    records: np.ndarray = None
    sources: list[str] = field(default_factory=list)
    label: np.ndarray = None
    split: np.ndarray | None = None
    label_names: list[str] = field(default_factory=list)
    file: array = field(default_factory=lambda: array("B"))  # (N,) index into the layout's parts
    offset: array = field(default_factory=lambda: array("q"))  # (N,) where the line begins, bytes
    length: array = field(default_factory=lambda: array("i"))  # (N,) bytes
    empty: int = 0
    undecodable: Undecodable = field(default_factory=Undecodable)
    notes: list[str] = field(default_factory=list)


def read_lines(layout: Layout, decoder: Decoder) -> Lines:
    """Read every line of every file. Raises BadInput naming file and line of what is malformed."""
    refuse_wide(decoder)
    lines, records, labels, seen = Lines(), bytearray(), array("i"), {}
    names = class_names(layout.root / "class.txt", decoder) if layout.kind == "ids" else None
    size = sum(os.path.getsize(layout.root / part) for _, part in layout.parts)
    read = 0
    with Progress(size, "bytes", "reading") as progress:
        for number, (split, part) in enumerate(layout.parts):
            if split == "test" and layout.kind == "json" and _unlabelled(layout.root / part, decoder):
                lines.notes.append(f"{shown(part)} has no labels: left out")
                continue
            for line, offset, raw in enumerate_lines(layout.root / part):
                read += len(raw) + 1
                if line % 1000 == 0:
                    progress.advance(read - progress.done)
                where = f"{shown(part)}:{line}"
                decoder.refuse_binary(raw, part, offset)
                text, label, bad = parse(layout.kind, raw, decoder, first=line == 1, where=where, names=names)
                if bad is not None:
                    lines.undecodable.add(part, offset + bad)
                if text is None or not text.strip():
                    lines.empty += text is not None
                    continue
                records += record(text)
                labels.append(seen.setdefault(label, len(seen)))
                lines.sources.append(f"{part}:{line}")
                lines.file.append(number)
                lines.offset.append(offset)
                lines.length.append(len(raw))
    lines.records = np.frombuffer(records, RECORD)
    lines.label_names = names or sorted(seen)
    place = {name: i for i, name in enumerate(lines.label_names)}
    lines.label = np.array([place[name] for name in seen], np.int32)[np.frombuffer(labels, np.int32)]
    if layout.parts[0][0] is not None:
        lines.split = np.array([SPLITS.index(s) for s, _ in layout.parts], np.uint8)[np.array(lines.file)]
    return lines


def enumerate_lines(file: Path):
    """Yield (line number from 1, offset in bytes, bytes without the line's end); lines end at \\n alone."""
    offset = 0
    try:
        with open(file, "rb") as stream:
            for number, raw in enumerate(stream, 1):
                yield number, offset, raw.removesuffix(b"\n").removesuffix(b"\r")
                offset += len(raw)
    except OSError as error:
        raise BadInput(f"{shown(file)}: can't be read ({error.strerror})") from None


def parse(kind: str, raw: bytes, decoder: Decoder, *, first: bool, where: str = "", names: list[str] | None = None):
    """Parse a line -> (text, label name, undecodable byte or None).

    The text is None where it can't be decoded, "" for a blank line. `names`: class.txt, for lines of kind ids.
    """
    line, bad = decoder(raw, start=first)
    if line is None or not line.strip():
        return line, None, bad
    if kind == "json":
        text, label = _json(line, where)
        try:
            (text + label).encode()
        except UnicodeEncodeError:
            bad = 0 if bad is None else bad
            text, label = (without_surrogates(text), without_surrogates(label)) if decoder.replace else (None, label)
        return text, label, bad
    if "\t" not in line:
        raise BadInput(f"{where}: no tab in the line; a line is {'text<TAB>id' if kind == 'ids' else 'label<TAB>text'}")
    if kind == "ids":
        text, _, label = line.rpartition("\t")
        return text, label if names is None else _name(label.strip(), names, where), bad
    label, _, text = line.partition("\t")
    if not label.strip():
        raise BadInput(f"{where}: no label before the tab; a line is label<TAB>text")
    return text, label.strip(), bad


def _name(label: str, names: list[str], where: str) -> str:
    if not (label.isascii() and label.isdigit()):
        raise BadInput(f"{where}: '{shown(label[:40])}' after the last tab is no label id; a line is text<TAB>id")
    if len(label) > 9 or int(label) >= len(names):
        raise BadInput(f"{where}: label id {label[:20]}, but class.txt names only 0 to {len(names) - 1}; complete it")
    return names[int(label)]


def _json(line: str, where: str) -> tuple[str, str]:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: not JSON ({shown(error)[:80]}); a line is one object") from None
    if not isinstance(item, dict):
        raise BadInput(f'{where}: not a JSON object; a line is {{"label": …, "text": …}}')
    text = next((item[k] for k in TEXT_KEYS if item.get(k) is not None), None)
    label = next((item[k] for k in LABEL_KEYS if item.get(k) is not None), None)
    if not isinstance(text, str):
        raise BadInput(f'{where}: no text; an object has a string "sentence" or "text"')
    if not isinstance(label, str | int) or isinstance(label, bool) or not str(label).strip():
        raise BadInput(f'{where}: no label; an object has a string or number "label_des" or "label"')
    return text, str(label).strip()


def _unlabelled(file: Path, decoder: Decoder) -> bool:
    """Whether the first object of a file has no label, as TNEWS ships its test file."""
    for number, _, raw in enumerate_lines(file):
        line, _ = decoder(raw, start=number == 1)
        if line and line.strip():
            try:
                item = json.loads(line)
            except (ValueError, RecursionError):
                return False
            return isinstance(item, dict) and all(item.get(key) in (None, "") for key in LABEL_KEYS)
    return False


def class_names(file: Path, decoder: Decoder) -> list[str]:
    """Read class.txt: names by line, from id 0."""
    names = []
    for number, _, raw in enumerate_lines(file):
        name, bad = decoder(raw, start=number == 1)
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


def refuse_wide(decoder: Decoder) -> None:
    if not decoder.by_line:
        raise BadInput(f"--encoding {decoder.encoding}: lines can't be told apart in it; convert the files with iconv")


def line_texts(layout: Layout, places: list[tuple[int, int, int]], decoder: Decoder) -> list[str | None]:
    """Read lines again -> texts, from (file, offset, length) of each, in order."""
    texts, open_files = [None] * len(places), {}
    try:
        for i in sorted(range(len(places)), key=places.__getitem__):
            number, offset, length = places[i]
            if number not in open_files:
                open_files[number] = os.open(layout.root / layout.parts[number][1], os.O_RDONLY)
            raw = os.pread(open_files[number], length, offset)
            with suppress(BadInput):  # no longer a line of its kind: no text
                texts[i] = parse(layout.kind, raw, decoder, first=offset == 0)[0]
    except OSError as error:
        raise BadInput(f"{shown(layout.parts[number][1])}: can't be read ({error.strerror})") from None
    finally:
        for descriptor in open_files.values():
            os.close(descriptor)
    return texts
