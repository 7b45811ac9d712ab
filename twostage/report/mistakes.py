"""What the best run of a group got wrong, and what the digests tell of the data: confident errors with their text, confused
pairs, copies and leaks, truncated documents.

predictions.npz knows documents by the digest of their text. No text is shown that does not match its digest.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from twostage.report.documents import KnownDocuments, texts_again
from twostage.runs.groups import Group
from twostage.runs.views import RunView

SHOWN = 12  # confident errors, and pairs


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
class MistakeFindings:
    """pairs: (class, taken for, documents, share of the class). parts: (what, documents, accuracy) for truncated and whole
    test documents. audit: sentences, None without the documents. notes: what could not be read, and why."""

    mistakes: list[Mistake]
    pairs: list[tuple[str, str, int, float]]
    parts: list[tuple[str, int, float]] = field(default_factory=list)
    audit: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def findings_of(group: Group, documents: KnownDocuments | None, why_not: str, runs_dir: Path) -> MistakeFindings:
    """Gather the mistakes of the group's best run; `documents` are those of documents_of, or None and the reason."""
    run, names = group.best, group.label_names
    found = MistakeFindings([], _pairs(np.array(run.record["confusion"]), names))
    if documents is None:
        found.notes.append(why_not)
    else:
        found.audit = documents.audit(runs_dir)
    if run.predictions is None:
        found.notes.append(f"{run.name}/predictions.npz is missing or damaged: its errors cannot be listed.")
        return found
    p = run.predictions
    right = p["label"] == p["predicted"]
    sure = p["probabilities"][np.arange(len(right)), p["predicted"]]
    wrong = np.flatnonzero(~right)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:SHOWN]
    found.mistakes = [
        Mistake(names[p["label"][i]], names[p["predicted"][i]], float(sure[i]), p["digest"][i].tobytes().hex()) for i in wrong
    ]
    rows = None if documents is None else documents.rows_of(run)
    _read_texts(found, run, wrong, documents, rows)
    if documents is not None:
        cut = documents.cache.truncated[rows]
        for what, mask in (("truncated", cut & (rows >= 0)), ("whole", ~cut & (rows >= 0))):
            if mask.any():
                found.parts.append((what, int(mask.sum()), float(right[mask].mean())))
    return found


def _pairs(counts: np.ndarray, names: list[str]) -> list[tuple[str, str, int, float]]:
    off = counts.copy()
    np.fill_diagonal(off, 0)
    pairs = [divmod(int(i), len(names)) for i in np.argsort(-off, axis=None, kind="stable")[:SHOWN]]
    return [(names[i], names[j], int(off[i, j]), off[i, j] / counts[i].sum()) for i, j in pairs if off[i, j]]


def _read_texts(found: MistakeFindings, run: RunView, wrong: np.ndarray, documents: KnownDocuments | None, rows) -> None:
    """Fill in sources, and texts as far as the corpus still holds them. `rows` (M,) are those of `documents`."""
    told = run.predictions.get("source")  # (M,) UTF-8; older runs lack it
    for mistake, i in zip(found.mistakes, wrong, strict=True):
        if told is not None:
            mistake.source = told[i].decode("utf-8", "replace")
        elif documents is not None and rows[i] >= 0:
            mistake.source = documents.cache.source(int(rows[i]))
    known = [mistake for mistake in found.mistakes if mistake.source is not None]
    if not known:
        found.notes += ["Where these documents come from is not known here: they are listed by digest."] if len(wrong) else []
        return
    texts, corpus = texts_again(run, documents, [(mistake.source, mistake.digest) for mistake in known])
    if texts is None:
        found.notes.append(f"The corpus ({corpus or 'its path is not known'}) is no longer there: texts cannot be shown.")
        return
    for mistake, text in zip(known, texts, strict=True):
        mistake.text = text
    gone = sum(mistake.text is None for mistake in known)
    if gone:
        found.notes.append(f"{gone} of these documents changed or moved in {corpus} since the run: their text is not shown.")
