"""The tables that training prints: accuracy by epoch in the layout of the published experiment, frozen against fine-tuned."""

import numpy as np

from twostage.progress import text_table
from twostage.recipes import base_of, of_thucnews
from twostage.report.words import chance, memory, seconds

CAPTION = (
    "published: every figure there is a multiple of 1/64, read off one batch (95 % interval about ±0.10 at 0.8), "
    "and the number of steps was not published"
)


def accuracy_table(records: list[dict]) -> str:
    """Val accuracy by epoch, then steps, best epoch and the test figures of that epoch, for the records of run.json.

    Published columns stand beside ours only for exactly the 14 THUCNews classes. Runs of several seeds show mean±spread.
    """
    known = [_published(record) for record in records]
    last = max([_last_epoch(record) for record in records] + [len(figures) for figures in known])
    columns = [["epoch", *map(str, range(1, last + 1)), *ROWS]]
    for record, figures in zip(records, known, strict=True):
        columns.append(_ours(record, last))
        if figures:
            columns.append(["published", *figures] + [""] * (last - len(figures) + len(ROWS)))
    head, *rows = zip(*columns, strict=True)
    lines = text_table(head, rows, most=100, right=head[1:])
    first = records[0]
    title = (
        f"accuracy on the whole val split ({first['n_val']:,} documents) after each epoch; "
        f"test ({first['n_test']:,}) scored once, at the best epoch"
    )
    scaled = any((record.get("lr_scale") or 1) != 1 for record in records)
    notes = [CAPTION + "; at the unscaled rates" * scaled] if any(known) else []
    if any(r.get("trials") for r in records):
        notes.append("mean±standard deviation over seeds; test is that of the seed best on val")
    return "\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:], *notes])


ROWS = ("optimizer steps", "best epoch", "test accuracy", "95 % interval", "test macro-F1")


def _published(record: dict) -> list[str]:
    """The published accuracies of the run's recipe, where they belong beside it."""
    recipe = base_of(record.get("recipe"))
    return [f"{figure:.3f}" for figure in recipe.published] if recipe and of_thucnews(record["label_names"]) else []


def _last_epoch(record: dict) -> int:
    return max(trial["epochs"][-1]["epoch"] for trial in record.get("trials") or [record])


def _ours(record: dict, epochs: int) -> list[str]:
    cells = []
    for epoch in range(1, epochs + 1):
        values = [
            e["val_accuracy"] for trial in record.get("trials") or [record] for e in trial["epochs"] if e["epoch"] == epoch
        ]
        text = f"{np.mean(values):.3f}" if values else ""
        cells.append(text + (f"±{np.std(values, ddof=1):.3f}" if len(values) > 1 else ""))
    low, high = record["test_accuracy_ci95"]
    return [
        record["name"], *cells, f"{record['steps']:,}", str(record["best_epoch"]), f"{record['test_accuracy']:.3f}",
        f"{low:.3f}-{high:.3f}", f"{record['test_macro_f1']:.3f}",
    ]  # fmt: skip


def comparison_lines(found: dict) -> list[str]:
    """What runs.comparison.against_frozen found, as a small table and a sentence."""
    rows = [("", "test accuracy", "95 % interval", "macro-F1", "time", "peak GB")]
    for which, kind in (("frozen", "frozen"), ("tuned", "fine-tuned")):
        one = found[which]
        low, high = one["ci95"]
        figures = (f"{one['accuracy']:.3f}", f"{low:.3f}-{high:.3f}", f"{one['macro_f1']:.3f}", seconds(one["seconds"]))
        rows.append((f"{kind} {one['run']}", *figures, memory(one["peak_memory_bytes"])))
    rate = found["points_per_minute"]
    bought = "" if rate is None else f", {rate:+.2f} points a minute of extra training"
    return [
        *text_table(rows[0], rows[1:], most=100),
        f"fine-tuning: {found['points_gained']:+.1f} points{chance(found['mcnemar_p'])}{bought}",
    ]
