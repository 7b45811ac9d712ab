"""runs/results.csv: one row a run or trial and epoch. The columns are described in docs/runs.md."""

from pathlib import Path

from twostage.files import write_csv
from twostage.runs.views import RunView

SETTINGS = (
    "recipe", "head", "encoder_lr", "head_lr", "batch_size", "weight_decay", "class_weight", "activation", "seed", "lr_scale",
)  # fmt: skip
EPOCH = ("epoch", "train_loss", "val_accuracy", "val_macro_f1", "seconds")
TEST = ("test_accuracy", "test_ci95_low", "test_ci95_high", "test_macro_f1")
SIZES = ("n_train", "n_val", "n_test", "steps", "wall_seconds", "peak_memory_bytes", "fingerprint", "created")
VIEW = ("pooling", "layer")
TRUST = ("temperature", "ece", "brier")
COLUMNS = ("run", "status", "trial", *SETTINGS, *EPOCH, "chosen", *TEST, *SIZES, *VIEW, *TRUST, "standardize")


def write_results(runs: list[RunView], path: Path) -> None:
    """Write all epochs of all runs that were read, in place of the old file."""
    write_csv(path, COLUMNS, (row for run in runs for row in rows_of(run)))


def rows_of(run: RunView) -> list[dict]:
    """A run's rows: an epoch each, for a sweep of each trial. A run that has no result yet is one row."""
    record = run.record
    if not run.complete:
        return [{"run": run.name, **_plain(record, ("status", *SETTINGS, *SIZES))}]
    tests = dict(zip(TEST, (run.accuracy, *run.interval, record["test_macro_f1"]), strict=True)) | _trust(record)
    rows = []
    for number, part in enumerate(run.trials or [record]):
        common = {"run": run.name, **_plain(record, ("status", *SETTINGS, *SIZES)), **_plain(part, SETTINGS)}
        common |= _view(record, part) | _plain(part, ("standardize",))
        if run.trials:
            common["trial"] = part.get("index", number)
        scored = not run.trials or common["trial"] == record.get("trial")
        for epoch in part["epochs"]:
            chosen = epoch["epoch"] == part["best_epoch"]
            row = {**common, **_plain(epoch, EPOCH), "chosen": int(chosen)}
            rows.append(row | tests if chosen and scored else row)
    return rows


def _view(record: dict, part: dict) -> dict:
    """Which vectors a run or trial was trained on; nothing for a run without vectors, as TF-IDF is."""
    views, number = record.get("views") or [], part.get("view")
    told = views[number] if isinstance(number, int) and 0 <= number < len(views) else record.get("encoder")
    return {"layer": -1, **_plain(told, VIEW)} if isinstance(told, dict) else {}


def _trust(record: dict) -> dict:
    """What calibration found on test, after it."""
    told = record.get("calibration") or {}
    after = {key: told[key][1] for key in ("ece", "brier") if len(told.get(key) or []) == 2}
    return _plain(told, TRUST) | after


def _plain(record: dict, names: tuple[str, ...]) -> dict:
    return {k: record[k] for k in names if isinstance(record.get(k), str | int | float)}
