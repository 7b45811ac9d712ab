"""A corpus as a tree: one folder a class, one file a document. Files are opened and hashed by several threads."""

import io
import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from twostage import SPLITS
from twostage.corpus.decoding import RECORD, Decoder, record
from twostage.corpus.findings import Documents, Undecodable, encodings_said, numbered_labels
from twostage.corpus.folders import bytes_path, list_documents, readable
from twostage.corpus.layout import Layout
from twostage.errors import BadInput, shown
from twostage.progress import Progress

THREADS = 8  # more than cores: they wait for the disk
CHUNK = 256  # files a thread takes at a time


def read_tree(layout: Layout, decoder: Decoder) -> Documents:
    """Read every document of a tree, ordered by name. Raises BadInput naming a file that is binary or can't be read."""
    with readable():
        found, left_out = list_documents(layout.root, layout.folders)
    counts = [len(sources) for sources in found]
    sources = list(itertools.chain.from_iterable(found))
    names = [class_name(folder.name) for folder in layout.folders]
    label, label_names = numbered_labels([name for name, count in zip(names, counts, strict=True) if count])
    label = np.repeat(label, [count for count in counts if count])
    split = None
    if layout.folders[0].split:
        split = np.repeat(np.array([SPLITS.index(folder.split) for folder in layout.folders], np.uint8), counts)

    records, kept, empty, undecodable, taken = _read(layout.root, sources, decoder)
    return Documents(
        records, list(itertools.compress(sources, kept.tolist())), label[kept], None if split is None else split[kept],
        label_names, empty, undecodable, left_out.lines() + taken, files=len(sources),
    )  # fmt: skip


def class_name(folder: str) -> str:
    """Return the name of a class from its folder; one not UTF-8 (an old Chinese archive) is read as GB 18030."""
    raw = folder.encode("utf-8", "surrogateescape")
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("utf-8", "backslashreplace")


def _read(root: Path, sources: list[str], decoder: Decoder) -> tuple[np.ndarray, np.ndarray, int, Undecodable, list[str]]:
    """Read every file -> (records (K,) RECORD, kept (N,) bool, number of empty documents, the undecodable, what encodings
    were found out, as a line or none)."""
    kept, records, empty, undecodable = np.ones(len(sources), bool), bytearray(), 0, Undecodable()
    taken, first_taken = Counter(), {}

    def read(first: int):
        chunk, dropped, bad, others = [], [], [], []
        for row in range(first, min(first + CHUNK, len(sources))):
            raw = _bytes(root, sources[row])
            own = decoder.of(io.BytesIO(raw))
            if own is not decoder:
                others.append((own.encoding, sources[row]))
            own.refuse_binary(raw, sources[row])
            text, offset = own(raw, start=True)
            if offset is not None:
                bad.append((row, offset))
            if text is None or not text.strip():
                dropped.append(row)
            else:
                chunk.append(record(text))
        return b"".join(chunk), dropped, bad, others

    pool = ThreadPoolExecutor(THREADS)
    try:
        with Progress(len(sources), "files", "reading") as progress:
            for first, (chunk, dropped, bad, others) in zip(
                range(0, len(sources), CHUNK), pool.map(read, range(0, len(sources), CHUNK)), strict=True
            ):
                records += chunk
                kept[dropped] = False
                for row, offset in bad:
                    undecodable.add(sources[row], offset)
                for encoding, source in others:
                    taken[encoding] += 1
                    first_taken.setdefault(encoding, source)
                empty += len(dropped) - (0 if decoder.replace else len(bad))
                progress.advance(min(CHUNK, len(sources) - first))
    finally:
        pool.shutdown(cancel_futures=True)
    return np.frombuffer(records, RECORD), kept, empty, undecodable, encodings_said(taken, first_taken)


def tree_texts(root: Path, sources: list[str], decoder: Decoder) -> list[str]:
    """Read these documents again, in order."""

    def read(source):
        raw = _bytes(root, source)
        return decoder.of(io.BytesIO(raw))(raw, start=True)[0]

    if len(sources) < 8:
        return [read(source) for source in sources]
    with ThreadPoolExecutor(THREADS) as pool:
        chunks = pool.map(lambda first: [read(s) for s in sources[first : first + 32]], range(0, len(sources), 32))
        return [text for chunk in chunks for text in chunk]


def _bytes(root: Path, source: str) -> bytes:
    try:
        with open(bytes_path(root, source), "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        raise BadInput(f"{shown(source)}: can't be read ({error.strerror})") from None
