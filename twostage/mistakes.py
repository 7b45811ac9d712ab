"""What a run got wrong, and what the digests in the cache tell of the data: confident errors with their text, confused
pairs, copies and leaks, truncated documents.

predictions.npz knows documents by the digest of their text. The cache knows the source of each digest, and the facts beside
the cache know where the corpus lay; what has changed or moved since is said, and no text is shown that does not match its digest.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from twostage.audit import audit
from twostage.errors import BadInput
from twostage.feature_cache import FeatureCache, open_cache, read_facts
from twostage.report_runs import Group, RunView
from twostage.splits import SPLITS

SHOWN = 12  # confident errors, and pairs
LONG = 220  # characters of a text


@dataclass
class Mistake:
    """A test document that was taken for another class. `text` is None where it cannot be read again."""

    label: str
    predicted: str
    probability: float
    digest: str
    source: str | None = None
    text: str | None = None


@dataclass
class Findings:
    """Of a group's best run. pairs: (class, taken for, documents, share of the class). parts: (what, documents, accuracy)
    for truncated and whole test documents. audit: sentences. notes: what could not be read, and why."""

    mistakes: list[Mistake]
    pairs: list[tuple[str, str, int, float]]
    parts: list[tuple[str, int, float]] = field(default_factory=list)
    audit: list[str] | None = None
    notes: list[str] = field(default_factory=list)


class Sources:
    """The sources of a cache, decoded one at a time."""

    def __init__(self, cache: FeatureCache):
        self.bytes, self.ends = cache.facts["source_bytes"], cache.facts["source_end"]

    def __getitem__(self, row: int) -> str:
        start = int(self.ends[row - 1]) if row else 0
        return self.bytes[start : int(self.ends[row])].tobytes().decode("utf-8", "replace")


def findings_of(group: Group, runs_dir: Path) -> Findings:
    """Gather what is known of the mistakes of the group's best run, and of the data that all its runs share."""
    run, names = group.best, group.label_names
    found = Findings([], _pairs(np.array(run.record["confusion"]), names))
    if run.predictions is None:
        found.notes.append(f"{run.name}/predictions.npz is missing or damaged: its errors cannot be listed.")
    else:
        p = run.predictions
        sure = p["probabilities"][np.arange(len(p["label"])), p["predicted"]]
        wrong = np.flatnonzero(p["label"] != p["predicted"])
        wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:SHOWN]
        found.mistakes = [
            Mistake(names[p["label"][i]], names[p["predicted"][i]], float(sure[i]), p["digest"][i].tobytes().hex())
            for i in wrong
        ]
    cache, path = _cache_of(group, runs_dir, found)
    if cache is None:
        return found
    with cache:
        found.audit = _audit(cache, runs_dir)
        if run.predictions is not None:
            rows = _rows(cache, run)
            _place(found, cache, rows, wrong)
            if (rows >= 0).any():
                _read_texts(found, run, path)
                cut, right = cache.truncated[rows[rows >= 0]], (p["label"] == p["predicted"])[rows >= 0]
                for what, mask in (("truncated", cut), ("whole", ~cut)):
                    if mask.any():
                        found.parts.append((what, int(mask.sum()), float(right[mask].mean())))
    return found


def _pairs(counts: np.ndarray, names: list[str]) -> list[tuple[str, str, int, float]]:
    off = counts.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:SHOWN]
    pairs = [divmod(int(i), len(names)) for i in order]
    return [(names[i], names[j], int(off[i, j]), off[i, j] / counts[i].sum()) for i, j in pairs if off[i, j]]


def _cache_of(group: Group, runs_dir: Path, found: Findings) -> tuple[FeatureCache | None, Path | None]:
    """The first cache of the group's runs that is still there, newest run first; a note where none is."""
    missing = None
    for run in reversed(group.complete):
        fingerprint = run.record.get("fingerprint")
        if not isinstance(fingerprint, str):
            continue
        for path in _candidates(run, fingerprint, runs_dir):
            try:
                cache = open_cache(path)
            except BadInput:
                continue
            if cache.fingerprint == fingerprint:
                return cache, path
            cache.close()
        missing = missing or run.record.get("cache") or f"…-{fingerprint[:8]}.h5"
    found.notes.append(
        f"The feature cache ({missing}) is not where it was, and only it knows the source of each document: errors are "
        "listed by digest, and the data cannot be audited."
        if missing
        else "No run here names a feature cache, which knows the source of each document: errors are listed by digest."
    )
    return None, None


