"""Test documents that have a double in train, or nearly one, found by their vectors and confirmed by their words.

First the free steps: equal texts, then equal stored vectors of texts that differ (after truncation or [UNK]). Then the nearest
document of train for each of test by centred cosine: raw [CLS] cosines crowd near 1, so that the distance which counts as near
is relative to the median distance of a nearest neighbour. Where the corpus is at hand, common 5-grams of characters decide, and the
distance only says which pairs are worth reading.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from twostage import metrics
from twostage.files import write_csv
from twostage.heads.data import HeadData
from twostage.progress import Progress, text_table

NEAR = 0.13  # of the median distance: near by the vectors alone
WORTH_READING = 0.5  # of the median distance
OVERLAP = 0.5  # of the 5-grams of the shorter text
GRAM = 5
BLOCK = 4096  # documents on either side of a product
SHOWN = 20
COLUMNS = ("kind", "distance", "overlap", "source", "label", "train_source", "train_label", "digest", "train_digest")


@torch.no_grad()
def nearest(data: HeadData) -> tuple[np.ndarray, np.ndarray]:
    """(M,) the row in train nearest to each test document, and the distance, 1 - cosine of vectors less train's mean."""
    total = torch.zeros(data.hidden, dtype=torch.float64, device=data.device)
    for rows in data.train.split(BLOCK):
        total += data.vectors[rows].double().sum(0)
    mean = (total / len(data.train)).float()

    def unit(rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(data.vectors[rows].float() - mean, dim=1)

    best = torch.full((len(data.test),), -2.0, device=data.device)
    at = torch.zeros(len(data.test), dtype=torch.int64, device=data.device)
    tests = [unit(rows) for rows in data.test.split(BLOCK)]
    with Progress(len(data.train), "documents of train", "near-duplicates") as progress:
        for rows in data.train.split(BLOCK):
            train = unit(rows).t()
            for number, test in enumerate(tests):
                here = slice(number * BLOCK, number * BLOCK + len(test))
                found, where = (test @ train).max(1)
                better = found > best[here]
                at[here] = torch.where(better, rows[where], at[here])
                best[here] = torch.where(better, found, best[here])
            progress.advance(len(rows))
    return at.cpu().numpy(), (1 - best).clamp(min=0).cpu().numpy()


def equal_rows(data: HeadData, keys: np.ndarray) -> np.ndarray:
    """(M,) a row in train with the same key, for each test document; -1 where there is none. keys (N, bytes) uint8."""
    keys = np.ascontiguousarray(keys).view(f"V{keys.shape[1]}").ravel()
    test = [keys[row].tobytes() for row in data.test.cpu().numpy()]
    found = dict.fromkeys(test, -1)
    for row in data.train.cpu().numpy().tolist():
        if found.get(key := keys[row].tobytes(), row) < 0:
            found[key] = row
    return np.array([found[key] for key in test])


def grams(text: str) -> set[str]:
    """The 5-grams of a text's characters, without regard to case and white space."""
    text = "".join(text.lower().split())
    return {text[i : i + GRAM] for i in range(max(1, len(text) - GRAM + 1))}


def overlap(a: str, b: str) -> float:
    """The share of the shorter text's 5-grams that the other has too."""
    first, second = grams(a), grams(b)
    return len(first & second) / min(len(first), len(second))


def find_near_duplicates(data: HeadData, run: Path, texts: Callable[[np.ndarray], list[str | None]]) -> dict:
    """Match test with train and write <run>/near_duplicates.csv. Gives what run.json keeps under `near_duplicates`.

    `run` is the folder of a run on this cache, whose accuracy is given without the leaking documents too; texts(rows) reads
    documents again, None where they are not at hand.
    """
    test = data.test.cpu().numpy()
    same_text = equal_rows(data, data.cache.digest)
    stored = data.vectors.cpu().numpy()
    same_vector = equal_rows(data, np.ascontiguousarray(stored).view(np.uint8).reshape(len(stored), -1))
    at, distance = nearest(data)
    apart = distance[(same_text < 0) & (same_vector < 0)]
    median = float(np.median(apart)) if len(apart) else 0.0
    match = np.where(same_text >= 0, same_text, np.where(same_vector >= 0, same_vector, at))
    distance = np.where((same_text >= 0) | (same_vector >= 0), 0, distance)
    kind = np.where(same_text >= 0, "same text", np.where(same_vector >= 0, "same vector", ""))
    near = np.flatnonzero((kind == "") & (distance <= WORTH_READING * median))
    share, compared = np.full(len(test), np.nan), True
    if len(near):
        pairs = zip(texts(test[near]), texts(match[near]), strict=True)
        share[near] = [np.nan if a is None or b is None else overlap(a, b) for a, b in pairs]
        compared = not np.isnan(share[near]).all()
    by_vector = np.where(distance[near] <= NEAR * median, "near", "")
    kind[near] = np.where(np.isnan(share[near]), by_vector, np.where(share[near] >= OVERLAP, "near", "other words"))
    leaks = np.flatnonzero((kind != "") & (kind != "other words"))
    leaks = leaks[np.argsort(distance[leaks], kind="stable")]
    found = [_entry(data, int(test[i]), int(match[i]), str(kind[i]), float(distance[i]), float(share[i])) for i in leaks]
    names = data.label_names
    rows = (one | {"label": names[one["label"]], "train_label": names[one["train_label"]]} for one in found)
    write_csv(run / "near_duplicates.csv", COLUMNS, rows)
    told = [one for one in found if one["kind"] != "same text"] or found  # what the digests had not told already
    return {
        "median_distance": median,
        "threshold": (WORTH_READING if compared else NEAR) * median,
        "texts_compared": bool(compared),
        "overlap": OVERLAP,
        **{f"n_{name.replace(' ', '_')}": int((kind == name).sum()) for name in ("same text", "same vector", "near")},
        "n_rejected": int((kind == "other words").sum()),
        "n_other_label": sum(one["label"] != one["train_label"] for one in found),
        **_without(run, leaks),
        "first": told[:SHOWN],
    }


def _entry(data: HeadData, row: int, train: int, kind: str, distance: float, share: float) -> dict:
    cache = data.cache
    return {
        "kind": kind,
        "source": cache.source(row),
        "digest": cache.digest[row].tobytes().hex(),
        "label": int(cache.label[row]),
        "train_source": cache.source(train),
        "train_digest": cache.digest[train].tobytes().hex(),
        "train_label": int(cache.label[train]),
        "distance": round(distance, 6),
        "overlap": None if np.isnan(share) else round(share, 4),
    }


def _without(run: Path, leaks: np.ndarray) -> dict:
    """The accuracy of a run on the test documents that do not leak."""
    with np.load(run / "predictions.npz") as saved:
        right = np.delete(saved["predicted"] == saved["label"], leaks)
    n = len(right)
    accuracy = float(right.mean()) if n else None
    interval = list(metrics.wilson(int(right.sum()), n)) if n else None
    return {"n_test_without": n, "test_accuracy_without": accuracy, "test_accuracy_without_ci95": interval}


def near_duplicates_text(found: dict, record: dict, run: Path) -> str:
    """The nearest twenty, and the accuracy of the run that holds them with and without."""
    names, n_test = record["label_names"], record["n_test"]
    leaks = n_test - found["n_test_without"]
    confirmed = (
        f"half of their {GRAM}-grams in common; {found['n_rejected']:,} more have other words"
        if found["texts_compared"]
        else "not confirmed, since the corpus is not available"
    )
    lines = [
        f"test documents with a double in train: {found['n_same_text']:,} with the same text, {found['n_same_vector']:,} more with "
        f"the same vector, {found['n_near']:,} near ({confirmed})"
    ]
    if found["first"]:
        head = ("", "test document", "label", "in train", "label there", "distance", "common 5-grams")
        rows = [
            (one["kind"], one["source"], names[one["label"]], one["train_source"], names[one["train_label"]],
             f"{one['distance']:.4f}", "" if one["overlap"] is None else f"{one['overlap']:.0%}")
            for one in found["first"]
        ]  # fmt: skip
        lines += text_table(head, rows, right=("distance", "common 5-grams"))
        lines.append(f"all {leaks:,} are in {run / 'near_duplicates.csv'}")
    if leaks and found["n_test_without"]:
        low, high = found["test_accuracy_without_ci95"]
        lines.append(
            f"{record['name']}: test accuracy {record['test_accuracy']:.3f} with them, {found['test_accuracy_without']:.3f} "
            f"({low:.3f}-{high:.3f}) without, on {found['n_test_without']:,} documents"
        )
    return "\n".join(lines)
