"""What a cache holds beside the vectors: read at once, and checked against its digests and the fingerprint."""

import numpy as np

from twostage import SPLITS
from twostage.cache.format import ROW_FACTS, SETTLED, facts_digest, pages_of
from twostage.cache.identity import fingerprint_of
from twostage.cache.pages import CacheBytes, page_rows
from twostage.cache.validation import Header


def read_facts_checked(file: CacheBytes, header: Header, done: np.ndarray | None = None) -> tuple[dict, list[str]]:
    """All columns but the vectors, and what is wrong with them.

    `done` (pages,) bool: the pages of an unfinished file to look at; None demands a finished one.
    """
    facts = {name: file.read(name) for name in (*ROW_FACTS, "source_bytes")}
    ends, n = facts["source_end"], header.documents
    if ends[0] < 0 or (np.diff(ends) < 0).any() or ends[-1] != len(facts["source_bytes"]):
        return facts, ["the ends of the sources do not add up"]
    text = facts["source_bytes"]
    starts = ends[:-1][ends[:-1] < len(text)]
    try:
        text.tobytes().decode("utf-8", "surrogatepass")
        if (text[starts] & 0xC0 == 0x80).any():  # the middle of a character
            raise UnicodeError
    except UnicodeError:
        return facts, ["the sources are not text"]
    faults = []
    columns = tuple(facts[name] for name in SETTLED)
    names = header.names_bytes
    found = fingerprint_of(header.encoder, header.store_dtype, header.hidden_size, names, columns)
    if found != header.fingerprint:
        faults.append("its fields do not match the fingerprint that it carries")
    elif facts["label"].min() < 0 or facts["label"].max() >= len(header.label_names):
        faults.append("a label has no name")
    elif facts["split"].max() >= len(SPLITS):
        faults.append("a split has no name")
    if done is None:
        missing = np.flatnonzero(file.read("page_done") != 1).tolist()
        if missing:
            faults.append(f"{page_rows(missing, n)} not marked as written")
        done = np.ones(pages_of(n), bool)
    digests = file.read("facts_digest")
    for page in np.flatnonzero(done).tolist():
        if facts_digest(header.fingerprint, page, facts) != digests[page].tobytes():
            faults.append(f"{page_rows([page], n)}: what is stored beside the vectors does not match its digest")
    return facts, faults
