"""What the digests of a corpus tell for free: copies, leaks between splits, contradicting labels, small classes."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from twostage import SPLITS
from twostage.corpus.splits import TRAIN
from twostage.errors import shown

SMALL_CLASS = 20  # documents in train below which a class is called too small
EXAMPLES = 5


@dataclass(frozen=True)
class Standing:
    """Where one copy of a text stands."""

    source: str
    split: str
    label: str


@dataclass(frozen=True)
class Audit:
    """Counts over the documents of a corpus or a cache; see `audit`.

    duplicates: documents beyond the first of each text. leaks, conflicts: distinct texts in more than one split, under
    more than one label; the examples list every copy of a text. leak_splits: how many of the leaking texts stand in
    exactly these splits. small_classes: (name, documents in train) below SMALL_CLASS;
    absent: split -> names of the classes without a document in it. truncated: documents cut, None when unknown.
    """

    documents: int
    classes: int
    duplicates: int
    leaks: int
    conflicts: int
    leak_splits: dict[tuple[str, ...], int] = field(default_factory=dict)
    leak_examples: list[list[Standing]] = field(default_factory=list)
    conflict_examples: list[list[Standing]] = field(default_factory=list)
    small_classes: list[tuple[str, int]] = field(default_factory=list)
    absent: dict[str, list[str]] = field(default_factory=dict)
    truncated: int | None = None

    @property
    def truncated_share(self) -> float | None:
        return None if self.truncated is None else self.truncated / max(self.documents, 1)

    def lines(self) -> list[str]:
        """Return the findings as sentences; what was not found is not mentioned."""
        said = []
        if self.duplicates:
            said.append(f"{_count(self.duplicates, 'duplicate')}: documents whose text occurs earlier in the corpus")
        if self.leaks:
            said.append(f"leak: {_places(self.leak_splits)}; e.g. {_example(self.leak_examples, 'split')}")
        if self.conflicts:
            said.append(
                f"conflict: {_count(self.conflicts, 'text')} under more than one label; "
                f"e.g. {_example(self.conflict_examples, 'label')}"
            )
        small = [f"{name} ({n})" for name, n in self.small_classes]
        if small:
            said.append(f"fewer than {SMALL_CLASS} documents in train: {_some(small)}")
        for split, names in self.absent.items():
            everything = len(names) == self.classes
            said.append(f"{split} is empty" if everything else f"without a document in {split}: {_some(names)}")
        if self.truncated:
            said.append(f"{_count(self.truncated, 'document')} truncated ({self.truncated_share:.1%})")
        return said


def audit(digest, label, split, sources, label_names, *, truncated=None) -> Audit:
    """Audit documents by digest (N, 32) uint8, label (N,), split (N,) uint8, sources (N strings) and truncated (N,).

    Needs no text, so a cache alone is enough; 836,074 documents take about a second.
    """
    label, split = np.asarray(label), np.asarray(split)
    order, group = _groups(digest)
    several_splits = _mixed(split[order], group)
    several_labels = _mixed(label[order], group)
    leaking = _members(order, group, several_splits)
    contradicting = _members(order, group, several_labels)

    def standing(rows):
        return [Standing(str(sources[r]), SPLITS[split[r]], label_names[label[r]]) for r in rows]

    return Audit(
        documents=len(label),
        classes=len(label_names),
        duplicates=len(label) - int(group[-1] + 1 if len(group) else 0),
        leaks=len(leaking),
        conflicts=len(contradicting),
        leak_splits=_tally([SPLITS[s] for s in np.unique(split[rows])] for rows in leaking),
        leak_examples=[standing(rows) for rows in leaking[:EXAMPLES]],
        conflict_examples=[standing(rows) for rows in contradicting[:EXAMPLES]],
        small_classes=small_classes(label, split, label_names),
        absent={s: names for s in SPLITS if (names := absent_classes(label, split, label_names, s))},
        truncated=None if truncated is None else int(np.count_nonzero(truncated)),
    )


def small_classes(label, split, label_names, fewer_than: int = SMALL_CLASS) -> list[tuple[str, int]]:
    """Return (name, documents in train) of the classes that have some, but fewer than `fewer_than`."""
    counts = np.bincount(np.asarray(label)[np.asarray(split) == TRAIN], minlength=len(label_names))
    return [(label_names[c], int(n)) for c, n in enumerate(counts) if 0 < n < fewer_than]


def absent_classes(label, split, label_names, name: str = "train") -> list[str]:
    """Return the classes without a document in a split: what train lacks, no head can learn."""
    here = np.asarray(label)[np.asarray(split) == SPLITS.index(name)]
    counts = np.bincount(here, minlength=len(label_names))
    return [label_names[c] for c in np.flatnonzero(counts == 0)]


def _groups(digest):
    """Return an order (N,) that puts equal digests together, oldest first, and the group number of each place."""
    columns = np.ascontiguousarray(digest, dtype=np.uint8).view("<u8")  # (N, 4)
    order = np.lexsort(columns.T)
    ordered = columns[order]
    return order, np.concatenate(([0], np.cumsum((ordered[1:] != ordered[:-1]).any(axis=1))))[: len(order)]


def _mixed(values, group):
    """Return the numbers of the groups in which neighbours differ."""
    return np.unique(group[1:][(group[1:] == group[:-1]) & (values[1:] != values[:-1])])


def _members(order, group, numbers):
    """Return the rows of each group, groups by their first row in the corpus."""
    first, last = np.searchsorted(group, numbers), np.searchsorted(group, numbers, side="right")
    return sorted((order[a:b].tolist() for a, b in zip(first, last, strict=True)), key=lambda rows: rows[0])


def _tally(places):
    return dict(Counter(tuple(p) for p in places).most_common())


def _count(n, noun):
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _places(tally):
    """Say how many texts stand in which splits: "36 texts in train and val, 2 in train and test"."""
    first, *rest = [(n, " and ".join(names)) for names, n in tally.items()]
    return ", ".join([f"{_count(first[0], 'text')} in {first[1]}", *(f"{n:,} in {names}" for n, names in rest)])


def _example(examples, what):
    """Say the first example by one copy of each split or label."""
    one_each = {getattr(copy, what): copy.source for copy in reversed(examples[0])}
    return ", ".join(f"{source!r} in {name}" for name, source in reversed(one_each.items()))


def _some(names, at_most=10):
    more = f" and {len(names) - at_most:,} more" if len(names) > at_most else ""
    return ", ".join(map(shown, names[:at_most])) + more