def _candidates(run: RunView, fingerprint: str, runs_dir: Path) -> list[Path]:
    """Where the run saw its cache; then a cache folder beside the runs."""
    said = run.record.get("cache")
    paths = [Path(said), runs_dir.parent / said] if isinstance(said, str) and "\0" not in said else []
    hexadecimal = fingerprint[:8] if fingerprint[:8].isalnum() else "?"
    for folder in (Path("cache"), runs_dir.parent / "cache"):
        paths += sorted(folder.glob(f"*-{hexadecimal}.h5"))
    return [p for p in dict.fromkeys(paths) if p.is_file()]


def _rows(cache: FeatureCache, run: RunView) -> np.ndarray:
    """The cache's row of each test document of the run, (M,), -1 where it has none of that text and label in test."""
    here = np.flatnonzero(cache.split == SPLITS.index("test"))
    keys = _keys(cache.digest[here], cache.label[here])
    order = np.argsort(keys, kind="stable")
    wanted = _keys(run.predictions["digest"], run.predictions["label"])
    at = np.minimum(np.searchsorted(keys[order], wanted), max(len(here) - 1, 0))
    return np.where(keys[order][at] == wanted, here[order][at], -1) if len(here) else np.full(len(wanted), -1)


def _keys(digest: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(N,) strings that numpy compares whole: digest, label, and a last byte that is never zero."""
    rows = [
        digest,
        np.ascontiguousarray(label, "<i4").view(np.uint8).reshape(-1, 4),
        np.ones((len(label), 1), np.uint8),
    ]
    return np.ascontiguousarray(np.concatenate(rows, axis=1)).view("S37").ravel()


def _place(found: Findings, cache: FeatureCache, rows: np.ndarray, wrong: np.ndarray) -> None:
    sources = Sources(cache)
    for mistake, i in zip(found.mistakes, wrong, strict=True):
        if rows[i] >= 0:
            mistake.source = sources[int(rows[i])]


def _read_texts(found: Findings, run: RunView, cache_path: Path) -> None:
    """Read the texts of the mistakes from the corpus again, as far as it still holds them."""
    from twostage.corpus import texts_of

    facts, known = read_facts(cache_path), [m for m in found.mistakes if m.source is not None]
    corpus = next((c for c in (facts.get("corpus"), run.record.get("corpus")) if isinstance(c, str)), None)
    if not known:
        return
    if corpus is None or "\0" in corpus or not os.path.exists(corpus):
        found.notes.append(f"The corpus ({corpus or 'its path is not known'}) is not there now: texts cannot be shown.")
        return
    digests = np.array([list(bytes.fromhex(m.digest)) for m in known], np.uint8)
    encoding = facts.get("encoding") if isinstance(facts.get("encoding"), str) else "utf-8-sig"
    for mistake, text in zip(known, texts_of(corpus, [m.source for m in known], digests, encoding), strict=True):
        mistake.text = text
    gone = sum(m.text is None for m in known)
    if gone:
        found.notes.append(
            f"{gone} of these documents changed or moved in {corpus} since they were encoded: no text is shown for them."
        )


def _audit(cache: FeatureCache, runs_dir: Path) -> list[str]:
    """The audit's sentences, kept in <runs_dir>/.audit.json by fingerprint: a second's work for 836,074 documents."""
    memo = runs_dir / ".audit.json"
    try:
        known = json.loads(memo.read_text(encoding="utf-8"))
        lines = known[cache.fingerprint]
        if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
            return lines
    except (OSError, ValueError, KeyError, TypeError):
        known = {}
    lines = audit(
        cache.digest, cache.label, cache.split, Sources(cache), cache.label_names, truncated=cache.truncated
    ).lines()
    known = {**(known if isinstance(known, dict) else {}), cache.fingerprint: lines}
    partial = memo.with_name(memo.name + ".partial")
    partial.write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8", errors="replace")
    os.replace(partial, memo)
    return lines
