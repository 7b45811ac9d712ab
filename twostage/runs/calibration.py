"""How far probabilities can be trusted: one temperature fitted on val, and what it does to those on test.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017: softmax(z / T) for logits z. The most
probable class stays the same. Val has chosen the epoch too, so T errs a little towards confidence.
"""

import numpy as np

BINS = 15
SHARES = tuple(round(1 - 0.05 * i, 2) for i in range(20))  # of the test documents that get an answer
COLDEST, HOTTEST = 0.05, 20.0  # of T: where val is all right or all wrong there is no optimum


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(N, C) -> (N, C) float64."""
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def nll(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean negative log likelihood of the labels (N,) under softmax(logits / T)."""
    return float(-log_softmax(np.asarray(logits, np.float64) / temperature)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T of least negative log likelihood for logits (N, C); convex in 1 / T, found by halving its logarithm's range."""
    logits, rows = np.asarray(logits, np.float64), np.arange(len(labels))
    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    for _ in range(50):
        middle = (low + high) / 2
        p = np.exp(log_softmax(logits * np.exp(middle)))
        slope = ((p * logits).sum(1) - logits[rows, labels]).mean()  # d nll / d (1 / T)
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> list[dict]:
    """15 bins of equal width over the top probability: low, high, n, mean confidence and accuracy (None where n is 0)."""
    top, right = probabilities.max(1), probabilities.argmax(1) == labels
    at = np.minimum((top * BINS).astype(int), BINS - 1)
    found = []
    for i in range(BINS):
        mine = at == i
        n = int(mine.sum())
        means = {"confidence": float(top[mine].mean()), "accuracy": float(right[mine].mean())} if n else {}
        found.append({"low": i / BINS, "high": (i + 1) / BINS, "n": n, "confidence": None, "accuracy": None, **means})
    return found


def expected_calibration_error(bins: list[dict]) -> float:
    """The mean gap between confidence and accuracy over the documents of all bins."""
    total = sum(one["n"] for one in bins)
    return sum(one["n"] * abs(one["confidence"] - one["accuracy"]) for one in bins if one["n"]) / max(total, 1)


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over documents of the squared distance between (C,) probabilities and the true class, summed over classes: 0 to 2."""
    own = probabilities[np.arange(len(labels)), labels]
    return float((np.square(probabilities).sum(1) - 2 * own + 1).mean())


def coverage(probabilities: np.ndarray, labels: np.ndarray) -> list[dict]:
    """What is left where less probable answers are withheld: share of documents kept, from which probability, accuracy."""
    top, right = probabilities.max(1), probabilities.argmax(1) == labels
    order = np.argsort(-top, kind="stable")
    so_far = np.cumsum(right[order])
    found = []
    for share in SHARES:
        n = max(1, round(share * len(labels)))
        found.append({"share": share, "probability": float(top[order[n - 1]]), "accuracy": float(so_far[n - 1] / n)})
    return found


def calibrate(val_logits, val_labels, test_logits, test_labels) -> dict:
    """What run.json keeps under `calibration`, from logits (or log probabilities) and labels of val and test."""
    t = fit_temperature(val_logits, val_labels)
    before, after = (np.exp(log_softmax(np.asarray(test_logits, np.float64) / one)) for one in (1.0, t))
    bins = {"before": reliability(before, test_labels), "after": reliability(after, test_labels)}
    return {
        "temperature": t,
        "n_val": len(val_labels),
        "val_nll": [nll(val_logits, val_labels), nll(val_logits, val_labels, t)],
        "ece": [expected_calibration_error(bins[when]) for when in ("before", "after")],
        "brier": [brier(one, test_labels) for one in (before, after)],
        "bins": bins,
        "coverage": coverage(after, test_labels),
    }
