"""Whether a run.json holds what the report reads: a run folder may come from anywhere, and may be damaged."""

import math

import numpy as np


def check(record: dict) -> None:
    """Raise KeyError, TypeError or ValueError unless each key that the report reads has its type."""
    if record["status"] not in ("running", "complete", "failed", "interrupted"):
        raise ValueError(f"status: {record['status']!r}")
    if record["status"] != "complete":
        return
    names = record["label_names"]
    _need(isinstance(names, list) and names and all(isinstance(n, str) for n in names), "label_names")
    _check_epochs(record)
    for key in ("test_accuracy", "test_macro_f1", "wall_seconds"):
        _need(_number(record[key]) and record[key] >= 0, key)
    _need(record["test_accuracy"] <= 1, "test_accuracy")
    for key in ("head", "recipe"):
        _need(record.get(key) is None or isinstance(record[key], str), key)
    low, high = record["test_accuracy_ci95"]
    _need(_number(low) and _number(high) and 0 <= low <= high <= 1, "test_accuracy_ci95")
    counts = np.array(record["confusion"])
    _need(counts.shape == (len(names),) * 2 and counts.dtype.kind == "i" and (counts >= 0).all(), "confusion")
    for row in record["per_class"]:
        _need(isinstance(row["label"], str) and all(_number(row[k]) for k in ("precision", "recall", "f1")), "per_class")
        _need(isinstance(row["support"], int), "per_class")
    _need(len(record["per_class"]) == len(names), "per_class")
    for key in ("encoder_lr", "head_lr", "lr_scale", "peak_memory_bytes", "steps", "n_train", "n_val", "n_test"):
        _need(record.get(key) is None or _number(record[key]), key)
    if record.get("learning_curve") is not None:
        _check_curve(record["learning_curve"])
    for trial in record.get("trials") or []:
        _need(_number(trial["head_lr"]) and trial["head_lr"] > 0 and isinstance(trial["head"], str), "trials")
        _check_epochs(trial)


def _check_curve(curve) -> None:
    _need(isinstance(curve, list) and len(curve) > 1, "learning_curve")
    for part in curve:
        every = [part["mean"], *part["val_accuracy"]]
        _need(all(_number(v) and 0 <= v <= 1 for v in every) and len(every) > 1, "learning_curve")
        _need(isinstance(part["n_train"], int) and part["n_train"] > 0, "learning_curve")


def _check_epochs(record: dict) -> None:
    epochs = record["epochs"]
    _need(isinstance(epochs, list) and epochs, "epochs")
    for epoch in epochs:
        _need(isinstance(epoch["epoch"], int) and _number(epoch["val_accuracy"]) and 0 <= epoch["val_accuracy"] <= 1, "epochs")
    _need(any(e["epoch"] == record["best_epoch"] for e in epochs), "best_epoch")


def _number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _need(fine, key: str) -> None:
    if not fine:
        raise ValueError(key)
