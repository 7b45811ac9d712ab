"""Figures of merit. Labels and predictions are integer arrays of shape (N,); accuracies are 0 to 1."""

from math import log, sqrt

import numpy as np


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts of shape (C, C): row = true class, column = predicted class."""
    return np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Class weights n / (C * count) of a loss, (C,) float32; 0 for a class without documents."""
    count = np.bincount(labels, minlength=classes).astype(float)
    return np.where(count > 0, len(labels) / (classes * np.maximum(count, 1)), 0).astype(np.float32)


def per_class(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, f1 and support of each class, each of shape (C,), from a confusion matrix; 0 where undefined."""
    right = np.diag(counts).astype(float)
    predicted, support = counts.sum(0), counts.sum(1)
    precision = right / np.maximum(predicted, 1)
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(predicted + support, 1)
    return {"precision": precision, "recall": recall, "f1": f1, "support": support}


def macro_f1(counts: np.ndarray) -> float:
    """Mean f1 over the classes that occur, in the labels or in the predictions, as scikit-learn's f1_score(average="macro")."""
    occurs = (counts.sum(0) + counts.sum(1)) > 0
    return float(per_class(counts)["f1"][occurs].mean()) if occurs.any() else 0.0


def wilson(right: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """95 % interval of a proportion right/n (Wilson 1927): it holds near 0 and 1 and for small n, where the usual one fails."""
    if n == 0:
        return 0.0, 1.0
    p = right / n
    middle = p + z * z / (2 * n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return max(0.0, min(low, p)), min(1.0, max(high, p))


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> float:
    """p-value of the exact McNemar test: could chance alone make two classifiers differ this much on the same documents?

    Both arrays are boolean of shape (N,). Only the documents that one has right and the other wrong count; under chance
    each falls to either side with probability 1/2 (binomial, two-sided).
    """
    first_only = int((first_right & ~second_right).sum())
    second_only = int((second_right & ~first_right).sum())
    n, k = first_only + second_only, min(first_only, second_only)
    if n == 0:
        return 1.0
    i = np.arange(k)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log((n - i) / (i + 1)))])  # of n over 0..k
    return float(min(1.0, 2 * np.exp(log_choose - n * log(2)).sum()))
