"""A corpus as files with a document a line: text<TAB>id with class.txt, label<TAB>text, or JSON lines."""

import os
from array import array
from pathlib import Path

import numpy as np

from twostage import SPLITS
from twostage.corpus.decoding import RECORD, Decoder, record
from twostage.corpus.findings import Documents, Undecodable, numbered_labels
from twostage.corpus.layout import Layout
from twostage.corpus.line_parser import class_names, enumerate_lines, parse, parsed_again, unlabelled
from twostage.errors import BadInput, shown
from twostage.progress import Progress


def read_lines(layout: Layout, decoder: Decoder) -> Documents:
    """Read every line of every file. Raises BadInput naming file and line of what is malformed."""
    if not decoder.by_line:
        raise BadInput(f"--encoding {decoder.encoding}: lines can't be told apart in it; convert the files with iconv")
    names = class_names(layout.root / "class.txt", decoder) if layout.kind == "ids" else None
    records, sources, labels, seen = bytearray(), [], array("i"), {}
    file, offsets, lengths = array("B"), array("q"), array("q")
    empty, undecodable, notes = 0, Undecodable(), []
    with Progress(sum(os.path.getsize(layout.root / part) for _, part in layout.parts), "bytes", "reading") as progress:
        for number, (split, part) in enumerate(layout.parts):
            if split == "test" and layout.kind == "json" and unlabelled(layout.root / part, decoder):
                notes.append(f"{shown(part)} has no labels: left out")
                continue
            _refuse_binary_head(layout.root / part, part, decoder)
            unsaid = 0
            for line, offset, raw in enumerate_lines(layout.root / part):
                unsaid += len(raw) + 1
                if unsaid > 1 << 16:
                    progress.advance(unsaid)
                    unsaid = 0
                decoder.refuse_binary(raw, part, offset)
                where = f"{shown(part)}:{line}"
                text, label, bad = parse(layout.kind, raw, decoder, first=line == 1, where=where, names=names)
                if bad is not None:
                    undecodable.add(part, offset + bad)
                if text is None or not text.strip():
                    empty += text is not None
                    continue
                records += record(text)
                sources.append(f"{part}:{line}")
                labels.append(seen.setdefault(label, len(seen)))
                file.append(number)
                offsets.append(offset)
                lengths.append(len(raw))
    if names:
        place, label_names = np.array([names.index(name) for name in seen], np.int32), names
    else:
        place, label_names = numbered_labels(list(seen))
    label = place[np.array(labels)]
    split = np.array([SPLITS.index(s) for s, _ in layout.parts if s], np.uint8)
    return Documents(
        np.frombuffer(records, RECORD), sources, label, split[np.array(file)] if len(split) else None, label_names,
        empty, undecodable, notes, (np.array(file), np.array(offsets), np.array(lengths)), True,
        "name the columns: --text-column and --label-column",
    )  # fmt: skip


def _refuse_binary_head(file: Path, part: str, decoder: Decoder) -> None:
    """Name a binary file as such before its first "line" is found to have no tab, or to have no end."""
    with open(file, "rb") as stream:
        decoder.refuse_binary(stream.read(1 << 16), part)


def line_texts(layout: Layout, places: list[tuple[int, int, int]], decoder: Decoder) -> list[str | None]:
    """Read lines again -> texts, from (file, offset, length) of each, in order."""
    texts, open_files = [None] * len(places), {}
    try:
        for i in sorted(range(len(places)), key=places.__getitem__):
            number, offset, length = places[i]
            if number not in open_files:
                open_files[number] = os.open(layout.root / layout.parts[number][1], os.O_RDONLY)
            raw = os.pread(open_files[number], length, offset)
            texts[i] = parsed_again(layout.kind, raw, decoder, first=offset == 0)
    except OSError as error:
        raise BadInput(f"{shown(layout.parts[number][1])}: can't be read ({error.strerror})") from None
    finally:
        for descriptor in open_files.values():
            os.close(descriptor)
    return texts
