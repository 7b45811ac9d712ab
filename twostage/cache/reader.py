"""Read a finished cache: nothing is used before its digest has been checked."""

import json
from functools import cached_property
from html import escape
from pathlib import Path

import numpy as np

from twostage import SPLITS
from twostage.cache.columns import read_facts_checked
from twostage.cache.format import PAGE_ROWS, pages_of
from twostage.cache.pages import CacheBytes, page_rows
from twostage.cache.validation import Header, open_safely
from twostage.encoder.settings import short
from twostage.errors import BadInput, row_numbers
from twostage.files import write_text

LISTED = 50  # faults told one by one


def split_number(name: str) -> int:
    if name not in SPLITS:
        raise BadInput(f"no split is called {short(name)}: give train, val or test")
    return SPLITS.index(name)


class FeatureCache:
    """N vectors of D numbers and what belongs to them. Made by open_cache.

    path, fingerprint, encoder, store_dtype, hidden_size, label_names, label (N,) int32, split_of (N,) uint8 into SPLITS,
    digest (N, 32) uint8, token_count (N,) int32, truncated (N,) bool, sources (N strings).
    """

    def __init__(self, path: Path, file: CacheBytes, header: Header, facts: dict[str, np.ndarray]):
        self.path, self.file, self.header, self.facts = path, file, header, facts
        self.fingerprint, self.encoder, self.store_dtype = header.fingerprint, header.encoder, header.store_dtype
        self.hidden_size, self.label_names = header.hidden_size, header.label_names
        self.label, self.split_of, self.digest = facts["label"], facts["split"], facts["text_digest"]
        self.in_memory: dict[str, object] = {}  # what heads are trained from, by device: read once, kept while the cache is
        self.token_count, self.truncated = facts["token_count"], facts["truncated"].astype(bool)

    def __len__(self) -> int:
        return len(self.label)

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()

    def source(self, row: int) -> str:
        """Where one document is, relative to the corpus."""
        ends = self.facts["source_end"]
        start = int(ends[row - 1]) if row else 0
        return self.facts["source_bytes"][start : int(ends[row])].tobytes().decode("utf-8", "surrogatepass")

    @cached_property
    def sources(self) -> list[str]:
        text, ends = self.facts["source_bytes"].tobytes(), self.facts["source_end"].tolist()
        starts = [0, *ends[:-1]]
        return [text[a:b].decode("utf-8", "surrogatepass") for a, b in zip(starts, ends, strict=True)]

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(X, y) of "train", "val" or "test": vectors (n, D) in the stored dtype, labels (n,) int32 into label_names."""
        return self.vectors(split=name), self.label[self.split_of == split_number(name)]

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {n:,}" for name, n in zip(SPLITS, self._counts(), strict=True))
        return (
            f"<FeatureCache {self.path}: {len(self):,} vectors of {self.hidden_size} ({self.store_dtype}), "
            f"{len(self.label_names)} classes, {counts}>"
        )

    def _repr_html_(self) -> str:
        rows = {"file": self.path, "vectors": f"{len(self):,} x {self.hidden_size}, {self.store_dtype}"}
        rows |= {name: f"{n:,} documents" for name, n in zip(SPLITS, self._counts(), strict=True)}
        rows |= {"classes": ", ".join(map(short, self.label_names[:20])) + (" …" if len(self.label_names) > 20 else "")}
        rows |= {name: short(value) for name, value in self.encoder.items()}
        cells = "".join(f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
        return f"<table>{cells}</table>"

    def _counts(self) -> list[int]:
        return np.bincount(self.split_of, minlength=len(SPLITS)).tolist()

    def vectors(self, rows=None, split: str | None = None, out_dtype=None) -> np.ndarray:
        """The vectors of all documents, of `rows` (numbers in any order, a slice or a mask) or of one split, each page checked.

        -> (n, D) in the stored dtype or `out_dtype`. BadInput naming the pages that do not match their digest.
        """
        if split is not None:
            if rows is not None:
                raise TypeError("vectors are those of rows or of a split, not of both")
            rows = np.flatnonzero(self.split_of == split_number(split))
        stored = self.file.tables["vectors"].dtype
        dtype = np.dtype(out_dtype or stored)
        if dtype.kind != "f":
            raise TypeError(f"vectors are floating-point numbers: {dtype} would cut them off")
        bad: list[int] = []
        if rows is None:
            out = np.empty((len(self), self.hidden_size), dtype)
            every = np.arange(pages_of(len(self)))
            for first, part, wrong in self.file.pages(self.fingerprint, every, out if dtype == stored else None):
                bad += wrong
                if dtype != stored:
                    out[first : first + len(part)] = part
        else:
            rows = row_numbers(rows, len(self))
            out = np.empty((len(rows), self.hidden_size), dtype)
            order = np.argsort(rows, kind="stable")
            ordered, at = rows[order], 0
            for first, part, wrong in self.file.pages(self.fingerprint, np.unique(ordered // PAGE_ROWS)):
                bad += wrong
                stop = int(np.searchsorted(ordered, first + len(part)))
                out[order[at:stop]] = part[ordered[at:stop] - first]
                at = stop
        if bad:
            raise BadInput(
                f"{self.path}: damaged: the vectors of {page_rows(bad, len(self))} do not match their digest; "
                "delete it and extract again"
            )
        return out

    def verify(self) -> list[str]:
        """Read every vector again; one line for each page that does not match its digest."""
        every = np.arange(pages_of(len(self)))
        bad = self.file.bad_pages(self.fingerprint, every)
        return [f"{page_rows([page], len(self))}: vectors do not match their digest" for page in bad]


def open_cache(path: str | Path) -> FeatureCache:
    """Open a finished cache after checking its structure, its fingerprint and all that it holds but the vectors.

    BadInput in one line for a file that is absent, damaged, unfinished or hostile.
    """
    path = Path(path)
    file, header = open_safely(path)
    try:
        facts, faults = read_facts_checked(file, header)
    except BaseException:
        file.close()
        raise
    if faults:
        file.close()
        more = f" and {len(faults) - 1} more faults" if len(faults) > 1 else ""
        raise BadInput(f"{path}: damaged: {faults[0]}{more}; delete it and extract again")
    return FeatureCache(path, file, header, facts)


def verify_cache(path: str | Path) -> list[str]:
    """Everything wrong with a file, one line per fault; empty when it is intact. BadInput where there is none to read."""
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such cache; give the path of an .h5 file")
    try:
        file, header = open_safely(path)
    except BadInput as error:
        return [str(error).removeprefix(f"{path}: ")]
    facts, faults = read_facts_checked(file, header)
    with FeatureCache(path, file, header, facts) as cache:
        faults += cache.verify()
    return faults if len(faults) <= LISTED else [*faults[:LISTED], f"and {len(faults) - LISTED:,} more faults"]


def find_cache(cache_dir: str | Path) -> Path:
    """The only cache in the folder; BadInput with a list to choose from where there are several, or none."""
    found = list_caches(cache_dir)
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInput(f"{cache_dir}: no cache in it; make one with: python extract.py CORPUS")
    raise BadInput(f"{cache_dir}: {len(found)} caches, give one: " + ", ".join(str(path) for path in found))


def list_caches(cache_dir: str | Path) -> list[Path]:
    """The finished caches of a folder by name; none where there is no such folder."""
    try:
        return sorted(path for path in Path(cache_dir).iterdir() if path.suffix == ".h5" and path.is_file())
    except OSError:
        return []


def write_facts(cache_path: str | Path, facts: dict) -> None:
    """Keep what is true of this run only beside the cache, as <cache>.json; replaced in one step."""
    text = json.dumps(facts, ensure_ascii=False, indent=2) + "\n"
    write_text(Path(f"{cache_path}.json"), text, errors="surrogateescape")


def read_facts(cache_path: str | Path) -> dict:
    """What write_facts kept; {} where it is gone or unreadable: no vector depends on it."""
    try:
        facts = json.loads(Path(f"{cache_path}.json").read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
