"""The documents behind a group of runs: found again through the feature cache that a run names, or through its corpus."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twostage import SPLITS
from twostage.cache.reader import FeatureCache, open_cache, read_facts
from twostage.corpus.audit import audit
from twostage.errors import BadInput
from twostage.files import write_text
from twostage.report.words import seconds as duration
from twostage.runs.groups import Group
from twostage.runs.views import RunView, pair_keys


@dataclass(frozen=True)
class VectorCost:
    """What the vectors of a cache took: seconds, and how many of its documents were lent by other caches or had been
    encoded before an interruption (None: unknown)."""

    seconds: float
    documents: int | None = None
    encoded: int | None = None
    lent: int | None = None
    before: int | None = None

    @property
    def whole(self) -> bool:
        """Whether the seconds are those of all vectors."""
        return not self.lent and not self.before

    @property
    def said(self) -> str:
        took = f"took {duration(self.seconds)}"
        if self.lent and not self.encoded:
            return "The vectors that all heads share came from an earlier cache."
        if self.lent:
            return f"Of the vectors that all heads share, {self.lent:,} came from an earlier cache; the others {took}."
        if self.before:
            return f"The vectors that all heads share were extracted in several goes; the last {took}."
        return f"The vectors that all heads share {took}, once."


@dataclass
class KnownDocuments:
    """The documents of a cache. corpus is its path as it was, None when unknown; reading: the arguments with which its texts
    are read again; extraction is what its vectors took, None when unknown."""

    cache: FeatureCache
    corpus: str | None
    reading: dict
    extraction: VectorCost | None = None

    def rows_of(self, run: RunView) -> np.ndarray:
        """The row of each test document of a run, (M,), -1 where test holds none of that text and label."""
        here = np.flatnonzero(self.cache.split_of == SPLITS.index("test"))
        if not len(here):
            return np.full(len(run.predictions["label"]), -1)
        keys = pair_keys(self.cache.digest[here], self.cache.label[here])
        order = np.argsort(keys, kind="stable")
        wanted = pair_keys(run.predictions["digest"], run.predictions["label"])
        at = np.minimum(np.searchsorted(keys[order], wanted), len(here) - 1)
        return np.where(keys[order][at] == wanted, here[order][at], -1)

    def audit(self, runs_dir: Path) -> list[str]:
        """The audit's sentences, kept in <runs_dir>/.audit.json: they take a second for 836,074 documents."""
        memo, known = runs_dir / ".audit.json", {}
        try:
            known = json.loads(memo.read_text(encoding="utf-8"))
            lines = known[self.cache.fingerprint]
            if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
                return lines
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            pass
        held = self.cache
        lines = audit(held.digest, held.label, held.split_of, held.sources, held.label_names, truncated=held.truncated).lines()
        known = {**(known if isinstance(known, dict) else {}), held.fingerprint: lines}
        write_text(memo, json.dumps(known))
        return lines


def documents_of(group: Group, runs_dir: Path) -> tuple[KnownDocuments | None, str]:
    """The documents of a group, or None and why they are not known. The newest run whose cache is still there decides."""
    missing = None
    for run in reversed(group.complete):
        fingerprint = run.record.get("fingerprint")
        for path in _caches(run, fingerprint, runs_dir) if isinstance(fingerprint, str) else []:
            try:
                cache = open_cache(path)
            except BadInput:
                continue
            with cache:
                if cache.fingerprint == fingerprint:
                    facts = read_facts(path)
                    return KnownDocuments(cache, *corpus_of(run, facts), _extraction(facts)), ""
        missing = missing or (_cache_path(run) if isinstance(fingerprint, str) else None)
    if missing is None:
        return None, "No run here names a feature cache, and only that knows all documents: the data is not audited."
    return None, f"The feature cache {missing} is no longer there: the data is not audited."


def _extraction(facts: dict) -> VectorCost | None:
    seconds, counts = (facts.get(key) if isinstance(facts.get(key), dict) else {} for key in ("seconds", "documents"))
    total = seconds.get("total")
    known = [counts.get(key) for key in ("all", "encoded", "lent_by_caches", "committed_before")]
    known = [n if isinstance(n, int) else None for n in known]
    return VectorCost(total, *known) if isinstance(total, int | float) else None


def corpus_of(run: RunView, facts: dict | None = None) -> tuple[str | None, dict]:
    """Where the corpus lay, as far as a run or the facts beside its cache know, and how its texts are read: the encoding of
    its files, the columns that were named."""
    tuned, cached = (run.record.get(key) if isinstance(run.record.get(key), dict) else {} for key in ("corpus", "cache"))
    told = [facts or {}, cached, tuned]
    places = [*(one.get("corpus") for one in told), tuned.get("path")]
    corpus = next((one for one in places if isinstance(one, str) and one and "\0" not in one), None)
    encoding = next((one.get("encoding") for one in told if isinstance(one.get("encoding"), str)), "utf-8-sig")
    named = next((one.get("columns") for one in told if isinstance(one.get("columns"), dict)), {})
    text = [name for name in (named["text"] if isinstance(named.get("text"), list) else []) if isinstance(name, str)]
    label, split = (named.get(key) if isinstance(named.get(key), str) else None for key in ("label", "split"))
    return corpus, {"encoding": encoding, "text": text, "label": label, "split": split}


def texts_again(
    run: RunView, documents: KnownDocuments | None, wanted: list[tuple[str, str]]
) -> tuple[list[str | None] | None, str | None]:
    """Texts by (source, digest in hexadecimal), read from the corpus of a run, and where that is. None for a text that changed,
    moved or is gone; for all of them where the corpus is."""
    from twostage.corpus.again import texts_of

    corpus, reading = corpus_of(run) if documents is None else (documents.corpus, documents.reading)
    if corpus is None or not Path(corpus).exists():
        return None, corpus
    sources, digests = zip(*wanted, strict=True) if wanted else ((), ())
    return texts_of(corpus, sources, [np.frombuffer(bytes.fromhex(one), np.uint8) for one in digests], **reading), corpus


def _cache_path(run: RunView) -> str | None:
    told = run.record.get("cache")
    path = told.get("path") if isinstance(told, dict) else told
    return path if isinstance(path, str) and path and "\0" not in path else None


def _caches(run: RunView, fingerprint: str, runs_dir: Path) -> list[Path]:
    """Where the run saw its cache; then a cache folder here or beside the runs, by the name that extraction gives."""
    said = _cache_path(run)
    paths = [Path(said), runs_dir.parent / said] if said else []
    if fingerprint[:8].isalnum():
        for folder in (Path("cache"), runs_dir.parent / "cache"):
            paths += sorted(folder.glob(f"*-{fingerprint[:8]}.h5"))
    return [path for path in dict.fromkeys(paths) if path.is_file()]
