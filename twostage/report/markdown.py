"""The report's tables as Markdown, for a paper or a README."""

from twostage.progress import width
from twostage.recipes import RECIPES
from twostage.report.knowledge import knowledge_of
from twostage.report.verdict import verdict
from twostage.report.words import acc, count, interval, memory, per_minute, rates, seconds, signed
from twostage.runs.comparison import compare
from twostage.runs.groups import Group, has_published

PUBLISHED_NOTE = (
    "Published: each figure is a multiple of 1/64, read off one batch (about ±10 points at 0.8); the number of steps was not "
    "published. They belong to the unscaled rates."
)


def markdown(groups: list[Group]) -> str:
    """All tables of all groups; one test set each, never mixed."""
    return "\n\n".join(part for group in groups for part in _group(group)) + "\n"


def _group(group: Group) -> list[str]:
    record = group.best.record
    sizes = ", ".join(f"{record[k]:,} {k[2:]}" for k in ("n_train", "n_val", "n_test") if record.get(k) is not None)
    parts = [
        " ".join(verdict(group, None, knowledge_of(group, None).views)),
        f"{len(group.label_names)} classes; documents: {sizes}.",
    ]
    if group.columns:
        parts += ["Accuracy on the whole val split by epoch; in bold the epoch that was chosen.", _by_epoch(group)]
        parts += [PUBLISHED_NOTE] if has_published(group) else []
    parts.append(_results(group))
    if group.frozen and group.tuned:
        parts += [f"Against the best frozen run, {cell(group.frozen.name)}, on the same test documents:", _paired(group)]
    return [*parts, f"Each class, by {cell(group.best.name)}:", _classes(group)]


def _by_epoch(group: Group) -> str:
    published = has_published(group)
    head, columns = ["epoch"], []
    for run in group.columns:
        at, chosen = dict(run.curve), run.record["best_epoch"]
        head.append(run.name)
        columns.append({e: f"**{acc(v)}**" if e == chosen else acc(v) for e, v in at.items()})
        if published:
            head.append("published")
            columns.append({e: acc(v) for e, v in enumerate(RECIPES[run.base].published, 1)})
    last = max(max(column) for column in columns)
    return table(head, [[str(e), *(column.get(e, "") for column in columns)] for e in range(1, last + 1)])


def _results(group: Group) -> str:
    head = ["run", "learning rate", "steps", "test accuracy", "95 % interval", "macro-F1", "time", "memory, GB"]
    rows = [
        [
            r.name, rates(r), count(r.record.get("steps")), acc(r.accuracy),
            interval(r), acc(r.record["test_macro_f1"]), seconds(r.seconds), memory(r.record.get("peak_memory_bytes")),
        ]
        for r in group.ranked
    ]  # fmt: skip
    return table(head, rows, text=2)


def _paired(group: Group) -> str:
    rows = []
    for r in (r for r in group.ranked if r.finetuned):
        found = compare(group.frozen, r)
        p = "–" if found.p is None else f"{found.p:.3g}"
        rows.append([r.name, signed(found.gain), p, seconds(max(found.extra, 0)), per_minute(found.points_per_minute)])
    return table(["fine-tuned", "points", "McNemar p", "extra time", "points a minute"], rows)


def _classes(group: Group) -> str:
    rows = [
        [row["label"], f"{row['support']:,}", *(acc(row[k]) for k in ("precision", "recall", "f1"))]
        for row in group.best.record["per_class"]
    ]
    return table(["class", "documents", "precision", "recall", "F1"], rows)


def table(head: list[str], rows: list[list[str]], text: int = 1) -> str:
    """A Markdown table whose source is aligned too; the first `text` columns to the left, figures to the right."""
    cells = [[cell(value) for value in row] for row in [head, *rows]]
    widths = [max(3, *(width(row[i]) for row in cells)) for i in range(len(head))]
    rule = ["-" * w if i < text else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = [
        " | ".join(padded(value, w, i < text) for i, (value, w) in enumerate(zip(row, widths, strict=True)))
        for row in (cells[0], rule, *cells[1:])
    ]
    return "\n".join(f"| {line} |" for line in lines)


def cell(value: str) -> str:
    """Text that stays in its cell and means nothing to Markdown or HTML."""
    value = " ".join(str(value).split())
    return "".join(f"\\{c}" if c in "\\`|<>[]_#" else c for c in value)


def padded(value: str, columns: int, left: bool) -> str:
    gap = " " * (columns - width(value))
    return value + gap if left else gap + value
