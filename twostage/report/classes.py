"""The report's sections about classes, and the list of all runs."""

import numpy as np

from twostage.report.page import section, table, td, text, th
from twostage.report.words import acc, rates, when
from twostage.runs.views import Group, RunView

MOST_CLASSES = 40  # a confusion matrix of more is no picture any more


def class_section(group: Group) -> str:
    run = group.best
    other = group.frozen if run.finetuned else group.tuned
    head = [th("class"), th("test documents", "n"), th("precision", "n"), th("recall", "n"), th("F1", "n"), th("")]
    head += [th(f"F1 of {other.name}", "n soft")] if other else []
    rows = []
    for i, row in enumerate(run.record["per_class"]):
        bar = f'<td><span class="bar"><i style="width:{min(max(row["f1"], 0), 1) * 100:.1f}%"></i></span></td>'
        cells = [
            th(row["label"]),
            td(f"{row['support']:,}", "n"),
            *(td(acc(row[k]), "n") for k in ("precision", "recall", "f1")),
            bar,
        ]
        rows.append((row["f1"], cells + ([td(acc(other.record["per_class"][i]["f1"]), "n soft")] if other else [])))
    rows = [cells for _, cells in sorted(rows, key=lambda pair: pair[0])]
    about = [f"The run that did best on val, {run.name}; the hardest classes first."]
    return section("Each class", about, table(["".join(head)], rows))


def confusion_section(group: Group) -> str:
    run, names = group.best, group.label_names
    about = [f"{run.name}: a row is what a document is, a column what it was taken for. Shade: share of the row."]
    if len(names) > MOST_CLASSES:
        about = [f"{len(names)} classes are too many for a picture; the pairs most often confused stand below."]
        return section("Confusion matrix", about, "")
    counts = np.array(run.record["confusion"])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    head = ['<th class="first"></th>', *(f'<th><span title="{text(n)}">{text(n)}</span></th>' for n in names)]
    rows = []
    for i, name in enumerate(names):
        cells = [th(name, "first")]
        for j in range(len(names)):
            share = shares[i, j] if i == j else min(1.0, shares[i, j] * 2.5)
            shade = 0 if counts[i, j] == 0 else 6 + 84 * share
            kind = " ".join(filter(None, ("hit" * (i == j), "deep" * bool(shade > 55), "zero" * (not counts[i, j]))))
            cells.append(td(f"{counts[i, j]:,}" if counts[i, j] else "·", kind, f' style="--a:{shade:.0f}"'))
        rows.append(cells)
    return section("Confusion matrix", about, table(["".join(head)], rows, kind="confusion"), wide=len(names) > 16)


def runs_section(runs: list[RunView], damaged: list[tuple[str, str]]) -> str:
    """Every folder, also those that hold no result."""
    rows = []
    for r in sorted(runs, key=lambda r: r.order, reverse=True):
        error = r.record.get("error") or ""
        why = f"{r.record['status']}{': ' + str(error)[:300] if error else ''}"
        result = acc(r.accuracy) if r.complete else ""
        rows.append(
            [
                th(r.name),
                td(when(r)),
                td(why, "text" if error else ""),
                td(result, "n"),
                td(r.record.get("seed", "–"), "n"),
                td(rates(r) if r.complete else ""),
            ]
        )
    rows += [[th(name), td(""), td(f"damaged, skipped: {why}", "text"), td(""), td(""), td("")] for name, why in damaged]
    head = [th("run"), th("started"), th("state"), th("test accuracy", "n"), th("seed", "n"), th("learning rate")]
    return section(
        "All runs", ["Every run folder, the newest first, also those that are not shown above."], table(["".join(head)], rows)
    )
