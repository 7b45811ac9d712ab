"""How a run did on test: the figures for its run.json, and predictions.npz."""

from pathlib import Path

import numpy as np

from twostage import metrics
from twostage.files import replacing


def score_test(labels: np.ndarray, predicted: np.ndarray, label_names: list[str]) -> dict:
    """The keys of run.json about the test split: accuracy, its interval, macro-F1, each class, confusion (rows are true)."""
    counts = metrics.confusion(labels, predicted, len(label_names))
    right = int(np.diag(counts).sum())
    columns = metrics.per_class(counts)
    return {
        "test_accuracy": right / max(len(labels), 1),
        "test_accuracy_ci95": list(metrics.wilson(right, len(labels))),
        "test_macro_f1": metrics.macro_f1(counts),
        "per_class": [
            {"label": name, **{key: column[i].item() for key, column in columns.items()}} for i, name in enumerate(label_names)
        ],
        "confusion": counts.tolist(),
    }


def save_predictions(
    folder: Path, digest: np.ndarray, label: np.ndarray, probabilities: np.ndarray, sources=None, temperature: float = 1.0
) -> None:
    """predictions.npz for the M test documents: digest (M, 32), label (M,), predicted (M,), probabilities (M, C) float32,
    source (M,) UTF-8 from M strings relative to the corpus."""
    told = {} if sources is None else {"source": np.array([one.encode("utf-8", "surrogatepass") for one in sources], "S")}
    with replacing(folder / "predictions.npz") as file:
        np.savez(
            file, digest=digest, label=label.astype(np.int32), predicted=probabilities.argmax(1).astype(np.int32),
            probabilities=probabilities.astype(np.float32), temperature=np.float64(temperature), **told,
        )  # fmt: skip
